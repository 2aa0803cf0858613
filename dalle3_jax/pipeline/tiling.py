"""Functions of whole images computed in overlapping windows, so that a decoder's memory does not grow with its images.

Only what a function does within a window is split: a sampler that evaluates a tiled network at each of its steps draws
noise for the whole image, and neighbouring windows agree where they overlap.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from dalle3_jax.typing import Array, Float, Int

__all__ = ["apply_in_tiles"]


class _TileWindows(NamedTuple):
    """Starts of the windows along one side, in cells, and the share that each has in every pixel that it covers."""

    starts: Int[Array, " n"]
    shares: Float[Array, "n pixels"]


def apply_in_tiles(function: Callable[..., Array], *, tile: int, halo: int) -> Callable[..., Array]:
    """The same function of whole images, computed in windows of tile x tile cells by one loop over one compiled body.

    Arrays with four axes (b h w c) show the same field of view, each at a whole multiple of the coarsest one's
    resolution, whose pixels are the cells; the output does too. Others, such as times, are passed whole.

    What a window computes within `halo` cells of its inner edges is dropped; further in, neighbours fade into each
    other linearly, over `halo` cells or more (fewer in a tile of less than four halos). So a function that looks no
    further than `halo` cells gives what it gives of the whole image, up to rounding, if it commutes with shifts by
    whole cells. (One that shrinks its arrays m times below the cells does where tile, halo and the image's sides are
    multiples of m and the tile has four halos.) An image that fits into one tile is computed whole.

    Raises ValueError for a tile without room between its halos, and the function that is returned for arrays that
    do not fit each other.
    """
    if halo < 1 or tile < 2 * halo + 2:
        wanted = max(halo, 1)
        raise ValueError(
            f"a tile of {tile} cells with a halo of {halo}: give a halo of at least 1 and a tile of more than both of "
            f"its halos, such as {8 * wanted} (at least {2 * wanted + 2}) for a halo of {wanted}"
        )

    def whole(*arrays: Array) -> Array:
        height, width, multiples = _resolutions(arrays)
        if max(height, width) <= tile:
            return function(*arrays)
        size = min(tile, height), min(tile, width)

        def window(row: int | Array, column: int | Array) -> Array:
            views = (_window_view(a, m, row, column, size) if m else a for a, m in zip(arrays, multiples, strict=True))
            return function(*views)

        part = jax.eval_shape(lambda: window(0, 0))
        multiple = _pixels_per_cell(part.shape, size)
        rows, columns = (_windows(side, tile, halo, multiple) for side in (height, width))

        def add(index: Array, total: Array) -> Array:
            i, j = jnp.divmod(index, len(columns.starts))
            row, column = rows.starts[i], columns.starts[j]
            share = rows.shares[i][:, None, None] * columns.shares[j][None, :, None]
            seen = _window_view(total, multiple, row, column, size) + share * window(row, column)
            return lax.dynamic_update_slice(total, seen, (0, row * multiple, column * multiple, 0))

        shape = (part.shape[0], height * multiple, width * multiple, part.shape[3])
        # Shares of a low precision would not sum to one.
        total = jnp.zeros(shape, jnp.promote_types(part.dtype, jnp.float32))
        return lax.fori_loop(0, len(rows.starts) * len(columns.starts), add, total).astype(part.dtype)

    return whole


def _resolutions(arrays: tuple[Array, ...]) -> tuple[int, int, list[int]]:
    """Height and width in cells, and the pixels of each array along a cell; 0 for arrays that are no images."""
    images = [array.shape for array in arrays if array.ndim == 4]
    if not images:
        raise ValueError("there is nothing to tile: give at least one array (b h w c)")
    _, height, width, _ = min(images, key=lambda shape: shape[1])
    return height, width, [_pixels_per_cell(a.shape, (height, width)) if a.ndim == 4 else 0 for a in arrays]


def _pixels_per_cell(shape: tuple[int, ...], cells: tuple[int, int]) -> int:
    """The pixels of an image along one of its cells."""
    multiple = shape[1] // cells[0]
    if shape[1:3] != (multiple * cells[0], multiple * cells[1]):
        raise ValueError(
            f"an array of {shape[1]} x {shape[2]} beside one of {cells[0]} x {cells[1]} cells: what is tiled, and what "
            "comes out, must show the same field of view at whole multiples of the coarsest array"
        )
    return multiple


def _windows(side: int, tile: int, halo: int, multiple: int) -> _TileWindows:
    """Windows of a tile each, equally far apart but for the last, which ends with the image."""
    length = min(tile, side)
    ramp = min(halo, tile // 2 - halo)
    starts = jnp.asarray([*range(0, side - length, tile - 2 * halo - ramp), side - length])
    # Each window takes over from the one before between these two, where both are good.
    begins, ends = starts[1:, None] + halo, starts[:-1, None] + length - halo
    middles = (jnp.arange(side * multiple) + 0.5) / multiple
    taken = jnp.clip((middles - begins) / (ends - begins), 0.0, 1.0)
    shares = jnp.pad(taken, ((1, 0), (0, 0)), constant_values=1.0) - jnp.pad(taken, ((0, 1), (0, 0)))
    places = starts[:, None] * multiple + jnp.arange(length * multiple)
    return _TileWindows(starts, jnp.take_along_axis(shares, places, axis=1))


def _window_view(array: Array, multiple: int, row: int | Array, column: int | Array, size: tuple[int, int]) -> Array:
    """The window of an image that begins at a cell."""
    sizes = array.shape[0], size[0] * multiple, size[1] * multiple, array.shape[3]
    return lax.dynamic_slice(array, (0, row * multiple, column * multiple, 0), sizes)
