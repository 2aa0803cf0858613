"""The scene reader: a small detector that says which objects a picture shows, where, in what style and on what ground.

Objects are found at their centres (CenterNet, arXiv 1904.07850): a heat map with a peak in the cell of each centre, and
class, colour, style and box read in that cell alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.examples import floats
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import conv, dense
from dalle3_jax.nn.norms import RMSNorm
from dalle3_jax.nn.resnet import Downsample, ResBlock
from dalle3_jax.typing import Array, DTypeLike, Float, Int

__all__ = ["STRIDE", "SceneLogits", "SceneReader"]

STRIDE = 8
"""Pixels to a side of a cell."""

HEAT_BIAS = -3.0  # where the heat begins: a few cells in a hundred hold a centre


class SceneLogits(NamedTuple):
    """The network's output for images, on their grid of i x j cells, in logits; `concepts` to `styles` of n cells.

    A box is the centre's way down and to the right from the middle of its cell (in cells) and the logarithm of the side
    (in cells).
    """

    heat: Float[Array, "b i j"]
    concepts: Float[Array, "b n k"]
    tints: Float[Array, "b n t"]
    boxes: Float[Array, "b n 3"]
    styles: Float[Array, "b n s"]
    backgrounds: Float[Array, "b g"]
    features: Float[Array, "b d"]


@accept_explicit_axes
class SceneReader(nn.Module):
    """Images in [-1, 1] -> `SceneLogits`; sides must be multiples of 16.

    The names say what the outputs mean. Levels lie at a quarter, an eighth and a sixteenth of the picture's side; the
    last looks far and joins the second, on whose cells objects are read. `features`, what backgrounds are read
    from, are means over all cells.
    """

    concepts: tuple[str, ...] = ()
    tints: tuple[str, ...] = ()
    styles: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    channels: tuple[int, int, int] = (48, 96, 160)
    blocks: tuple[int, int, int] = (1, 2, 2)
    hidden: int = 256
    dtype: DTypeLike = jnp.float32

    @property
    def width(self) -> int:
        """The width of `features`."""
        return self.channels[1] + self.channels[2]

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"], cells: Int[Array, "b n"] | None = None) -> SceneLogits:
        """Read pictures; objects in `cells` (numbered row by row) or, without them, in all."""
        if images.shape[1] % (2 * STRIDE) or images.shape[2] % (2 * STRIDE):
            raise ValueError(f"image sides {images.shape[1:3]} must be multiples of {2 * STRIDE}: resize them first")
        grid, features = self._grid(images.astype(self.dtype))
        heat = self._dense(1, "heat")(grid)[..., 0] + HEAT_BIAS
        flat = grid.reshape(len(grid), -1, grid.shape[-1])
        at = flat if cells is None else jnp.take_along_axis(flat, cells[..., None], axis=1)
        at = nn.silu(self._dense(self.hidden, "hidden")(at))
        sight = SceneLogits(
            heat,
            self._dense(len(self.concepts), "concepts")(at),
            self._dense(len(self.tints), "tints")(at),
            self._dense(3, "boxes")(at),
            self._dense(len(self.styles), "styles")(at),
            self._dense(len(self.backgrounds), "backgrounds")(features),
            features,
        )
        return SceneLogits(*(output.astype(jnp.float32) for output in sight))

    def _grid(self, x: Array) -> tuple[Array, Array]:
        """The cells on which objects are read (b i j c), and the whole picture's features (b d)."""
        first, middle, last = self.channels
        x = conv(first, 4, stride=4, padding=((0, 0), (0, 0)), dtype=self.dtype, name="patches")(x)
        x = Downsample(middle, dtype=self.dtype, name="to_middle")(self._level(x, 0))
        x = self._level(x, 1)
        deep = self._level(Downsample(last, dtype=self.dtype, name="to_last")(x), 2)
        deep = nn.silu(RMSNorm(name="norm_deep")(deep))
        far = conv(middle, 1, dtype=self.dtype, name="join")(deep)
        x = x + jnp.repeat(jnp.repeat(far, 2, axis=1), 2, axis=2)
        x = ResBlock(middle, norm="rms", dtype=self.dtype, name="joined")(x)
        x = nn.silu(RMSNorm(name="norm_out")(x))
        return x, jnp.concatenate([x.mean(axis=(1, 2)), deep.mean(axis=(1, 2))], axis=-1)

    def _level(self, x: Array, level: int) -> Array:
        for i in range(self.blocks[level]):
            name = f"level_{level}_block_{i}"
            x = ResBlock(self.channels[level], norm="rms", dtype=self.dtype, name=name)(x)
        return x

    def _dense(self, features: int, name: str) -> nn.Dense:
        return dense(features, dtype=self.dtype, name=name)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return (floats(1, 16, 16, 3),)
