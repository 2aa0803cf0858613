"""Stable Diffusion's VAE decoding one 256x256 image, against diffusers in channels_last."""

import jax
import torch
from diffusers import AutoencoderKL

from benchmarks.timing import Comparison, count_parameters
from benchmarks.unets import random_params
from dalle3_jax.models.vae import VAE


def comparison(quick: bool) -> Comparison:
    """Both decoders with random weights on latents of 32x32."""
    channels, side = ((32, 64, 64, 64), 8) if quick else ((128, 256, 512, 512), 32)
    module = VAE(channels=channels)
    weights = random_params(module, jax.numpy.zeros((1, 64, 64, 3)))
    latents = jax.random.normal(jax.random.key(1), (1, side, side, 4))
    decode = jax.jit(lambda weights, z: module.apply({"params": weights}, z, method="decode"))

    blocks = len(channels)
    reference = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=channels,
        layers_per_block=2,
    )
    reference = reference.eval().to(memory_format=torch.channels_last)
    torch_latents = torch.randn(1, 4, side, side).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def theirs() -> torch.Tensor:
        return reference.decode(torch_latents, return_dict=False)[0]

    return Comparison(
        title="VAE decode",
        line=f"to {8 * side}x{8 * side}, batch 1; diffusers, channels_last",
        ours=lambda: decode(weights, latents).block_until_ready(),
        theirs=theirs,
        parameters=(count_parameters(weights), count_parameters(reference)),
        floor=1.25,
        goal=1.05,
    )
