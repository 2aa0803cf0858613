"""Sheets of pictures with their prompts under them, for people to look at."""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.image_formats import open_generated
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.pipeline.request import Request, shorten
from dalle3_jax.pipeline.sheet_text import draw_text, printable_text, wrap_text

if TYPE_CHECKING:
    from dalle3_jax.pipeline.album import Album

__all__ = ["FAINT", "GREEN", "INK", "MARGIN", "RED", "SheetCell", "SheetLine", "draw_sheet", "save_album_sheet"]

MARGIN = 14
"""Pixels around every picture."""

INK, FAINT, PAPER = (24, 24, 27), (113, 113, 122), (255, 255, 255)
GREEN, RED = (21, 128, 61), (185, 28, 28)


class SheetLine(NamedTuple):
    """One paragraph under a picture."""

    text: str
    colour: tuple[int, int, int] = INK


class SheetCell(NamedTuple):
    """A picture and the paragraphs under it."""

    image: Image.Image
    lines: tuple[SheetLine, ...]


def draw_sheet(
    cells: Sequence[SheetCell], *, columns: int, width: int = 256, title: str = "", font_size: int = 15
) -> Image.Image:
    """Draw the cells row by row, every picture `width` pixels wide, every row as high as its longest text needs."""
    if not cells:
        raise ValueError("no pictures to draw: a sheet needs at least one")
    margin, leading = MARGIN, round(font_size * 1.3)
    texts = [
        [SheetLine(row, line.colour) for line in cell.lines for row in wrap_text(line.text, font_size, width)]
        for cell in cells
    ]
    pictures = [enlarge(cell.image, width) for cell in cells]
    rows = [range(start, min(start + columns, len(cells))) for start in range(0, len(cells), columns)]
    heights = [max(pictures[i].height + 8 + leading * len(texts[i]) for i in row) + margin for row in rows]
    top = margin + (2 * leading if title else 0)
    page = Image.new("RGB", (margin + columns * (width + margin), top + sum(heights)), PAPER)
    draw_text(page, (margin, margin), printable_text(title, font_size + 5), INK, font_size + 5)
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = margin + column * (width + margin)
            page.paste(pictures[i], (left, top))
            for number, line in enumerate(texts[i]):
                below = top + pictures[i].height + 6 + number * leading
                draw_text(page, (left, below), line.text, line.colour, font_size)
        top += height
    return page


def enlarge(image: Image.Image, width: int) -> Image.Image:
    """Scale a picture to `width` pixels, without smoothing where a whole factor does it: pixels stay true."""
    whole = width % image.width == 0
    height = round(image.height * width / image.width)
    return image.convert("RGB").resize((width, height), Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS)


def save_album_sheet(album: "Album", requests: Sequence[Request], digest: str) -> Path:
    """One sheet of an album's pictures with their prompts, named for what it shows."""
    identities = "".join(request.identity(digest) for request in requests)
    path = album.folder / f"grid-{hashlib.sha256(identities.encode()).hexdigest()[:10]}.png"
    cells = []
    for request in requests:
        with open_generated(album.path(request, digest)) as image:
            cells.append(SheetCell(image.convert("RGB"), (SheetLine(printable_line(request.prompt)),)))
    width = max(256, min(max(cell.image.width for cell in cells), 512))
    write_whole(path, encode_png(draw_sheet(cells, columns=math.ceil(math.sqrt(len(cells))), width=width)))
    return path


def printable_line(prompt: str) -> str:
    """The prompt as one line that can be drawn."""
    return "".join(letter if letter.isprintable() else " " for letter in shorten(prompt, 160))
