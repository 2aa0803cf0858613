"""A world: everything that scenes are made of, as tables. Another world is another set of rows, not more code."""

from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from typing import Any

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS, Background
from dalle3_jax.data.scenes.concepts import CONCEPTS, Concept
from dalle3_jax.data.scenes.held_out import HeldOut, read_held_out
from dalle3_jax.data.scenes.patterns import COUNT, ONE, TWO, Patterns


@dataclass(frozen=True)
class Cell:
    """Where one object stands: centre as fractions of the frame, side as a fraction of its smaller side, and a name."""

    x: float
    y: float
    size: float
    place: str


@dataclass(frozen=True)
class Layout:
    """An arrangement of cells and the ways to name it.

    `who` says which of the scene's concepts stands in each cell; `inverse` names the arrangement seen from the second.
    """

    name: str
    cells: tuple[Cell, ...]
    phrases: tuple[str, ...]
    who: tuple[int, ...] = (0,)
    inverse: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A sort of scene: how often it is drawn, how many different concepts it shows, its layouts and its captions."""

    name: str
    weight: float
    concepts: int
    layouts: tuple[Layout, ...]
    patterns: Patterns = field(hash=False)


@dataclass(frozen=True)
class World:
    """All that a scene may be.

    `snap` is the grid of the cells in pixels, `margin` what a sprite leaves free on each side of its cell (a fraction
    of the cell), `jitter` how far a cell may stray (a fraction of the frame) and `places` the ways to name a place.
    """

    name: str
    concepts: tuple[Concept, ...]
    backgrounds: tuple[Background, ...]
    kinds: tuple[Kind, ...]
    places: tuple[Layout, ...]
    held_out: HeldOut = field(default_factory=HeldOut)
    snap: int = 8
    margin: float = 1 / 16
    jitter: float = 0.0

    @cached_property
    def rows(self) -> dict[tuple[str, ...], Any]:
        """The tables by name."""
        rows: dict[tuple[str, ...], Any] = {("concept", row.name): row for row in self.concepts}
        rows |= {("background", row.name): row for row in self.backgrounds}
        rows |= {("place", row.name): row for row in self.places}
        rows |= {("kind", row.name): row for row in self.kinds}
        return rows | {("layout", kind.name, row.name): row for kind in self.kinds for row in kind.layouts}

    def concept(self, name: str) -> Concept:
        """The concept called `name`."""
        return self.rows["concept", name]

    def background(self, name: str) -> Background:
        """The background called `name`."""
        return self.rows["background", name]

    def kind(self, name: str) -> Kind:
        """The kind called `name`."""
        return self.rows["kind", name]

    def layout(self, kind: str, name: str) -> Layout:
        """The layout called `name` of a kind."""
        return self.rows["layout", kind, name]

    def phrases(self, place: str) -> tuple[str, ...]:
        """The ways to say that something is at `place`."""
        return self.rows["place", place].phrases


HALF = 0.5  # one size for every object: the model sees each concept more often at the size it will draw


def place(name: str, x: float, y: float, *phrases: str) -> Layout:
    """One object of half the frame."""
    return Layout(name, (Cell(x, y, HALF, name),), phrases)


PLACES = (
    place("centre", 0.5, 0.5, "in the centre", "in the middle", "in the center"),
    place("left", 0.25, 0.5, "on the left", "on the left side", "at the left"),
    place("right", 0.75, 0.5, "on the right", "on the right side", "at the right"),
    place("top", 0.5, 0.25, "at the top", "near the top", "at the upper edge"),
    place("bottom", 0.5, 0.75, "at the bottom", "near the bottom", "at the lower edge"),
    place("top left", 0.25, 0.25, "in the top left corner", "in the upper left corner", "at the top left"),
    place("top right", 0.75, 0.25, "in the top right corner", "in the upper right corner", "at the top right"),
    place("bottom left", 0.25, 0.75, "in the bottom left corner", "in the lower left corner", "at the bottom left"),
    place("bottom right", 0.75, 0.75, "in the bottom right corner", "in the lower right corner", "at the bottom right"),
)

LEFT, RIGHT = Cell(0.25, 0.5, HALF, "left"), Cell(0.75, 0.5, HALF, "right")
ABOVE, BELOW = Cell(0.5, 0.25, HALF, "top"), Cell(0.5, 0.75, HALF, "bottom")
LOWER_LEFT, LOWER_RIGHT = Cell(0.25, 0.75, HALF, "bottom left"), Cell(0.75, 0.75, HALF, "bottom right")
TO_THE_LEFT, TO_THE_RIGHT = (
    ("to the left of", "on the left of", "left of"),
    ("to the right of", "on the right of", "right of"),
)
OVER, UNDER = (("above", "over", "on top of"), ("below", "under", "underneath"))
RELATIONS = (
    Layout("left of", (LEFT, RIGHT), TO_THE_LEFT, (0, 1), TO_THE_RIGHT),
    Layout("right of", (RIGHT, LEFT), TO_THE_RIGHT, (0, 1), TO_THE_LEFT),
    Layout("above", (ABOVE, BELOW), OVER, (0, 1), UNDER),
    Layout("below", (BELOW, ABOVE), UNDER, (0, 1), OVER),
)

IN_A_ROW = ("side by side", "next to each other", "in a row")
IN_A_TRIANGLE = ("in a triangle", "one above the other two", "close together")
COUNTS = (
    Layout("two", (LEFT, RIGHT), IN_A_ROW, (0, 0)),
    Layout("three", (ABOVE, LOWER_LEFT, LOWER_RIGHT), IN_A_TRIANGLE, (0, 0, 0)),
)

FIRST = World(
    name="first",
    concepts=CONCEPTS,
    backgrounds=BACKGROUNDS,
    kinds=(
        Kind("one", 0.3, 1, PLACES, ONE),
        Kind("two", 0.4, 2, RELATIONS, TWO),
        Kind("count", 0.3, 1, COUNTS, COUNT),
    ),
    places=PLACES,
    held_out=read_held_out(files("dalle3_jax.data.scenes") / "held_out_first.json"),
)

WORLDS = {"first": FIRST}
