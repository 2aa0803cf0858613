"""Words whose places are known are read as they are drawn, each by itself, and nothing is mended."""

from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.data.scenes.lettering import FONTS, Word
from dalle3_jax.data.scenes.record import box_fractions
from dalle3_jax.data.scenes.signs import font_size as drawn_size
from dalle3_jax.data.scenes.signs import paint_words, sign_box
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.reading.word_reader import (
    LetteredWord,
    WordReader,
    crop_word,
    find_word_reader,
    letter_size,
    record_words,
)


@pytest.fixture(scope="module")
def reader() -> WordReader:
    found = find_word_reader()
    assert found, "the tests need the extra eval, which dev holds"
    return found


def picture(*words: Word, side: int = 128) -> tuple[np.ndarray, list[LetteredWord]]:
    """A picture with these words, and where they stand."""
    image = paint_words(np.full((side, side, 3), (90, 150, 200), np.uint8), words)
    boxes = [box_fractions(sign_box(word, side, side), side, side) for word in words]
    return image, [LetteredWord(word.text, tuple(box)) for word, box in zip(words, boxes, strict=True)]


UPPER = Word("MARKET", "top", "sign", "red", "Lato")
LOWER = Word("owl", "bottom", "banner", "blue", "FredokaOne")


def test_true_words_of_held_out_scenes_are_read(reader: WordReader) -> None:
    source = ScenesSource({"of": "whole", "words": 1.0}, seed=1, split="held_out")
    records = [source[index] for index in range(12)]
    wanted = [tuple(word.text for word in record_words(record)) for record in records]
    assert sum(map(len, wanted)) > 6
    assert [reader.read(record.image, record_words(record)) for record in records] == wanted


def test_words_are_read_in_the_order_of_their_boxes(reader: WordReader) -> None:
    image, words = picture(UPPER, LOWER)
    assert reader.read(image, words) == ("MARKET", "owl")
    assert reader.read(image, words[::-1]) == ("owl", "MARKET")
    assert reader.read(image, []) == ()


def test_what_stands_there_counts_and_not_what_should(reader: WordReader) -> None:
    image, _ = picture(replace(UPPER, text="MARKFT"))
    _, words = picture(UPPER)
    assert reader.read(image, words) == ("MARKFT",)


def test_a_box_without_letters_has_no_word(reader: WordReader) -> None:
    _, words = picture(UPPER)
    assert reader.read(picture()[0], words) == ("",)


def test_larger_pictures_are_read_as_well(reader: WordReader) -> None:
    assert reader.read(*picture(UPPER, LOWER, side=384)) == ("MARKET", "owl")


def test_punctuation_around_a_word_is_no_part_of_it() -> None:
    """The rims of plates are read as brackets."""
    image, words = picture(UPPER)
    assert WordReader("fake", lambda image: '["MARKET]').read(image, words) == ("MARKET",)
    assert WordReader("fake", lambda image: "MAR-KET.").read(image, words) == ("MAR-KET",)


def test_the_window_is_the_box_without_its_rim() -> None:
    image = np.arange(100 * 200 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 200, 3)
    np.testing.assert_array_equal(crop_word(image, (0.1, 0.2, 0.6, 0.7)), image[25:65, 25:115])


def test_colours_are_not_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidocr", reason="no OCR is installed")
    shown = []

    class Engine:
        txts = ("owl",)

        def __init__(self, **_) -> None:
            pass

        def recognize_txt(self, images: list[np.ndarray]) -> "Engine":
            shown.extend(images)
            return self

    monkeypatch.setattr("rapidocr.RapidOCR", Engine)
    image = np.broadcast_to(np.array([214, 36, 40], np.uint8), (32, 32, 3))
    found = find_word_reader()
    assert found
    assert found.read(image, [LetteredWord("owl", (0.0, 0.0, 1.0, 1.0))]) == ("owl",)
    assert shown[0][0, 0].tolist() == [40, 36, 214]


def test_the_size_of_letters_is_known_from_their_box() -> None:
    for side in (128, 192, 256, 384):
        for font in FONTS:
            for text in ("owl", "MARKET", "ELEPHANT"):
                word = Word(text, "bottom", "free", "red", font)
                [lettered] = picture(word, side=side)[1]
                assert abs(letter_size(lettered, side) - drawn_size(text, font, side, side)) <= 0.75


def test_without_an_ocr_there_is_no_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalle3_jax.reading.ocr.find_spec", lambda name: None)
    assert find_word_reader() is None
