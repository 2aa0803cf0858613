"""Residual blocks, sampling and conditional norms against diffusers."""

import jax.numpy as jnp
import pytest
import torch
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_kandinsky3 import Kandinsky3ConditionalGroupNorm
from diffusers.models.upsampling import Upsample2D

from dalle3_jax.nn.layers import ScaleShiftGroupNorm
from dalle3_jax.nn.resnet import Downsample, ResBlock, Upsample
from tests.parity import weights

pytestmark = pytest.mark.network("residual blocks", "diffusers ResnetBlock2D")

CONDITIONING = {"none": "default", "add": "default", "scale_shift": "scale_shift"}


def channels_last(x: torch.Tensor) -> torch.Tensor:
    return x.permute(0, 2, 3, 1)


def to_jax(x: torch.Tensor):
    return jnp.asarray(channels_last(x).numpy() if x.ndim == 4 else x.numpy())


@pytest.mark.parametrize("conditioning", CONDITIONING)
@pytest.mark.parametrize(
    ("width_in", "width", "groups", "eps"), [(16, 16, 4, 1e-5), (12, 30, 6, 1e-6), (21, 7, 7, 1e-5), (5, 5, 1, 1e-3)]
)
def test_res_block(conditioning, width_in, width, groups, eps, agree, run):
    torch.manual_seed(0)
    theirs = ResnetBlock2D(
        in_channels=width_in,
        out_channels=width,
        temb_channels=None if conditioning == "none" else 10,
        groups=groups,
        eps=eps,
        time_embedding_norm=CONDITIONING[conditioning],
    )
    weights.perturb(theirs)
    with weights.read_once(theirs) as w:
        params = weights.res_block(w, scale_shift=conditioning == "scale_shift")

    generator = torch.Generator().manual_seed(1)
    x = 3 + 2 * torch.randn(2, width_in, 5, 6, generator=generator)
    e = None if conditioning == "none" else torch.randn(2, 10, generator=generator)
    module = ResBlock(width, conditioning, groups=groups, eps=eps)
    agree(run(module, params, *(to_jax(value) for value in (x, e) if value is not None)), channels_last(theirs(x, e)))


@pytest.mark.parametrize(("channels", "groups", "width"), [(16, 4, 10), (9, 3, 5), (6, 6, 3), (7, 1, 4)])
def test_scale_shift_group_norm_is_kandinsky_3s(channels, groups, width, agree, run):
    torch.manual_seed(0)
    theirs = weights.perturb(Kandinsky3ConditionalGroupNorm(groups, channels, width))
    with weights.read_once(theirs) as w:
        params = {"modulation": weights.dense(w / "context_mlp.1")}
    generator = torch.Generator().manual_seed(1)
    x, e = 1 + torch.randn(3, channels, 4, 5, generator=generator), torch.randn(3, width, generator=generator)
    agree(run(ScaleShiftGroupNorm(groups), params, to_jax(x), to_jax(e)), channels_last(theirs(x, e)))


@pytest.mark.parametrize("size", [(6, 8), (5, 9)])
def test_downsample(size, agree, run):
    torch.manual_seed(0)
    theirs = Downsample2D(6, use_conv=True, out_channels=8)
    params = {"conv": weights.conv(weights.Weights(theirs.state_dict()) / "conv")}
    x = torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(1))
    agree(run(Downsample(8), params, to_jax(x)), channels_last(theirs(x)))


@pytest.mark.parametrize("size", [(6, 8), (5, 9)])
def test_asymmetric_downsample(size, agree, run):
    torch.manual_seed(0)
    theirs = Downsample2D(6, use_conv=True, out_channels=6, padding=0)
    params = {"conv": weights.conv(weights.Weights(theirs.state_dict()) / "conv")}
    x = torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(1))
    agree(run(Downsample(6, asymmetric=True), params, to_jax(x)), channels_last(theirs(x)))


@pytest.mark.parametrize("size", [None, (5, 8), (6, 7), (5, 7)])
def test_upsample(size, agree, run):
    torch.manual_seed(0)
    theirs = Upsample2D(6, use_conv=True, out_channels=4)
    params = {"conv": weights.conv(weights.Weights(theirs.state_dict()) / "conv")}
    x = torch.randn(2, 6, 3, 4, generator=torch.Generator().manual_seed(1))
    agree(run(Upsample(4), params, to_jax(x), size), channels_last(theirs(x, size)))
