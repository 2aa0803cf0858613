"""A world: everything that scenes are made of, as tables. Another world is another set of rows, not more code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dalle3_jax.data.scenes.backgrounds import Background
from dalle3_jax.data.scenes.concepts import Concept
from dalle3_jax.data.scenes.held_out import HeldOut

Patterns = Mapping[str, tuple[str, ...]]
"""Sentence patterns: of a kind by version of caption, of a grammar by blank."""


@dataclass(frozen=True)
class Cell:
    """The place of one object: centre as fractions of the frame, side as a fraction of its smaller side, and a name."""

    x: float
    y: float
    size: float
    place: str


@dataclass(frozen=True)
class Layout:
    """An arrangement of cells and the ways to name it.

    `concept_indices` says which of the scene's concepts stands in each cell; `inverse` names the arrangement seen from
    the second. `tiers` is how many objects stand above one another. A `sign` is a layout with one word in the middle, a
    `silent` one has no words at all.
    """

    name: str
    cells: tuple[Cell, ...]
    phrases: tuple[str, ...]
    concept_indices: tuple[int, ...] = (0,)
    inverse: tuple[str, ...] = ()
    tiers: int = 1
    sign: bool = False
    silent: bool = False

    @property
    def concepts(self) -> int:
        """The number of different concepts that it shows."""
        return max(self.concept_indices, default=-1) + 1


@dataclass(frozen=True)
class Kind:
    """A sort of scene: how often it is drawn, its layouts, its captions, and sentences of its own that they use."""

    name: str
    weight: float
    layouts: tuple[Layout, ...]
    patterns: Patterns = field(hash=False)
    grammar: Patterns = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Lettering:
    """The words of a world: `chances` of none, one and two in a scene; `words` in one case, drawn in three.

    `invented` is the share of the words that are random letters instead, 2 to `longest` of them: a model that knows a
    list of words only need not learn to spell.

    No word is drawn with letters of less than `smallest` pixels (the font's size): a world is refused at a size that
    has no room for its widest word.
    """

    words: tuple[str, ...]
    chances: tuple[float, float, float] = (1.0, 0.0, 0.0)
    smallest: int = 13
    invented: float = 0.0

    @property
    def longest(self) -> int:
        """The letters of the longest word."""
        return max(map(len, self.words))


@dataclass(frozen=True)
class World:
    """All that a scene may be.

    `snap` is the grid of the cells in pixels and `step` that of their sides; where a side would be larger by more than
    `excess` (a fraction) for that, it is one of the grid of the cells. `margin` what a sprite leaves free on each
    side of its cell (a fraction of the cell), `jitter` how far a cell may stray (a fraction of the frame), `sizes` the
    factors between which its side may change, `tinted` how often an object that can have a colour of its own gets one,
    `places` the ways to name a place and `grammar` the sentences that all kinds share. `digest` tells a part of a world
    from every other part.
    """

    name: str
    concepts: tuple[Concept, ...]
    backgrounds: tuple[Background, ...]
    kinds: tuple[Kind, ...]
    places: tuple[Layout, ...]
    held_out: HeldOut = field(default_factory=HeldOut, repr=False)  # sets print in another order in every process
    styles: tuple[str, ...] = ("3d",)
    tinted: float = 0.0
    lettering: Lettering | None = None
    grammar: Patterns = field(default_factory=dict, hash=False)
    snap: int = 8
    step: int = 8
    excess: float = 1.0
    margin: float = 1 / 16
    jitter: float = 0.0
    sizes: tuple[float, float] = (1.0, 1.0)
    digest: str = ""

    @cached_property
    def tables(self) -> dict[tuple[str, ...], Any]:
        """The tables by name."""
        rows: dict[tuple[str, ...], Any] = {("concept", row.name): row for row in self.concepts}
        rows |= {("background", row.name): row for row in self.backgrounds}
        rows |= {("place", row.name): row for row in self.places}
        rows |= {("kind", row.name): row for row in self.kinds}
        return rows | {("layout", kind.name, row.name): row for kind in self.kinds for row in kind.layouts}

    @cached_property
    def concepts_by_style(self) -> dict[str, tuple[Concept, ...]]:
        """The concepts that exist in each style."""
        return {style: tuple(row for row in self.concepts if style in row.styles) for style in self.styles}

    @cached_property
    def concept_names(self) -> tuple[str, ...]:
        """The names of the concepts."""
        return tuple(row.name for row in self.concepts)

    def concept(self, name: str) -> Concept:
        """The concept called `name`."""
        return self.tables["concept", name]

    def background(self, name: str) -> Background:
        """The background called `name`."""
        return self.tables["background", name]

    def kind(self, name: str) -> Kind:
        """The kind called `name`."""
        return self.tables["kind", name]

    def layout(self, kind: str, name: str) -> Layout:
        """The layout called `name` of a kind."""
        return self.tables["layout", kind, name]

    def phrases(self, place: str) -> tuple[str, ...]:
        """The ways to say that something is at `place`."""
        return self.tables["place", place].phrases
