"""The concepts of the embedded dataset: a name, its plural, the code points of its emoji, and how it can be drawn.

They are rows of sprites/concepts.csv, beside their sprites; a folder of the same form is a pack of further ones
(`scripts/add_sprites.py` writes such). A new concept is one more row without styles; `scripts/make_sprites.py` draws it
and completes the row.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import StringIO
from pathlib import Path

from dalle3_jax.data.scenes.tints import TINTS

STYLES = ("3d", "flat", "noto")
COLUMNS = ("name", "plural", "article", "code", "styles", "tints")
SPRITES = files("dalle3_jax.data.scenes") / "sprites"


@dataclass(frozen=True)
class Concept:
    """A thing that can stand in a scene, in the styles that have a sprite and the tints that suit it.

    `folders` says for styles of packs where their folders lie: (style, pack); all others are the package's own.
    """

    name: str
    plural: str
    code: str
    article: str = "a"
    styles: tuple[str, ...] = ("3d",)
    tints: tuple[str, ...] = ()
    folders: tuple[tuple[str, str], ...] = ()

    @property
    def file_stem(self) -> str:
        """The name of its sprites without the suffix."""
        return self.name.replace(" ", "_")


def read_concepts(folder: Traversable | Path) -> tuple[Concept, ...]:
    """The drawn rows of `folder`/concepts.csv: one without styles waits for its sprites and is left out.

    ValueError names every row that is not whole or whose sprites are missing.
    """
    rows = list(csv.DictReader(StringIO((folder / "concepts.csv").read_text(encoding="utf-8"))))
    if errors := [*_table_errors(rows, folder)]:
        raise ValueError(f"{folder / 'concepts.csv'}: {'; '.join(errors)}")
    return tuple(_parse_concept(row, folder) for row in rows if row["styles"])


def _parse_concept(row: dict[str, str], folder: Traversable | Path) -> Concept:
    """The concept of a row."""
    styles, tints = tuple(row["styles"].split()), tuple(row["tints"].split())
    folders = () if folder == SPRITES else tuple((style, str(folder)) for style in styles)
    return Concept(row["name"], row["plural"], row["code"], row["article"], styles, tints, folders)


def _table_errors(rows: list[dict[str, str]], folder: Traversable | Path) -> Iterator[str]:
    """Errors of the rows, in words that say how to mend them."""
    if not rows:
        yield "it has no rows: write at least one concept below the line of columns"
    for name, number in Counter(row.get("name") for row in rows).items():
        if number > 1:
            yield f"{name!r} stands {number} times: keep one row"
    sprite_files = {style.name: {file.name for file in style.iterdir()} for style in folder.iterdir() if style.is_dir()}
    for line, row in enumerate(rows, 2):
        yield from (f"line {line}: {error}" for error in _row_errors(row, sprite_files))


def _row_errors(row: dict[str, str], sprite_files: dict[str, set[str]]) -> Iterator[str]:
    """Errors of one row; `sprite_files` holds the files of each style."""
    if tuple(row) != COLUMNS or None in row.values():
        yield f"{list(row.values())} does not have the columns {', '.join(COLUMNS)}"
        return
    if not row["name"] or not row["plural"] or "/" in row["name"] or row["article"] not in ("a", "an"):
        yield f"{row['name']!r} needs a name without a slash, a plural, and the article a or an"
    for style in row["styles"].split():
        if f"{row['name'].replace(' ', '_')}.webp" not in sprite_files.get(style, ()):
            yield f"{row['name']!r} has no sprite in the style {style!r}: add the picture or take the style away"
    if unknown := set(row["tints"].split()) - set(TINTS):
        yield f"{row['name']!r} has no tint {', '.join(sorted(unknown))}: choose from {', '.join(TINTS)}"


CONCEPTS = read_concepts(SPRITES)
