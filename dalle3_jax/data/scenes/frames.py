"""Which of several sizes suits a scene: what lies side by side wants a wide frame, what is stacked a tall one."""

import math
from collections.abc import Sequence

from dalle3_jax.data.draws import choose, uniform
from dalle3_jax.data.scenes.scene import Scene
from dalle3_jax.data.scenes.signs import words_fit
from dalle3_jax.data.scenes.world import World

__all__ = ["choose_frame"]

Size = tuple[int, int]
"""Height and width."""

ANYHOW = 0.1
"""How often a scene has any of the sizes: people do not always choose what suits."""

SPREAD = 0.2
"""How much further objects must spread across than down (in fractions of the frame), or the reverse."""


def choose_frame(world: World, scene: Scene, frames: Sequence[Size], seed: int, index: int) -> Size:
    """The widest of the frames, the tallest, or the squarest, as the objects lie; one in ten at random.

    The widest of all where words would be too small to be read in the one that suits.
    """
    size = _suitable(scene, frames, seed, index)
    if words_fit(world, scene.words, *size):
        return size
    return max(frames, key=lambda frame: frame[1])


def _suitable(scene: Scene, frames: Sequence[Size], seed: int, index: int) -> Size:
    """The frame that suits the objects."""
    if uniform("frame", seed, index) < ANYHOW:
        return choose(frames, "any frame", seed, index)
    x, y = (
        zip(*((placed.cell.x, placed.cell.y) for placed in scene.objects), strict=True)
        if scene.objects
        else ((0,), (0,))
    )
    across, down = max(x) - min(x), max(y) - min(y)
    ratios = {size: math.log(size[1] / size[0]) for size in frames}
    if across > down + SPREAD:
        return max(frames, key=ratios.__getitem__)
    if down > across + SPREAD:
        return min(frames, key=ratios.__getitem__)
    return min(frames, key=lambda size: abs(ratios[size]))
