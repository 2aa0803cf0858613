"""Text on sheets in whatever script it is: each letter in the first font that has it, and none as an empty box.

Pillow's own font has Latin letters alone. Chinese, Japanese, Korean, emoji and symbols are drawn where the machine has
a font for them, and are left out where it has none.
"""

import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_text", "printable_text", "text_width", "wrap_text"]

FALLBACKS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "NotoSansSC-Regular.otf", "SourceHanSansSC-Regular.otf"),
    *("wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf"),  # Linux
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "STHeiti Light.ttc", "AppleSDGothicNeo.ttc"),  # macOS
    *("msyh.ttc", "simsun.ttc", "YuGothR.ttc", "malgun.ttf"),  # Windows
    *("NotoColorEmoji.ttf", "Apple Color Emoji.ttc", "seguiemj.ttf", "DejaVuSans.ttf"),
)
"""Fonts by the names of their files, which Pillow looks for where the system keeps its fonts."""

BITMAP_SIZES = 109, 160, 96, 64  # pixels at which fonts of pictures exist: Noto's emoji, then Apple's
NOTHING = "\U0010fffe"  # a code point that never has a letter: every font answers with what it draws instead
SKIN_TONES = range(0x1F3FB, 0x1F400)

Colour = tuple[int, int, int]


class SheetFont(NamedTuple):
    """A font, how much its letters are scaled on a sheet, and whether they are pictures with colours of their own."""

    font: ImageFont.FreeTypeFont
    scale: float = 1.0
    colours: bool = False


def draw_text(page: Image.Image, position: tuple[int, int], text: str, colour: Colour, size: int) -> None:
    """Draw one line on a page from its top left corner."""
    x, y = float(position[0]), position[1]
    baseline = y + sheet_fonts(size)[0].font.getmetrics()[0]
    for font, part in text_runs(text, size):
        if font.scale == 1.0:
            ImageDraw.Draw(page).text((x, baseline), part, colour, font.font, anchor="ls", embedded_color=font.colours)
        else:
            paste_scaled(page, (round(x), y), part, font, size)
        x += font.font.getlength(part) * font.scale


def paste_scaled(page: Image.Image, position: tuple[int, int], text: str, font: SheetFont, size: int) -> None:
    """Draw letters that exist at another size only."""
    _, top, right, bottom = font.font.getbbox(text)
    width, height = max(1, round(right)), max(1, round(bottom - top))
    tile = Image.new("RGBA", (width, height))
    ImageDraw.Draw(tile).text((0, -top), text, (0, 0, 0), font.font, embedded_color=True)
    small = tile.resize((max(1, round(width * font.scale)), max(1, round(height * font.scale))), Image.Resampling.BOX)
    page.paste(small, (position[0], position[1] + max(0, (round(1.2 * size) - small.height) // 2)), small)


def text_width(text: str, size: int) -> float:
    """The width of a line in pixels."""
    return sum((font.font.getlength(part) * font.scale for font, part in text_runs(text, size)), start=0.0)


def wrap_text(text: str, size: int, width: int) -> list[str]:
    """Break a text into lines of at most `width` pixels: between words, and between Chinese and Japanese letters.

    A word that is wider than that stands alone. Of a text that no font here has a letter of, "..." is left.
    """
    lines: list[str] = []
    for blank, part in breakable_parts(printable_text(text, size)):
        longer = f"{lines[-1]}{blank}{part}" if lines else part
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(part)
    return lines or (["..."] if text.strip() else [])


def printable_text(text: str, size: int) -> str:
    """The text without letters that no font here has, and without what would be drawn as a box."""
    kept = (" " if letter.isspace() else letter for letter in unicodedata.normalize("NFC", text))
    return " ".join("".join(letter for letter in kept if letter == " " or font_of(letter, size) is not None).split())


def breakable_parts(text: str) -> Iterator[tuple[str, str]]:
    """(what stands before it on the same line, part): words, and of wide scripts every letter by itself."""
    for word in text.split():
        parts: list[str] = []
        for wide, letters in groupby(word, key=is_wide):
            for part in letters if wide else ["".join(letters)]:
                if wide and parts and unicodedata.category(part) in ("Po", "Pe", "Pf"):  # these begin no line
                    parts[-1] += part
                else:
                    parts.append(part)
        yield from zip((" ", *[""] * len(parts)), parts, strict=False)


def is_wide(letter: str) -> bool:
    """Whether a letter is as wide as high, as in scripts that put no blanks between words."""
    return unicodedata.east_asian_width(letter) in "WF"


def text_runs(text: str, size: int) -> Iterator[tuple[SheetFont, str]]:
    """The text in parts of one font each; what no font has is not among them."""
    fonts = sheet_fonts(size)
    known = [(letter, 0 if letter == " " else font_of(letter, size)) for letter in text]
    for index, letters in groupby((pair for pair in known if pair[1] is not None), key=lambda pair: pair[1]):
        yield fonts[index or 0], "".join(letter for letter, _ in letters)


@lru_cache(maxsize=4096)
def font_of(letter: str, size: int) -> int | None:
    """The number of the first font that has a letter; None where none has it, or it is no letter by itself."""
    if unicodedata.category(letter) in ("Cf", "Cc", "Cs", "Co", "Cn") or ord(letter) in SKIN_TONES:
        return None
    if 0xFE00 <= ord(letter) <= 0xFE0F:  # how the letter before is to look
        return None
    return next((i for i, font in enumerate(sheet_fonts(size)) if has_letter(font, letter)), None)


def has_letter(font: SheetFont, letter: str) -> bool:
    """Whether a font draws a letter otherwise than what it does not know."""
    seen = letter_image(font, letter)
    return seen.getbbox() is not None and seen != letter_image(font, NOTHING)


def letter_image(font: SheetFont, letter: str) -> Image.Image:
    """A letter as a font draws it, on nothing."""
    left, top, right, bottom = font.font.getbbox(letter)
    tile = Image.new("RGBA", (max(1, round(right - left)), max(1, round(bottom - top))))
    ImageDraw.Draw(tile).text((-left, -top), letter, (0, 0, 0), font.font, embedded_color=font.colours)
    return tile


@lru_cache(maxsize=8)
def sheet_fonts(size: int) -> tuple[SheetFont, ...]:
    """Pillow's own font, and those of `FALLBACKS` that are on this machine."""
    fallbacks = (open_font(name, size) for name in FALLBACKS)
    first = ImageFont.load_default(size)
    assert isinstance(first, ImageFont.FreeTypeFont)  # as every build of Pillow with FreeType gives it
    return SheetFont(first), *(font for font in fallbacks if font is not None)


def open_font(name: str, size: int) -> SheetFont | None:
    """A font of the system at a size, or scaled from one that it has; None where there is none."""
    colours = "emoji" in name.lower() or name == "seguiemj.ttf"
    for actual in (size, *BITMAP_SIZES) if colours else (size,):
        try:
            return SheetFont(ImageFont.truetype(name, actual), size / actual, colours)
        except OSError:  # not there, or not at this size
            continue
    return None
