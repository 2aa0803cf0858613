"""Diffusion super-resolution: a UNet whose noisy input stands beside the low-resolution image, itself a little noisy.

The network is a `UNet` with `level_entries`: of Stable Diffusion x4 (latents of 4 pixels a cell, beside them the image
at that grid), of ours in latents, or in pixels that `patch` folds. The image is noised to a level that the network is
told, so that it trusts a picture as far as it should (cascaded diffusion, arXiv 2106.15282 section 4.2).
"""

from typing import Any

import jax.numpy as jnp

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import space_to_depth
from dalle3_jax.typing import Array, Float, Params

__all__ = ["apply_upscaler", "join_low_resolution", "low_resolution_channels"]


def apply_upscaler(
    module: UNet,
    params: Params,
    x: Float[Array, "b h w c"],
    t: Float[Array, " b"],
    low: Float[Array, "b h_low w_low 3"],
    noise_level: Float[Array, " b"],
    condition: Condition,
    sizes: Float[Array, "b s"] | None = None,
) -> Float[Array, "b h w c_out"]:
    """The network's output for noisy images or latents x beside the noised low-resolution images.

    t and noise_level are network times, of x's schedule and of that by which `low` was noised; sizes, in pixels, are
    passed on where the network takes any.
    """
    inputs = join_low_resolution(x, low), t, condition, sizes if module.size_ids else None, noise_level
    out: Any = module.apply({"params": params}, *inputs)
    return out


def join_low_resolution(x: Float[Array, "b h w c"], low: Float[Array, "b h_low w_low 3"]) -> Float[Array, "b h w c2"]:
    """An upscaler's input: x, then the low-resolution image brought to x's grid.

    Each of its pixels is repeated where x is finer, as pixels are; they are folded into channels where x is coarser, as
    latents of 8 pixels a cell are of a picture to be enlarged 4 times. ValueError where neither fits.
    """
    (height, width), (low_height, low_width) = x.shape[1:3], low.shape[1:3]
    times, fold = max(height // low_height, 1), max(low_height // height, 1)
    if (low_height * times, low_width * times) != (height * fold, width * fold):
        raise ValueError(
            f"x of {height} x {width} beside a low-resolution image of {low_height} x {low_width}: both sides must be "
            "larger, or smaller, by the same whole number"
        )
    low = jnp.repeat(jnp.repeat(space_to_depth(low, fold), times, axis=1), times, axis=2)
    return jnp.concatenate([x, low.astype(x.dtype)], axis=-1)


def low_resolution_channels(factor: int, pixels_per_cell: int) -> int:
    """The channels that a picture to be enlarged `factor` times adds to latents of so many pixels a cell (1: pixels).

    ValueError where it cannot be brought to their grid.
    """
    if factor % pixels_per_cell and pixels_per_cell % factor:
        raise ValueError(f"a factor of {factor} and {pixels_per_cell} pixels a cell: one must divide the other")
    return 3 * max(pixels_per_cell // factor, 1) ** 2
