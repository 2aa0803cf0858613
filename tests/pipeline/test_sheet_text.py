"""Text on sheets: letters that no font has leave no trace, others come from the fonts that have them."""

from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from dalle3_jax.pipeline import sheet_text
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.sheet_text import draw_text, printable_text, text_width, wrap_text

SIZE = 15
COMMA = "\N{FULLWIDTH COMMA}"
MADE = f"熊猫海滩{COMMA}"


@pytest.fixture(params=["no font", "a font"])
def fonts(request, monkeypatch, tmp_path):
    """Machines without a font of another script, and with one that has the letters of `MADE`."""
    monkeypatch.setattr(sheet_text, "FALLBACKS", () if request.param == "no font" else (write_font(tmp_path),))
    for cached in (sheet_text.sheet_fonts, sheet_text.font_of):
        cached.cache_clear()
    yield request.param
    for cached in (sheet_text.sheet_fonts, sheet_text.font_of):
        cached.cache_clear()


def write_font(folder: Path) -> str:
    """A font whose letters are filled squares as wide as high, and whose missing one is a low box."""

    def square(side: int, height: int):
        pen = TTGlyphPen(None)
        pen.moveTo((100, 0))
        for point in ((100, height), (side, height), (side, 0)):
            pen.lineTo(point)
        pen.closePath()
        return pen.glyph()

    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(letter): "square" for letter in MADE})
    builder.setupGlyf({".notdef": square(900, 300), "square": square(900, 800)})
    builder.setupHorizontalMetrics({".notdef": (1000, 100), "square": (1000, 100)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(folder / "squares.ttf")
    return str(folder / "squares.ttf")


def drawn(text: str) -> np.ndarray:
    page = Image.new("RGB", (300, 30), (255, 255, 255))
    draw_text(page, (4, 4), text, (0, 0, 0), SIZE)
    return np.asarray(page)


def test_letters_without_a_font_are_left_out_and_blanks_close_up(fonts):
    for text, kept in {
        "a 龘 cat": "a cat",
        "\U0001f43c on a beach": "on a beach",
        "b\x1b\x07o\u200dx\ufe0f": "box",
        "龘": "",
    }.items():
        assert printable_text(text, SIZE) == kept
        np.testing.assert_array_equal(drawn(printable_text(text, SIZE)), drawn(kept))
    assert (drawn("龘") == 255).all()  # even where nobody has asked what can be printed


def test_letters_of_another_script_are_drawn_where_a_font_has_them(fonts):
    there = fonts == "a font"
    assert printable_text("a 熊猫 here", SIZE) == ("a 熊猫 here" if there else "a here")
    assert text_width("熊猫", SIZE) == (2 * SIZE if there else 0)
    assert bool((drawn("熊猫") < 128).any()) == there


def test_lines_break_between_words_and_between_wide_letters(fonts):
    assert wrap_text("one two three", SIZE, round(text_width("one two", SIZE)) + 1) == ["one two", "three"]
    assert wrap_text("incomprehensible", SIZE, 20) == ["incomprehensible"]
    if fonts == "a font":
        assert wrap_text("熊猫海滩熊猫海", SIZE, 3 * SIZE) == ["熊猫海", "滩熊猫", "海"]
        assert wrap_text(f"熊猫海{COMMA}滩", SIZE, 3 * SIZE) == ["熊猫", f"海{COMMA}滩"]  # a comma begins no line
        assert wrap_text("熊猫 ab", SIZE, 300) == ["熊猫 ab"]
    else:
        assert wrap_text("熊猫海滩", SIZE, 300) == ["..."]
    assert wrap_text(" ", SIZE, 300) == []


def test_a_sheet_of_any_prompt_holds_no_box(fonts):
    sheets = [
        draw_sheet([SheetCell(Image.new("RGB", (32, 32)), (SheetLine(text),))], columns=1, width=96, title=text)
        for text in ("cat \U0001f408 龘", "cat")
    ]
    np.testing.assert_array_equal(*map(np.asarray, sheets))
