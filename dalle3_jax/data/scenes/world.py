"""A world: everything that scenes are made of, as tables. Another world is another set of rows, not more code."""

from dataclasses import dataclass, field
from importlib.resources import files

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS, Background
from dalle3_jax.data.scenes.concepts import CONCEPTS, Concept
from dalle3_jax.data.scenes.held_out import HeldOut, read_held_out


@dataclass(frozen=True)
class Cell:
    """Where one object stands: centre as fractions of the frame, side as a fraction of its smaller side, and a name."""

    x: float
    y: float
    size: float
    place: str


@dataclass(frozen=True)
class Layout:
    """An arrangement of cells; `who` says which of the scene's concepts stands in each of them."""

    name: str
    cells: tuple[Cell, ...]
    phrases: tuple[str, ...]
    who: tuple[int, ...] = (0,)


@dataclass(frozen=True)
class Kind:
    """A sort of scene: how often it is drawn, how many different concepts it shows, and its layouts."""

    name: str
    weight: float
    concepts: int
    layouts: tuple[Layout, ...]


@dataclass(frozen=True)
class World:
    """All that a scene may be.

    `snap` is the grid of the cells in pixels, `margin` what a sprite leaves free on each side of its cell (a fraction
    of the cell) and `jitter` how far a cell may stray (a fraction of the frame).
    """

    name: str
    concepts: tuple[Concept, ...]
    backgrounds: tuple[Background, ...]
    kinds: tuple[Kind, ...]
    held_out: HeldOut = field(default_factory=HeldOut)
    snap: int = 8
    margin: float = 1 / 16
    jitter: float = 0.0

    def concept(self, name: str) -> Concept:
        """The concept called `name`."""
        return next(concept for concept in self.concepts if concept.name == name)

    def background(self, name: str) -> Background:
        """The background called `name`."""
        return next(background for background in self.backgrounds if background.name == name)

    def kind(self, name: str) -> Kind:
        """The kind called `name`."""
        return next(kind for kind in self.kinds if kind.name == name)


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
RELATIONS = (
    Layout("left of", (LEFT, RIGHT), ("to the left of", "on the left of", "left of"), (0, 1)),
    Layout("right of", (RIGHT, LEFT), ("to the right of", "on the right of", "right of"), (0, 1)),
    Layout("above", (ABOVE, BELOW), ("above", "over", "on top of"), (0, 1)),
    Layout("below", (BELOW, ABOVE), ("below", "under", "underneath"), (0, 1)),
)

COUNTS = (
    Layout("two", (LEFT, RIGHT), ("side by side", "next to each other", "in a row"), (0, 0)),
    Layout(
        "three",
        (ABOVE, LOWER_LEFT, LOWER_RIGHT),
        ("in a triangle", "one above the other two", "close together"),
        (0, 0, 0),
    ),
)

FIRST = World(
    name="first",
    concepts=CONCEPTS,
    backgrounds=BACKGROUNDS,
    kinds=(Kind("one", 0.3, 1, PLACES), Kind("two", 0.4, 2, RELATIONS), Kind("count", 0.3, 1, COUNTS)),
    held_out=read_held_out(files(__package__) / "held_out_first.json"),
)

WORLDS = {"first": FIRST}
