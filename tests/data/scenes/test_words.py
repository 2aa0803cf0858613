"""Drawn words: where they stand, how large their letters are, and where they do not fit."""

from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.data.scenes import FIRST, WHOLE, check_words, record_labels, render_scene, sample_scene, world_of
from dalle3_jax.data.scenes.lettering import FONTS, INKS, SLOTS, Word, choose_case, sample_words
from dalle3_jax.data.scenes.record import square_labels
from dalle3_jax.data.scenes.signs import COLOURS, font_size, letter_edges, paint_words, sign_box

SIZES = [(128, 128), (128, 224), (224, 128), (256, 256)]
SPOKEN = [shown for index in range(300) if (shown := sample_scene(WHOLE, 5, index)).words]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_words_cover_their_labelled_boxes_and_nothing_else(height, width):
    for shown in SPOKEN[:60]:
        changed = (
            render_scene(WHOLE, shown, height, width) != render_scene(WHOLE, replace(shown, words=()), height, width)
        ).any(2)
        outside = changed.copy()
        for word in record_labels(WHOLE, shown, height, width)["words"]:
            assert 0 <= min(word["box"]) <= max(word["box"]) <= 1
            left, top, right, bottom = (
                round(f * side) for f, side in zip(word["box"], (width, height) * 2, strict=True)
            )
            inked = changed[top:bottom, left:right]
            assert inked.mean() > (0.95 if word["on"] != "free" else 0.2)
            for edge in (
                inked[:, : inked.shape[1] // 2],
                inked[:, inked.shape[1] // 2 :],
                inked[: inked.shape[0] // 2],
            ):
                assert edge.any()  # the word fills its box, on all sides of the middle
            rim = -(-height // 64) if word["on"] == "free" else 0  # of letters that hang low, in their outlines
            outside[max(top - rim, 0) : bottom + rim, max(left - rim, 0) : right + rim] = False
        assert not outside.any()


@pytest.mark.parametrize("on", INKS)
@pytest.mark.parametrize("font", FONTS)
def test_letters_of_every_font_stay_within_their_box_in_their_colour(font, on):
    grey = np.full((128, 128, 3), 120, np.uint8)
    for text in ("Jjg", "MARSHMALLOW", "skyline"):
        for slot in SLOTS:
            word = Word(text, slot, on, INKS[on][0], font)
            left, top, right, bottom = sign_box(word, 128, 128)
            picture = paint_words(grey, [word])
            outside = (picture != 120).any(2)
            rim = on == "free"
            outside[max(top - rim, 0) : bottom + rim, max(left - rim, 0) : right + rim] = False
            assert not outside.any(), (text, slot)
            inside = picture[top:bottom, left:right].astype(int)
            for colour in (word.colour, *(("white",) if on == "banner" else ())):
                assert (np.abs(inside - COLOURS[colour]).max(2) < 24).mean() > 0.02
            assert (top + bottom) / 2 == pytest.approx(128 * (0.14 if slot == "top" else 0.86), abs=1.5)


def test_another_word_colour_or_font_is_another_picture():
    grey, word = np.full((128, 128, 3), 120, np.uint8), Word("Tea", "top", "sign", "black", "Lato")
    others = [
        replace(word, text="Ten"),
        replace(word, colour="red"),
        replace(word, font="Oswald"),
        replace(word, on="free"),
    ]
    pictures = [paint_words(grey, [each]) for each in (word, *others, replace(word, slot="bottom"))]
    assert len({picture.tobytes() for picture in pictures}) == 6
    assert (grey == 120).all()


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_no_letters_are_smaller_than_the_least(height, width):
    check_words(WHOLE, height, width)
    sizes = [font_size(word.text, word.font, height, width) for shown in SPOKEN for word in shown.words]
    assert min(sizes) >= WHOLE.lettering.smallest
    assert max(sizes) <= 0.19 * height


def test_the_least_size_is_that_of_the_widest_word_in_capitals():
    sizes = [font_size(text.upper(), font, 128, 128) for text in WHOLE.lettering.words for font in FONTS]
    exact = replace(WHOLE, lettering=replace(WHOLE.lettering, smallest=min(sizes)))
    check_words(exact, 128, 128)
    with pytest.raises(ValueError, match=f"letters of {min(sizes)} pixels, and fewer than {min(sizes) + 1}"):
        check_words(replace(exact, lettering=replace(exact.lettering, smallest=min(sizes) + 1)), 128, 128)


def test_words_that_do_not_fit_are_refused_with_remedies():
    with pytest.raises(ValueError, match=r"'whole' do not fit 64x64: \"[a-z]+\" .*larger.*longest_word.*words = 0"):
        check_words(WHOLE, 64, 64)
    with pytest.raises(ValueError, match="do not fit 96x128"):
        check_words(WHOLE, 128, 96)
    check_words(world_of({"longest_word": 7}), 128, 96)
    check_words(world_of({"words": 0}), 64, 64)
    check_words(FIRST, 32, 32)


def test_two_words_are_different_and_stand_above_each_other():
    lettering = replace(WHOLE.lettering, words=("tea", "ten", "toy"), chances=(0.0, 0.0, 1.0))
    pairs = [sample_words(lettering, index) for index in range(300)]
    assert {tuple(word.slot for word in pair) for pair in pairs} == {SLOTS}
    assert all(first.text.lower() != second.text.lower() for first, second in pairs)
    assert len({word.text.lower() for pair in pairs for word in pair}) == 3
    assert {word.font for pair in pairs for word in pair} == set(FONTS)
    assert {(word.on, word.colour) for pair in pairs for word in pair} == {(on, ink) for on in INKS for ink in INKS[on]}


def test_words_come_in_capitals_with_a_capital_and_small():
    drawn = [choose_case("tea", index) for index in range(1_000)]
    shares = {text: drawn.count(text) / 1_000 for text in set(drawn)}
    assert shares == pytest.approx({"TEA": 0.5, "Tea": 0.25, "tea": 0.25}, abs=0.05)


@pytest.mark.parametrize("index", range(4))
def test_a_letter_is_inked_between_its_edges(index):
    word, other = (
        Word(text, "top", "sign", "black", "SpaceMono") for text in ("MMMM", "MMMM"[:index] + "i" + "MMM"[index:])
    )
    blank = np.full((128, 128, 3), 200, np.uint8)
    changed = (paint_words(blank, [word]) != paint_words(blank, [other])).any(axis=(0, 2))
    edges = np.array(letter_edges(word, 128, 128)) * 128
    assert len(edges) == 5
    columns = np.flatnonzero(changed)
    assert edges[index] - 1 <= columns[0] < columns[-1] <= edges[index + 1] + 1
    np.testing.assert_allclose((edges[0] + edges[-1]) / 2, 64, atol=1)


@pytest.mark.parametrize(("height", "width"), [(96, 176), (176, 96), (256, 512), (128, 128)])
def test_labels_of_any_frame_say_where_things_stand_in_a_square_one(height, width):
    side = 128
    grid = 8 / side + 8 / min(height, width)  # boxes are whole pixels, and stand and end on the worlds' grids
    for shown in SPOKEN[:60]:
        expected = record_labels(WHOLE, shown, side, side)
        squared = square_labels(record_labels(WHOLE, shown, height, width), height, width)
        assert squared.keys() == expected.keys()
        for kind in ("objects", "words"):
            for one, other in zip(squared[kind], expected[kind], strict=True):
                np.testing.assert_allclose(one["box"], other["box"], atol=grid)
                assert {**one, "box": 0, "edges": 0} == {**other, "box": 0, "edges": 0}
        for one, other in zip(squared["words"], expected["words"], strict=True):
            np.testing.assert_allclose(one["edges"], other["edges"], atol=grid)
