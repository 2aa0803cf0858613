"""Reads a picture of the embedded dataset: which background, which objects, where; never told what was asked for.

Every sprite is known, so reading is a comparison with everything that a picture could show. The background is the one
that most of the pixels agree with. An object changes that background by a known difference; in each cell where objects
may stand, the concept is taken whose difference (at full strength, or paler) explains most of the picture's, and the
cell is empty where none shows at half its strength or none is like what is there. Of all sets of cells that do not
overlap, the one that explains most in all is what the picture shows; not only the world's own arrangements, so that
four objects are read as four.

Pictures are compared at a small size, which forgives soft edges and noise.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np
from jaxtyping import Float, UInt8

from dalle3_jax.data.scenes.backgrounds import Background, paint
from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import Placed, Scene, pixel_box
from dalle3_jax.data.scenes.world import Cell, World

DETAIL = 32  # pixels of the shorter side that the comparison keeps, at least (unless the picture has fewer)
STRAY = 40.0  # a pixel further than this from the background (grey levels) counts as covered, however far it is
PRESENT = 0.5  # an object is there from this strength on: 1 as the sprite is, 0 when nothing of it shows
ALIKE = 0.4  # and it is the object if it explains this share of what differs from the background in its cell


@dataclass(frozen=True)
class Reading:
    """What a picture shows: its background, and its objects with the cells in which they stand."""

    background: str
    objects: frozenset[Placed]

    @property
    def concepts(self) -> tuple[str, ...]:
        """The objects' concepts, one entry for every object, sorted."""
        return tuple(sorted(placed.concept for placed in self.objects))

    def __str__(self) -> str:
        objects = sorted((placed.concept, placed.cell.place) for placed in self.objects)
        return f"{', '.join(f'{concept} ({place})' for concept, place in objects) or 'nothing'}; {self.background}"


@dataclass(frozen=True)
class Templates:
    """What every concept changes in one cell of a background: `differences` [k p], their `energies` [k]."""

    window: tuple[slice, slice]
    differences: np.ndarray
    energies: np.ndarray


def truth(scene: Scene) -> Reading:
    """What a faultless picture of the scene shows."""
    return Reading(scene.background, frozenset(scene.objects))


def read(world: World, images: UInt8[np.ndarray, "b h w 3"]) -> list[Reading]:
    """What each picture shows. Raises ValueError for a world whose objects stray from their cells."""
    if world.jitter:
        raise ValueError(f"the world {world.name!r} moves objects by {world.jitter}: only fixed cells can be read")
    height, width = images.shape[1:3]
    small = shrink(images, factor(height, width))
    names = nearest_backgrounds(world, small, height, width)
    readings: dict[int, Reading] = {}
    for background in world.backgrounds:
        rows = [row for row, name in enumerate(names) if name == background.name]
        objects = find_objects(world, background, small[rows], height, width) if rows else []
        readings |= {row: Reading(background.name, found) for row, found in zip(rows, objects, strict=True)}
    return [readings[row] for row in range(len(images))]


def nearest_backgrounds(world: World, small: Float[np.ndarray, "b i j 3"], height: int, width: int) -> list[str]:
    """The background that most pixels agree with; objects may cover the rest, so a stray pixel counts once."""
    plain = [shrink(paint(background, height, width)[None], factor(height, width)) for background in world.backgrounds]
    squares = [np.minimum(((small - picture) ** 2).sum(-1), STRAY**2).mean((1, 2)) for picture in plain]
    return [world.backgrounds[row].name for row in np.argmin(squares, axis=0)]


def find_objects(
    world: World, background: Background, small: Float[np.ndarray, "b i j 3"], height: int, width: int
) -> list[frozenset[Placed]]:
    """The objects in pictures that all have this background."""
    difference = small - shrink(paint(background, height, width)[None], factor(height, width))
    gains, concepts = [], []
    for table in templates(world, background, height, width):
        window = difference[:, *table.window].reshape(len(small), -1)
        match = window @ table.differences.T
        strength = np.minimum(match / table.energies, 1.0)
        gain = strength * (2.0 * match - strength * table.energies)
        gain[(strength < PRESENT) | (gain < ALIKE * (window**2).sum(1, keepdims=True))] = 0.0
        concepts.append(gain.argmax(1))
        gains.append(gain.max(1))
    gains, concepts = np.stack(gains, 1), np.stack(concepts, 1)
    members = arrangements(tuple(pixel_box(world, cell, height, width) for cell in cells(world)))
    chosen = members[np.argmax(gains @ members.T, axis=1)] & (gains > 0.0)
    return [
        frozenset(
            Placed(world.concepts[concepts[row, at]].name, cells(world)[at]) for at in np.flatnonzero(chosen[row])
        )
        for row in range(len(small))
    ]


def shrink(images: UInt8[np.ndarray, "b h w 3"], by: int) -> Float[np.ndarray, "b i j 3"]:
    """The means of blocks of `by` x `by` pixels."""
    phases = [images[:, i::by, j::by] for i in range(by) for j in range(by)]  # far faster than a mean over inner axes
    return np.stack(phases).mean(0, dtype=np.float32)


def factor(height: int, width: int) -> int:
    """How many pixels to a side become one when a picture of this size is compared: a power of two."""
    power = 1
    while 2 * power * DETAIL <= min(height, width):
        power *= 2
    return gcd(power, height, width)


@lru_cache
def cells(world: World) -> tuple[Cell, ...]:
    """The cells in which the world ever puts an object."""
    layouts = [layout for kind in world.kinds for layout in kind.layouts]
    return tuple(dict.fromkeys(cell for layout in layouts for cell in layout.cells))


@lru_cache(maxsize=64)
def templates(world: World, background: Background, height: int, width: int) -> list[Templates]:
    """For each cell, what each concept there changes in the small picture."""
    by, tables = factor(height, width), []
    plain = paint(background, height, width)
    for cell in cells(world):
        left, top, right, bottom = pixel_box(world, cell, height, width)
        window = (slice(top // by, -(-bottom // by)), slice(left // by, -(-right // by)))
        pixels = tuple(slice(side.start * by, side.stop * by) for side in window)
        scenes = [Scene("", "", (Placed(concept.name, cell),), background.name) for concept in world.concepts]
        changed = np.stack([render(world, scene, height, width)[pixels] for scene in scenes])
        differences = (shrink(changed, by) - shrink(plain[pixels][None], by)).reshape(len(scenes), -1)
        tables.append(Templates(window, differences, (differences**2).sum(1)))
    return tables


@lru_cache
def arrangements(boxes: tuple[tuple[int, int, int, int], ...]) -> np.ndarray:
    """All sets of boxes (left, top, right, bottom) that do not overlap, a row of booleans each; the first is empty."""
    sets: list[tuple[int, ...]] = [()]
    for new, box in enumerate(boxes):
        sets += [(*old, new) for old in sets if not any(overlap(box, boxes[other]) for other in old)]
    return np.array([[at in chosen for at in range(len(boxes))] for chosen in sets])


def overlap(one: tuple[int, int, int, int], two: tuple[int, int, int, int]) -> bool:
    """Whether two boxes (left, top, right, bottom) share a pixel."""
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
