"""The same UNet on both sides: 117 M parameters, 32x32 latents of 4 channels, 64 text tokens of width 768."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import UNet2DConditionModel
from flax import linen as nn

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.unet import Level, UNet

HEAD_SIZE = 64
SPREAD = 0.02
LATENT = 32
TOKENS = 64


@dataclass(frozen=True)
class UNetSize:
    """Channels of the levels, blocks in each and the width of the text."""

    channels: tuple[int, ...]
    blocks: int
    context: int


FULL = UNetSize(channels=(128, 320, 512), blocks=2, context=768)
QUICK = UNetSize(channels=(64, 128), blocks=1, context=64)


def our_unet(size: UNetSize) -> UNet:
    """Our UNet with diffusers' variant of scale-shift conditioning: the second norm, with weights of its own."""
    levels = tuple(Level(c, size.blocks, depth=1, heads=c // HEAD_SIZE) for c in size.channels)
    return UNet(levels=levels, affine=True, modulate_first=False, pooled=False)


def their_unet(size: UNetSize) -> UNet2DConditionModel:
    """The same network from diffusers, random weights."""
    levels = len(size.channels)
    return UNet2DConditionModel(
        sample_size=LATENT,
        in_channels=4,
        out_channels=4,
        block_out_channels=size.channels,
        layers_per_block=size.blocks,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=size.context,
        attention_head_dim=tuple(c // HEAD_SIZE for c in size.channels),
        resnet_time_scale_shift="scale_shift",
        use_linear_projection=True,
    ).eval()


def our_inputs(size: UNetSize, batch: int) -> tuple[jax.Array, jax.Array, Condition]:
    """Latents, network times and text for our side."""
    keys = jax.random.split(jax.random.key(0), 2)
    x = jax.random.normal(keys[0], (batch, LATENT, LATENT, 4))
    tokens = jax.random.normal(keys[1], (batch, TOKENS, size.context))
    mask, vector = jnp.ones((batch, TOKENS), bool), jnp.zeros((batch, size.context))
    return x, jnp.full((batch,), 500.0), Condition(tokens, mask, vector)


def torch_inputs(size: UNetSize, batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, network times and text for theirs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 4, LATENT, LATENT, generator=generator)
    tokens = torch.randn(batch, TOKENS, size.context, generator=generator)
    return x, torch.full((batch,), 500.0), tokens


def random_params(module: nn.Module, *arguments: Any) -> Any:
    """Random parameters of one of our modules, made without compiling its initialisers."""
    shapes = nn.unbox(jax.eval_shape(lambda key: module.init(key, *arguments), jax.random.key(0)))
    draw = np.random.default_rng(0).standard_normal
    return jax.tree.map(lambda leaf: jnp.asarray(SPREAD * draw(leaf.shape, dtype=np.float32)), shapes["params"])
