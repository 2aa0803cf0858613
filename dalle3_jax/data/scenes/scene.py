"""Which scene stands at an index: what it shows and where, before any pixel is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from dalle3_jax.data.draws import choose, uniform, weighted
from dalle3_jax.data.scenes.world import Cell, Kind, World

SPLITS = ("train", "held_out")
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Placed:
    """One object and the cell in which it stands."""

    concept: str
    cell: Cell


@dataclass(frozen=True)
class Scene:
    """What a picture shows, exactly, at whatever size it is drawn; `layout` names a row of its kind's table."""

    kind: str
    layout: str
    objects: tuple[Placed, ...]
    background: str

    @property
    def concepts(self) -> tuple[str, ...]:
        """The different concepts, in the order in which captions speak of them."""
        return tuple(dict.fromkeys(placed.concept for placed in self.objects))


def scene(world: World, seed: int, index: int, split: str = "train") -> Scene:
    """The scene at `index`: "train" never shows a held-out pair, "held_out" always shows at least one.

    The kind and the layout are drawn once, so that both splits mix kinds alike; concepts and background are drawn again
    until they suit the split.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: choose one of {SPLITS}")
    key = (world.name, split, int(seed), int(index))  # a numpy integer would be another key
    kind = weighted(world.kinds, [kind.weight for kind in world.kinds], *key, "kind")
    layout = choose(kind.layouts, *key, "layout")
    drawn = (contents(world, kind, *key, attempt) for attempt in count())
    concepts, background = next(what for what in drawn if world.held_out.holds(*what) == (split == "held_out"))
    cells = jittered(world, layout.cells, *key)
    placed = (Placed(concepts[who], cell) for who, cell in zip(layout.who, cells, strict=True))
    return Scene(kind.name, layout.name, tuple(placed), background)


def contents(world: World, kind: Kind, *key: object) -> tuple[list[str], str]:
    """As many different concepts as the kind shows, and a background."""
    left = [concept.name for concept in world.concepts]
    concepts = [left.pop(int(uniform(*key, "concept", i) * len(left))) for i in range(kind.concepts)]
    return concepts, choose(world.backgrounds, *key, "background").name


def jittered(world: World, cells: tuple[Cell, ...], *key: object) -> Iterator[Cell]:
    """The cells, each moved by at most the world's jitter."""
    for i, cell in enumerate(cells):
        if world.jitter:
            across, down = (world.jitter * (2.0 * uniform(*key, "jitter", i, axis) - 1.0) for axis in ("x", "y"))
            cell = replace(cell, x=cell.x + across, y=cell.y + down)
        yield cell


def pixel_box(world: World, cell: Cell, height: int, width: int) -> Box:
    """The square in pixels (left, top, right, bottom) into which the sprite is fitted.

    The cell lies on the world's grid and inside the frame; the sprite keeps the world's margin within it.
    """
    snap = world.snap
    side = max(snap, round(cell.size * min(height, width) / snap) * snap)
    left = min(max(round((cell.x * width - side / 2) / snap) * snap, 0), max(width - side, 0))
    top = min(max(round((cell.y * height - side / 2) / snap) * snap, 0), max(height - side, 0))
    margin = round(side * world.margin)
    return left + margin, top + margin, left + side - margin, top + side - margin
