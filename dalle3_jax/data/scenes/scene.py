"""Which scene stands at an index: what it shows and where, before any pixel is drawn."""

from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from dalle3_jax.data.draws import choose, uniform, weighted_choice
from dalle3_jax.data.scenes.layouts import THIRDS
from dalle3_jax.data.scenes.lettering import Word, draw_sign, free_band, sample_words
from dalle3_jax.data.scenes.world import Cell, Kind, Layout, World

SPLITS = ("train", "held_out")
ATTEMPTS = 10_000
SMALLEST = 0.2  # of the frame's height: what words must leave for each object of a column
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PlacedObject:
    """One object, the cell in which it stands, and its tint, "" where it has its own colours."""

    concept: str
    cell: Cell
    tint: str = ""


@dataclass(frozen=True)
class SceneContents:
    """The contents of a scene before it is arranged; `tints` are those of the concepts."""

    concepts: tuple[str, ...]
    background: str
    style: str
    tints: tuple[str, ...]
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Scene:
    """The exact content of a picture, at whatever size it is rendered; `layout` names a row of its kind's table."""

    kind: str
    layout: str
    objects: tuple[PlacedObject, ...]
    background: str
    style: str = "3d"
    words: tuple[Word, ...] = ()

    @property
    def concepts(self) -> tuple[str, ...]:
        """The different concepts, in the order in which captions speak of them."""
        return tuple(dict.fromkeys(placed.concept for placed in self.objects))


def sample_scene(world: World, seed: int, index: int, split: str = "train") -> Scene:
    """The scene at `index`: "train" never shows what is held out, "held_out" always shows something of it.

    The kind and the layout are drawn once, so that both splits mix kinds alike. ValueError as
    `sample_suitable_contents` raises it.
    """
    key = (world.name, split, int(seed), int(index))  # a numpy integer would be another key
    kind = weighted_choice(world.kinds, [split_weight(kind, split) for kind in world.kinds], *key, "kind")
    layout = choose(kind.layouts, *key, "layout")
    contents = sample_suitable_contents(world, kind, layout, split, *key)
    cells = jitter_cells(world, layout, contents.words, *key)
    placed = place_objects(layout, contents, tuple(cells))
    return Scene(kind.name, layout.name, placed, contents.background, contents.style, contents.words)


def split_weight(kind: Kind, split: str) -> float:
    """The weight of a kind in a split: 0 of bare backgrounds, which show nothing that could be held out, in that."""
    return 0.0 if split == "held_out" and all(layout.silent for layout in kind.layouts) else kind.weight


def check_scenes(world: World, split: str) -> None:
    """Raises ValueError where a layout that the world may draw has no scene of the split, or the split is unknown."""
    if not any(split_weight(kind, split) for kind in world.kinds):
        raise ValueError(f"the world {world.name!r} has no {split} scene of any kind: it shows bare backgrounds alone")
    for kind in world.kinds:
        for layout in kind.layouts if split_weight(kind, split) else ():
            sample_suitable_contents(world, kind, layout, split, world.name, split, "check", kind.name, layout.name)


def sample_suitable_contents(world: World, kind: Kind, layout: Layout, split: str, *key: object) -> SceneContents:
    """The contents of a scene, drawn again until they suit the split.

    ValueError where the split is unknown, or a part of a world too small to hold such.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r}: choose one of {SPLITS}")
    samples = (sample_contents(world, layout, *key, attempt) for attempt in range(ATTEMPTS))
    contents = next((what for what in samples if shows_held_out(world, layout, what) == (split == "held_out")), None)
    if contents is None:
        raise ValueError(
            f"the world {world.name!r} has no {split} scene of the kind {kind.name!r}: keep more concepts or styles, "
            f"leave the kind out, or choose another split of {SPLITS}"
        )
    return contents


def sample_contents(world: World, layout: Layout, *key: object) -> SceneContents:
    """A style, as many different concepts of it as the layout shows, their tints, a background, and words."""
    style = choose(world.styles, *key, "style")
    left = list(world.concepts_by_style[style])
    chosen = [left.pop(int(uniform(*key, "concept", i) * len(left))) for i in range(layout.concepts)]
    tints = tuple(
        choose(concept.tints, *key, "tint", i)
        if world.tinted and concept.tints and uniform(*key, "tinted", i) < world.tinted
        else ""
        for i, concept in enumerate(chosen)
    )
    background = choose(world.backgrounds, *key, "background").name
    words = (
        ()
        if layout.silent or not world.lettering
        else (draw_sign if layout.sign else sample_words)(world.lettering, *key)
    )
    words = words if leaves_room(layout, words) else ()
    return SceneContents(tuple(concept.name for concept in chosen), background, style, tints, words)


def leaves_room(layout: Layout, words: tuple[Word, ...]) -> bool:
    """Whether, beside the words, the objects are large enough and at the height that the names of their places say."""
    top, bottom = free_band(words)
    alone = len(layout.cells) == 1
    named = [cell.y for cell in layout.cells if alone or cell.place.startswith(("top", "bottom"))]
    same = all(bisect(THIRDS, y) == bisect(THIRDS, top + y * (bottom - top)) for y in named)
    return same and bottom - top >= SMALLEST * layout.tiers


def shows_held_out(world: World, layout: Layout, contents: SceneContents) -> bool:
    """Whether a scene of these shows anything that the world holds out of training."""
    numbers = [layout.concept_indices.count(i) for i in range(layout.concepts)]
    texts = [word.text for word in contents.words]
    return world.held_out.matches(contents.concepts, contents.background, contents.style, numbers, texts)


def place_objects(layout: Layout, contents: SceneContents, cells: Sequence[Cell]) -> tuple[PlacedObject, ...]:
    """The objects in the cells of the layout."""
    placed = zip(layout.concept_indices, cells, strict=True)
    return tuple(PlacedObject(contents.concepts[who], cell, contents.tints[who]) for who, cell in placed)


def jitter_cells(world: World, layout: Layout, words: tuple[Word, ...], *key: object) -> Iterator[Cell]:
    """The cells in what the words leave of the frame, each moved and resized by at most the world's measure."""
    top, bottom = free_band(words)
    height = bottom - top
    smallest, largest = world.sizes
    factor = smallest + (largest - smallest) * uniform(*key, "size") if largest > smallest else smallest
    for i, cell in enumerate(layout.cells):
        if words:
            cell = replace(cell, y=top + cell.y * height, size=min(cell.size, height / layout.tiers))
        if world.jitter:
            across, down = (world.jitter * (2.0 * uniform(*key, "jitter", i, axis) - 1.0) for axis in ("x", "y"))
            cell = replace(cell, x=cell.x + across, y=cell.y + down * height)
        if factor != 1.0:
            cell = replace(cell, size=cell.size * factor)
        yield clamp_cell(cell, top, bottom) if words else cell


def clamp_cell(cell: Cell, top: float, bottom: float) -> Cell:
    """The cell moved up or down until it lies in the band (as in a square frame; in a tall one there is room)."""
    half = min(cell.size, bottom - top) / 2
    return replace(cell, y=min(max(cell.y, top + half), bottom - half), size=2 * half)


def pixel_box(world: World, cell: Cell, height: int, width: int) -> Box:
    """The square in pixels (left, top, right, bottom) into which the sprite is fitted.

    The cell lies on the world's grid and inside the frame; the sprite keeps the world's margin within it.
    """
    snap, step, wanted = world.snap, world.step, cell.size * min(height, width)
    side = max(step, round(wanted / step) * step)
    if side > (1.0 + world.excess) * wanted:
        side = max(snap, round(wanted / snap) * snap)
    left = min(max(round((cell.x * width - side / 2) / snap) * snap, 0), max(width - side, 0))
    top = min(max(round((cell.y * height - side / 2) / snap) * snap, 0), max(height - side, 0))
    margin = round(side * world.margin)
    return left + margin, top + margin, left + side - margin, top + side - margin
