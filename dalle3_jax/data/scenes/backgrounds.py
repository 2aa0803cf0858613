"""The backgrounds of the embedded dataset: a table of layers, painted at any size."""

from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.data.scenes.painting import (
    Layer,
    blocks,
    disc,
    discs,
    folds,
    gradient,
    ground,
    lane,
    peaks,
    planks,
    tiled_floor,
)


@dataclass(frozen=True)
class Background:
    """A place: its name, the ways to say that something is there and what it is, and its layers from back to front."""

    name: str
    phrases: tuple[str, ...]
    scenery: tuple[str, ...]
    layers: tuple[Layer, ...] = field(repr=False)  # of functions, whose addresses change from run to run


STARS = (
    (0.08, 0.12, 0.016),
    (0.22, 0.36, 0.011),
    (0.31, 0.08, 0.012),
    (0.44, 0.24, 0.015),
    (0.57, 0.06, 0.011),
    (0.64, 0.41, 0.012),
    (0.90, 0.52, 0.014),
    (0.06, 0.58, 0.012),
    (0.36, 0.60, 0.014),
    (0.76, 0.66, 0.011),
    (0.17, 0.82, 0.014),
    (0.52, 0.86, 0.011),
    (0.92, 0.88, 0.013),
)
FLAKES = (
    (0.10, 0.08, 0.016),
    (0.30, 0.20, 0.013),
    (0.52, 0.07, 0.015),
    (0.71, 0.24, 0.014),
    (0.92, 0.11, 0.015),
    (0.17, 0.38, 0.014),
    (0.44, 0.41, 0.012),
    (0.84, 0.43, 0.015),
)
BUBBLES = (
    (0.12, 0.30, 0.028),
    (0.17, 0.17, 0.018),
    (0.84, 0.38, 0.030),
    (0.89, 0.22, 0.018),
    (0.50, 0.10, 0.020),
    (0.33, 0.52, 0.016),
    (0.70, 0.58, 0.016),
)

FIRS = ((0.02, 0.22), (0.17, 0.36), (0.30, 0.14), (0.46, 0.40), (0.60, 0.24), (0.75, 0.12), (0.90, 0.34))
FAR_FIRS = ((0.09, 0.30), (0.23, 0.40), (0.38, 0.28), (0.53, 0.36), (0.67, 0.30), (0.83, 0.38), (0.97, 0.28))

BACKGROUNDS = (
    Background(
        "beach",
        ("on a beach", "on a sandy beach", "at the beach"),
        ("a sandy beach", "a sunny beach by blue water"),
        (
            partial(gradient, stops=((0.0, "8fd8f7"), (0.42, "d9f3fb"))),
            partial(ground, stops=((0.42, "1f9fc9"), (0.62, "63d2d6"))),
            partial(
                ground,
                stops=((0.60, "ffffff"), (0.66, "fbeec5"), (1.0, "efcf8d")),
                waves=((0.015, 1.5, 0.1),),
                softness=0.03,
            ),
        ),
    ),
    Background(
        "meadow",
        ("in a meadow", "in a green meadow", "on a grassy meadow"),
        ("a green meadow", "a green meadow under a blue sky"),
        (
            partial(gradient, stops=((0.0, "5db4f0"), (0.5, "cdeafa"))),
            partial(
                discs,
                spots=(
                    (0.16, 0.16, 0.07),
                    (0.24, 0.13, 0.09),
                    (0.33, 0.17, 0.06),
                    (0.74, 0.24, 0.06),
                    (0.82, 0.21, 0.08),
                    (0.90, 0.25, 0.05),
                ),
                code="ffffff",
                softness=0.03,
                strength=0.9,
            ),
            partial(ground, stops=((0.52, "8ccf5a"), (0.8, "6dbb45")), waves=((0.05, 1.0, 0.55),)),
            partial(ground, stops=((0.66, "6cc24a"), (1.0, "3f9a33")), waves=((0.035, 1.0, 0.05),)),
        ),
    ),
    Background(
        "desert",
        ("in a desert", "in the desert", "in a sandy desert"),
        ("an orange desert", "an orange desert with dunes"),
        (
            partial(gradient, stops=((0.0, "f9c15d"), (0.5, "fde9b5"))),
            partial(disc, at=(0.82, 0.17), radius=0.10, code="fff7dc", softness=0.03),
            partial(ground, stops=((0.50, "e59a4d"), (0.8, "d98540")), waves=((0.06, 1.0, 0.25),)),
            partial(ground, stops=((0.66, "d47a35"), (1.0, "b75a26")), waves=((0.05, 0.8, 0.75),)),
        ),
    ),
    Background(
        "night sky",
        ("in the night sky", "under a night sky", "against a starry night sky"),
        ("a dark night sky", "a night sky with stars and a moon"),
        (
            partial(gradient, stops=((0.0, "0b1038"), (0.6, "27246b"), (1.0, "4a3a94"))),
            partial(discs, spots=STARS, code="fff6d0", softness=0.012),
            partial(disc, at=(0.83, 0.18), radius=0.16, code="6a63c4", softness=0.12, strength=0.5),
            partial(disc, at=(0.83, 0.18), radius=0.085, code="fdf3c4", softness=0.012),
        ),
    ),
    Background(
        "snow",
        ("in the snow", "on the snow", "in deep white snow"),
        ("deep white snow", "white snow under a pale sky"),
        (
            partial(gradient, stops=((0.0, "9dbfd9"), (0.6, "dbe8f2"))),
            partial(discs, spots=FLAKES, code="ffffff", softness=0.012),
            partial(ground, stops=((0.54, "cfe0ee"), (0.75, "e4eef6")), waves=((0.05, 1.0, 0.30),)),
            partial(ground, stops=((0.68, "ffffff"), (1.0, "dfeaf4")), waves=((0.03, 1.0, 0.80),)),
        ),
    ),
    Background(
        "sea",
        ("under the sea", "deep in the sea", "in the blue sea"),
        ("the deep blue sea", "the blue sea with bubbles"),
        (
            partial(gradient, stops=((0.0, "5fd4e6"), (0.45, "1d8fc4"), (1.0, "0b3f86"))),
            partial(discs, spots=BUBBLES, code="c8f4fb", softness=0.014, strength=0.65),
            partial(ground, stops=((0.88, "3d7aa8"), (1.0, "2c5f94")), waves=((0.02, 1.2, 0.4),), softness=0.03),
        ),
    ),
    Background(
        "pink wall",
        ("in front of a pink wall", "against a pink wall", "before a plain pink wall"),
        ("a plain pink wall", "a bright pink wall"),
        (
            partial(gradient, stops=((0.0, "f9a8c9"), (1.0, "ef86b0"))),
            partial(disc, at=(0.5, 0.42), radius=0.75, code="ffc6dd", softness=0.7, strength=0.9),
        ),
    ),
    Background(
        "wooden floor",
        ("on a wooden floor", "on the wooden floor", "on a brown wooden floor"),
        ("a brown wooden floor", "a wooden floor of brown boards"),
        (partial(planks, count=8, shades=("b98050", "a96f42", "c48c5c"), gap="6f4526"),),
    ),
    Background(
        "sunset",
        ("at sunset", "in front of a sunset", "under an orange sunset"),
        ("a glowing orange sunset", "an orange and purple sunset"),
        (
            partial(gradient, stops=((0.0, "5b2a86"), (0.35, "c8407f"), (0.68, "ff9a4a"))),
            partial(disc, at=(0.5, 0.66), radius=0.40, code="ffc861", softness=0.34, strength=0.8),
            partial(disc, at=(0.5, 0.66), radius=0.16, code="fff0a8", softness=0.012),
            partial(ground, stops=((0.70, "7d2f6e"), (1.0, "321550")), waves=((0.012, 1.0, 0.2),)),
        ),
    ),
    Background(
        "city",
        ("in a city", "in the city", "in front of a grey city"),
        ("a grey city", "a grey city with tall buildings"),
        (
            partial(gradient, stops=((0.0, "b9c6d3"), (0.7, "e9e4dc"))),
            partial(
                blocks,
                roofs=(
                    (-0.1, 0.12, 0.34),
                    (0.20, 0.38, 0.22),
                    (0.46, 0.60, 0.38),
                    (0.66, 0.84, 0.16),
                    (0.92, 1.1, 0.30),
                ),
                stops=((0.1, "93a3b5"), (0.7, "aab6c3")),
            ),
            partial(
                blocks,
                roofs=((0.06, 0.24, 0.46), (0.34, 0.50, 0.52), (0.56, 0.72, 0.44), (0.80, 0.96, 0.50)),
                stops=((0.4, "6c7d91"), (0.7, "8694a5")),
            ),
            partial(ground, stops=((0.74, "5a5f68"), (1.0, "3e4249"))),
        ),
    ),
    Background(
        "forest",
        ("in a forest", "in a dark forest", "in the forest"),
        ("a dark green forest", "a forest of pointed firs"),
        (
            partial(gradient, stops=((0.0, "b7d8b0"), (0.6, "dcebc5"))),
            partial(peaks, tops=FAR_FIRS, base=0.74, width=0.075, code="5d9a6b"),
            partial(peaks, tops=FIRS, base=0.80, width=0.11, code="1f5a3a"),
            partial(ground, stops=((0.74, "3f7d3c"), (1.0, "27552b")), waves=((0.015, 2.0, 0.3),)),
        ),
    ),
    Background(
        "mountains",
        ("in the mountains", "in front of mountains", "before a range of mountains"),
        ("grey mountains with white tips", "a range of tall grey mountains"),
        (
            partial(gradient, stops=((0.0, "7fb2e5"), (0.6, "e6f1fa"))),
            partial(peaks, tops=((0.12, 0.34), (0.78, 0.28), (1.02, 0.40)), base=0.72, width=0.34, code="9aa5b8"),
            partial(peaks, tops=((0.42, 0.16),), base=0.72, width=0.40, code="77839b"),
            partial(peaks, tops=((0.42, 0.16),), base=0.30, width=0.10, code="f7fafc"),
            partial(peaks, tops=((0.12, 0.34), (0.78, 0.28)), base=0.42, width=0.085, code="eef2f6"),
            partial(ground, stops=((0.66, "7fae62"), (1.0, "4f8a45")), waves=((0.02, 1.0, 0.1),)),
        ),
    ),
    Background(
        "road",
        ("on a road", "on a grey road", "on an empty road"),
        ("an empty grey road", "a grey road between yellow fields"),
        (
            partial(gradient, stops=((0.0, "a5d5ee"), (0.45, "edf6fa"))),
            partial(ground, stops=((0.42, "e8c75a"), (1.0, "c99a34"))),
            partial(lane, top=0.42, near=0.62, far=0.05, code="6b6f76"),
            partial(lane, top=0.42, near=0.035, far=0.004, code="ffffff", dashes=6),
        ),
    ),
    Background(
        "checkered floor",
        ("on a checkered floor", "on black and white tiles", "on a tiled checkered floor"),
        ("a checkered floor before a turquoise wall", "a black and white checkered floor"),
        (
            partial(gradient, stops=((0.0, "6fc7bd"), (0.5, "8ad6cc"))),
            partial(tiled_floor, top=0.5, across=8, down=4, shades=("f4f1e8", "2f3336")),
        ),
    ),
    Background(
        "red curtain",
        ("in front of a red curtain", "on a stage with a red curtain", "before a red curtain"),
        ("a heavy red curtain", "a stage with a red curtain"),
        (
            partial(folds, count=9, shades=("7d0f1c", "c81e34")),
            partial(disc, at=(0.5, 0.5), radius=0.5, code="f0566a", softness=0.45, strength=0.35),
            partial(ground, stops=((0.82, "8a5a33"), (1.0, "5f3b20"))),
        ),
    ),
)


@lru_cache(maxsize=256)
def paint_background(background: Background, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The background at this size; kept, and therefore read-only."""
    y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
    canvas = np.zeros((height, width, 3))
    for layer in background.layers:
        canvas = layer(canvas, x, y)
    picture = (np.clip(canvas, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    picture.flags.writeable = False
    return picture
