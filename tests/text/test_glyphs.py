"""Quoted text as bytes: what counts as quoted, and ByT5's ids."""

from time import process_time

import numpy as np
import pytest

from dalle3_jax.models.glyph import BYTE_IDS
from dalle3_jax.text.glyphs import count_glyphs, encode_glyphs, find_quotes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a sign that says "OPEN"', ("OPEN",)),
        ('"one" and "two words", then "3"', ("one", "two words", "3")),
        ("“open” or „offen“ or „open” or «ouvert»", ("open", "offen", "open", "ouvert")),
        ("«ouvert» before “open”", ("ouvert", "open")),
        ('“she says "hi" twice”', ('she says "hi" twice',)),
        ('"the “real” one"', ("the “real” one",)),
        ('"it\'s"', ("it's",)),
        ('" OPEN\t"', ("OPEN",)),
        ('"two\nlines"', ("two\nlines",)),
        ('写着"你好"的牌子', ("你好",)),
        ('"route 66"', ("route 66",)),
        ('a 5" cake and a 6" one say "OPEN"', ("OPEN",)),
    ],
)
def test_what_stands_in_double_quotes_is_quoted(text, words):
    assert find_quotes(text) == words


@pytest.mark.parametrize("text", ["", "a sign", "it's the dogs' day", "'single'", '""', '" "', "“”", '"', "“ ” "])
def test_nothing_else_is_quoted(text):
    assert find_quotes(text) == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('"one" two "three', ("one",)),
        ("“one two", ()),
        ("one” two", ()),
        ("“one “two”", ("two",)),
        ("one” and “two”", ("two",)),
        ('“one"', ()),
        ('"one”', ()),
        ("”one“", ()),
    ],
)
def test_a_mark_without_its_partner_quotes_nothing(text, words):
    assert find_quotes(text) == words


@pytest.mark.parametrize("text", ['"', "“", "„x", '1"', "«“"])
def test_no_text_takes_long(text):
    began = process_time()
    assert len(find_quotes(text * 99_999)) <= 50_000
    assert process_time() - began < 5  # a search that tries every opening mark to the end takes minutes


def test_ids_are_those_of_byt5():
    # transformers' ByT5Tokenizer: tokenizer("Hi é").input_ids == [75, 108, 35, 198, 172, 1], padded with 0
    ids, mask = encode_glyphs(['"Hi é"'], 8)
    assert ids.dtype == np.int32
    assert ids.tolist() == [[75, 108, 35, 198, 172, 1, 0, 0]]
    assert mask.tolist() == [[True] * 6 + [False] * 2]


def test_each_word_ends():
    ids, mask = encode_glyphs(['"A" beside "B"'], 5)
    assert ids.tolist() == [[68, 1, 69, 1, 0]]
    assert mask.tolist() == [[True] * 4 + [False]]


@pytest.mark.parametrize("text", ["", "a panda", "OPEN"])
def test_a_text_without_quotes_is_masked_as_a_whole(text):
    ids, mask = encode_glyphs([text, '"A"'], 4)
    assert not ids[0].any()
    assert not mask[0].any()
    assert mask[1].any()
    assert count_glyphs(text) == 0


def test_only_what_is_quoted_changes_the_ids():
    one, same, other = encode_glyphs(['a red "OPEN" sign', 'beside it, "OPEN"', 'a red "SHUT" sign'], 8)[0]
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("length", [1, 2, 5, 7])
def test_what_does_not_fit_is_cut_before_the_end_of_a_word(length):
    text = '"abc" "defg"'
    whole, _ = encode_glyphs([text], 64)
    ids, mask = encode_glyphs([text], length)
    assert ids[0].tolist() == [*whole[0, : length - 1], 1]
    assert mask.all()


def test_what_fits_exactly_is_not_cut():
    text = '"abc" "défg"'
    assert count_glyphs(text) == 10
    exact, mask = encode_glyphs([text], 10)
    assert mask.all()
    assert exact[0].tolist() == encode_glyphs([text], 11)[0][0, :10].tolist()


def test_every_byte_has_a_row_in_the_encoder():
    ids, _ = encode_glyphs(['"' + "".join(map(chr, range(0x800))) + "\U0010ffff\ud800" + '"'], 5000)
    assert ids[ids > 1].min() >= 3
    assert ids.max() < BYTE_IDS


def test_no_texts_are_no_rows():
    ids, mask = encode_glyphs([], 5)
    assert ids.shape == mask.shape == (0, 5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="list of texts"):
        encode_glyphs('"one"', 8)
    with pytest.raises(ValueError, match="glyph length of 0"):
        encode_glyphs(['"one"'], 0)
