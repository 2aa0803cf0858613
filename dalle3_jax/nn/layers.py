"""Dense, convolution, embedding, time embedding and the scale-shift GroupNorm; logical axis names are given here."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.linen.dtypes import promote_dtype
from jax import lax

from dalle3_jax.nn.backend import dense_product
from dalle3_jax.nn.fsdp import Axes, compute_axes, gather_kernel, with_gathered_kernel
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = [
    "CONV_KERNEL_AXES",
    "EmbeddingMLP",
    "ScaleShiftGroupNorm",
    "ScaleShiftRMSNorm",
    "conv",
    "dense",
    "embedding",
    "grid_sinusoids",
    "guidance_sinusoids",
    "kernel_init",
    "layer_norm",
    "sinusoids",
    "with_logical_axes",
]

CONV_KERNEL_AXES = (None, None, "embed", "out")
"""The logical axes of a convolution's kernel."""
with_logical_axes = nn.with_logical_partitioning


def kernel_init(axes: Axes, *, zero: bool = False, std: float | None = None) -> Callable:
    """LeCun normal, or normal with a given deviation, or zeros, carrying logical axes."""
    if zero:
        return with_logical_axes(nn.initializers.zeros, axes)
    return with_logical_axes(nn.initializers.lecun_normal() if std is None else nn.initializers.normal(std), axes)


def dense(
    features: int,
    *,
    name: str,
    dtype: DTypeLike,
    axes: Axes = ("embed", "out"),
    use_bias: bool = True,
    zero: bool = False,
    std: float | None = None,
) -> nn.Dense:
    """A linear layer over the last axis."""
    return nn.Dense(
        features,
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init(axes, zero=zero, std=std),
        bias_init=with_logical_axes(nn.initializers.zeros, compute_axes(axes[-1:])),
        dot_general=with_gathered_kernel(dense_product, axes),
        name=name,
    )


def conv(
    features: int,
    kernel: int = 3,
    *,
    name: str,
    dtype: DTypeLike,
    stride: int = 1,
    padding: tuple[tuple[int, int], tuple[int, int]] | None = None,
    use_bias: bool = True,
    zero: bool = False,
) -> nn.Conv:
    """A square NHWC convolution; padded by kernel // 2 on every side unless told otherwise (torch's alignment)."""
    half = kernel // 2
    return nn.Conv(
        features,
        (kernel, kernel),
        strides=stride,
        padding=padding or ((half, half), (half, half)),
        use_bias=use_bias,
        dtype=dtype,
        kernel_init=kernel_init(CONV_KERNEL_AXES, zero=zero),
        bias_init=with_logical_axes(nn.initializers.zeros, ("out",)),
        conv_general_dilated=with_gathered_kernel(lax.conv_general_dilated, CONV_KERNEL_AXES),
        name=name,
    )


def embedding(entries: int, features: int, *, name: str, dtype: DTypeLike, std: float = 1.0) -> nn.Embed:
    """A table of `entries` learned vectors."""
    axes: Axes = ("from_vocab", "whole")

    def promoted(*tables: Any, dtype: Any = None, inexact: bool = True) -> list[Any]:
        return [gather_kernel(table, axes) for table in promote_dtype(*tables, dtype=dtype, inexact=inexact)]

    init = kernel_init(axes, std=std)
    return nn.Embed(entries, features, dtype=dtype, embedding_init=init, promote_dtype=promoted, name=name)


def layer_norm(*, name: str, dtype: DTypeLike, eps: float = 1e-5) -> nn.LayerNorm:
    """Layer normalisation over the last axis with float32 statistics."""
    return nn.LayerNorm(
        epsilon=eps,
        dtype=dtype,
        scale_init=with_logical_axes(nn.initializers.ones, ("out",)),
        bias_init=with_logical_axes(nn.initializers.zeros, ("out",)),
        name=name,
    )


def sinusoids(t: Float[Array, " b"], width: int, max_period: float = 10_000.0) -> Float[Array, "b d"]:
    """[cos, sin] of t at `width / 2` frequencies from 1 down to 1 / max_period, in float32 (SD's and SDXL's order)."""
    half = width // 2
    frequencies = jnp.exp(-math.log(max_period) * jnp.arange(half, dtype=jnp.float32) / half)
    angles = t.astype(jnp.float32)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def guidance_sinusoids(scale: Float[Array, " b"], width: int) -> Float[Array, "b d"]:
    """[sin, cos] of 1000 (scale - 1) at `width / 2` frequencies from 1 down to 1e-4, both included, in float32.

    The embedding of a guidance scale in latent consistency models (arXiv 2310.04378, diffusers' `timestep_cond`).
    """
    frequencies = jnp.exp(-math.log(10_000.0) * jnp.linspace(0, 1, width // 2, dtype=jnp.float32))
    angles = 1000 * (scale.astype(jnp.float32) - 1)[:, None] * frequencies[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def grid_sinusoids(rows: int, columns: int, width: int) -> Float[Array, "m d"]:
    """Sinusoids of the row (the first half of `width`) and of the column of every cell of a grid, row by row.

    Cells are counted from the middle, and the slowest wave is twice 2 pi times as long as the longer side, so that no
    channel is nearly constant over the grid. The mean square of a row is 1/2. ValueError unless 4 divides `width`.
    """
    if width % 4:
        raise ValueError(f"a width of {width} has no room for sinusoids of rows and columns: give a multiple of 4")
    down, across = (
        sinusoids(jnp.arange(count) - (count - 1) / 2, width // 2, max_period=2.0 * max(rows, columns))
        for count in (rows, columns)
    )
    return jnp.concatenate([jnp.repeat(down, columns, axis=0), jnp.tile(across, (rows, 1))], axis=-1)


class EmbeddingMLP(nn.Module):
    """Linear, SiLU, linear: lifts sinusoids or a condition vector to the width of the time embedding."""

    width: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b d_in"]) -> Float[Array, "b d"]:
        """Embed each row."""
        x = nn.silu(dense(self.width, dtype=self.dtype, name="linear_1", axes=("embed", "mlp"))(x))
        return dense(self.width, dtype=self.dtype, name="linear_2", axes=("from_mlp", "whole"))(x)


class ScaleShiftGroupNorm(nn.Module):
    """norm(x) * (1 + scale(e)) + shift(e), with scale and shift a zero-initialised linear map of SiLU(e).

    The DALL-E 3 paper's "modulated GroupNorm: a learned scale and bias dependent on the timestep signal"; `affine`
    keeps the norm's own weights too (diffusers' `scale_shift`, OpenAI's consistency decoder).
    """

    groups: int = 32
    eps: float = 1e-5
    affine: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], e: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        """Normalise x and modulate it by the embedding e."""
        scale, shift = _modulation(x.shape[-1], e, self.dtype)
        return GroupNorm(self.groups, self.eps, self.affine, name="norm")(x, scale, shift)


class ScaleShiftRMSNorm(nn.Module):
    """The same of each pixel's RMS norm: with no statistics over space, crops and tiles are normed like the whole."""

    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"], e: Float[Array, "b d"]) -> Float[Array, "b h w c"]:
        """Normalise every pixel of x and modulate it by the embedding e."""
        scale, shift = (rows[:, None, None, :] for rows in _modulation(x.shape[-1], e, self.dtype))
        return (RMSNorm(self.eps, name="norm")(x) * (1 + scale) + shift).astype(x.dtype)


def _modulation(
    features: int, e: Float[Array, "b d"], dtype: DTypeLike
) -> tuple[Float[Array, "b c"], Float[Array, "b c"]]:
    """Scale and shift of each channel, both zero in a new network."""
    modulation = dense(2 * features, dtype=dtype, zero=True, name="modulation")(nn.silu(e))
    scale, shift = jnp.split(modulation.astype(jnp.float32), 2, axis=-1)
    return scale, shift
