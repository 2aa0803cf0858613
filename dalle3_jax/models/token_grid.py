"""Tokens that lie on a grid over the picture, and are added to a UNet's features at their places."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.nn.layers import dense
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["TokenGrid", "add_at_places", "grid_errors"]


class TokenGrid(nn.Module):
    """Token i -> features of the i-th cell, row by row over a grid of (rows, columns): a linear map that all share."""

    grid: tuple[int, int]
    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "b m d"]) -> Float[Array, "b rows columns f"]:
        """The features at their places; raises ValueError unless there is a token for every cell."""
        (b, m, _), (rows, columns) = tokens.shape, self.grid
        if m != rows * columns:
            raise ValueError(f"{m} tokens do not fill a grid of {rows} x {columns}: let xfnet have that many queries")
        return dense(self.features, dtype=self.dtype, name="project")(tokens).reshape(b, rows, columns, -1)


def add_at_places(x: Float[Array, "b h w f"], placed: Float[Array, "b rows columns f"]) -> Float[Array, "b h w f"]:
    """The features x with those of a grid, which is stretched over all of them, linearly between its cells' centres."""
    return x + jax.image.resize(placed, x.shape, "linear").astype(x.dtype)


def grid_errors(grid: tuple[int, int], xfnet: Any) -> list[str]:
    """The error of an xfnet that has not one token for every cell of a network's grid."""
    cells = math.prod(grid)
    if xfnet.kind == "resampler" and xfnet.queries == cells:
        return []
    return [f"grid {tuple(grid)} wants an xfnet of kind resampler with {cells} queries"]
