"""A head that predicts the mean latents from xfnet's tokens alone, by which the text side is trained first."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.examples import floats, require_component
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense, kernel_init
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["LatentHead"]


@accept_explicit_axes
class LatentHead(nn.Module):
    """Token i -> the i-th square of `patch` x `patch` latents, row by row over a grid of (rows, columns) squares.

    A linear map that all squares share, plus each square's own mean. Trained by squared error it gives E[x0 | text],
    the answer that the denoiser owes at t = 1, for a fraction of the denoiser's cost. Our choice; nothing like it is
    published of DALL-E 3, whose text encoder came pretrained.
    """

    grid: tuple[int, int]
    patch: int
    channels: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "b m d"]) -> Float[Array, "b h w c"]:
        """The expected latents; raises ValueError unless there is a token for every square."""
        b, m, _ = tokens.shape
        rows, columns = self.grid
        if m != rows * columns:
            raise ValueError(f"{m} tokens do not fill a grid of {rows} x {columns}: let xfnet have that many queries")
        size = self.patch**2 * self.channels
        means = self.param("means", kernel_init((None, "out"), zero=True), (m, size))
        x = dense(size, use_bias=False, zero=True, dtype=self.dtype, name="project")(tokens)
        x = x.astype(jnp.float32) + means[None]
        x = x.reshape(b, rows, columns, self.patch, self.patch, self.channels).swapaxes(2, 3)
        return x.reshape(b, rows * self.patch, columns * self.patch, self.channels)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return (floats(1, self.grid[0] * self.grid[1], require_component("xfnet", modules, self).width),)
