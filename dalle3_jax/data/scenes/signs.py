"""Paints drawn words: a plate, a banner or bare letters in the band of the frame that a word has."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from dalle3_jax.data.scenes.lettering import FONTS, Word, band
from dalle3_jax.data.scenes.world import World

COLOURS = {
    "black": (24, 24, 28),
    "white": (255, 255, 255),
    "red": (214, 36, 40),
    "yellow": (255, 214, 10),
    "green": (22, 128, 60),
    "blue": (29, 78, 216),
    "purple": (118, 40, 170),
}
PLATE, EDGE = (252, 250, 242), (70, 52, 40)
WIDTH, HEIGHT = 0.9, 0.66  # of the frame's width, and of the band's height: what letters may fill
MEASURED = 100  # pixels; widths of words are measured at this size of the font and scaled
LIGHT = ("white", "yellow")


@lru_cache(maxsize=256)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of the package at a size in pixels."""
    data = (files("dalle3_jax.data.scenes") / "fonts" / f"{name}.ttf").read_bytes()
    return ImageFont.truetype(BytesIO(data), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=8192)
def relative_width(text: str, name: str) -> float:
    """The width of a word in units of the font's size."""
    return load_font(name, MEASURED).getlength(text) / MEASURED


@lru_cache(maxsize=8192)
def pixel_width(text: str, name: str, size: int) -> float:
    """The width of a word in pixels at a size: letters stand on whole pixels, which small ones feel."""
    return load_font(name, size).getlength(text)


def font_size(text: str, name: str, height: int, width: int, slot: str = "top") -> int:
    """The size in pixels at which a word is drawn in a frame: as large as its band and the width allow."""
    top, bottom = band(slot)
    return int(min(HEIGHT * (bottom - top) * height, WIDTH * width / relative_width(text, name)))


def words_fit(world: World, words: Sequence[Word], height: int, width: int) -> bool:
    """Whether the words can be read in a frame of this size."""
    least = world.lettering.smallest if world.lettering else 0
    return all(font_size(word.text, word.font, height, width, word.slot) >= least for word in words)


def check_words(world: World, height: int, width: int) -> None:
    """Raises ValueError where the world's words would be too small to be read in a frame of this size."""
    lettering = world.lettering
    if lettering is None or not sum(lettering.chances[1:]):
        return
    sizes = {text: min(font_size(text.upper(), name, height, width) for name in FONTS) for text in lettering.words}
    least = min(sizes, key=lambda text: (sizes[text], text))
    if sizes[least] < lettering.smallest:
        raise ValueError(
            f'the words of the world {world.name!r} do not fit {width}x{height}: "{least}" would have letters of '
            f"{sizes[least]} pixels, and fewer than {lettering.smallest} cannot be read; take larger pictures, a "
            "world of shorter words (longest_word), or one without words (words = 0)"
        )


TALL, BESIDE = 0.68, 0.2  # of the font's size: half the height of a word's box, and what is left free beside letters


def sign_box(word: Word, height: int, width: int) -> tuple[int, int, int, int]:
    """The box that a word covers (left, top, right, bottom) in pixels: its plate or banner, or its letters."""
    size = font_size(word.text, word.font, height, width, word.slot)
    middle = round(height * sum(band(word.slot)) / 2)
    half_height = round(TALL * size)
    half_width = (
        round(pixel_width(word.text, word.font, size) / 2 + BESIDE * size) if word.on != "banner" else width // 2
    )
    left, right = max(width // 2 - half_width, 0), min(width // 2 + half_width, width)
    return left, max(middle - half_height, 0), right, min(middle + half_height, height)


def letter_edges(word: Word, height: int, width: int) -> list[float]:
    """The left edges of a word's letters, and the right one of the last: fractions of the frame's width."""
    size = font_size(word.text, word.font, height, width, word.slot)
    left, _, right, _ = sign_box(word, height, width)
    begins = [pixel_width(word.text[:count], word.font, size) for count in range(len(word.text) + 1)]
    return [((left + right - begins[-1]) / 2 + begin) / width for begin in begins]


def square_word(word: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """A word's label in a square frame, from that in one of another shape: its box and edges, as fractions."""
    left, top, right, bottom = word["box"]
    edges = np.asarray(word["edges"])
    x, y, size = (left + right) / 2, (top + bottom) / 2, (bottom - top) * height / (2 * TALL)
    spread = (edges - x) * width / size  # in units of the font's size
    low, high = band(word["slot"])
    size = min(HEIGHT * (high - low), WIDTH / (spread[-1] - spread[0]))
    half = 0.5 if word["on"] == "banner" else (spread[-1] - spread[0]) / 2 * size + BESIDE * size
    box = [max(x - half, 0.0), max(y - TALL * size, 0.0), min(x + half, 1.0), min(y + TALL * size, 1.0)]
    return {**word, "box": box, "edges": [float(edge) for edge in x + spread * size]}


def paint_words(picture: UInt8[np.ndarray, "h w 3"], words: Sequence[Word]) -> UInt8[np.ndarray, "h w 3"]:
    """The picture with its words on it."""
    if not words:
        return picture
    height, width = picture.shape[:2]
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for word in words:
        left, top, right, bottom = sign_box(word, height, width)
        size = font_size(word.text, word.font, height, width, word.slot)
        ink, stroke, around = COLOURS[word.colour], 0, None
        if word.on == "sign":
            draw.rounded_rectangle((left, top, right - 1, bottom - 1), size // 4, PLATE, EDGE, max(1, size // 12))
        elif word.on == "banner":
            draw.rectangle((left, top, right - 1, bottom - 1), ink)
            ink = COLOURS["white"]
        else:
            stroke, around = max(1, size // 10), COLOURS["black" if word.colour in LIGHT else "white"]
        middle = (left + right) / 2, (top + bottom) / 2
        draw.text(middle, word.text, ink, load_font(word.font, size), "mm", stroke_width=stroke, stroke_fill=around)
    return np.asarray(image)
