"""A head that reads from xfnet's output what stands where, by which a text side from nothing is trained first."""

import math
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.examples import floats, require_component
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["HALVES", "LETTERS", "PATCHES", "LayoutHead", "LayoutLogits"]

PATCHES = (4, 4)
"""Rows and columns into which an object's box is divided, to say which part of it a cell shows."""
LETTERS = string.ascii_letters
"""Letters of words by their classes, from the second on: the first is of none."""
HALVES = 2
"""Places in a cell, side by side, of which each shows one letter at most."""


class LayoutLogits(NamedTuple):
    """Logits of the m cells of a picture: class, tint, patch and letters of each; and the background of the whole.

    The first class is of a cell that shows the background, the last one of a word, those between are the concepts. A
    patch is a part of the object that the cell shows, row by row over `PATCHES`; letters are those of the cell's
    halves, none first and then `LETTERS`.
    """

    classes: Float[Array, "b m k"]
    tints: Float[Array, "b m t"]
    patches: Float[Array, "b m p"]
    letters: Float[Array, "b m 2 l"]
    backgrounds: Float[Array, "b g"]


@accept_explicit_axes
class LayoutHead(nn.Module):
    """Token i -> what the i-th cell shows, row by row over a grid of (rows, columns) cells; the vector -> background.

    Linear maps that all cells share: all that they say must stand in the text's features. Our choice; nothing like it
    is published of DALL-E 3, whose text encoder came pretrained. The names say what the outputs mean.
    """

    grid: tuple[int, int]
    concepts: tuple[str, ...] = ()
    tints: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "b m d"], vector: Float[Array, "b v"]) -> LayoutLogits:
        """Read the layout; raises ValueError unless there is a token for every cell."""
        rows, columns = self.grid
        if tokens.shape[1] != rows * columns:
            raise ValueError(
                f"{tokens.shape[1]} tokens do not fill a grid of {rows} x {columns}: let xfnet have that many queries"
            )
        logits = (
            dense(len(self.concepts) + 2, dtype=self.dtype, name="classes")(tokens),
            dense(len(self.tints), dtype=self.dtype, name="tints")(tokens),
            dense(math.prod(PATCHES), dtype=self.dtype, name="patches")(tokens),
            dense(HALVES * (len(LETTERS) + 1), dtype=self.dtype, name="letters")(tokens).reshape(
                *tokens.shape[:2], HALVES, -1
            ),
            dense(len(self.backgrounds), dtype=self.dtype, name="backgrounds")(vector),
        )
        return LayoutLogits(*(part.astype(jnp.float32) for part in logits))

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        xfnet = require_component("xfnet", modules, self)
        return floats(1, self.grid[0] * self.grid[1], xfnet.width), floats(1, xfnet.vector_width)
