"""Words are compared as a person would spell them out, and the OCR reads true pictures but mends nothing."""

import importlib.util
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from dalle3_jax.evaluation.statistics import Rate
from dalle3_jax.evaluation.words import edit_distance, has_exact_words, scores_by_length
from dalle3_jax.reading.ocr import Ocr, find_ocr

INK, PLATE, GROUND = (214, 36, 40), (252, 250, 242), (90, 150, 200)
TRUE = ("owl", "OPEN", "Market", "ELEPHANT", "Adventure")
MISSPELT = ("owwl", "OPNE", "Narket", "ELEPHNT", "Adventvre", "Marlet", "OEN", "ELEPHAMT", "Advanture", "Markket")


def picture(*words: str, height: int = 128, width: int = 128, letters: int = 14) -> np.ndarray:
    """Words on plates, one below the other, in capitals of `letters` pixels."""
    image = Image.new("RGB", (width, height), GROUND)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(round(letters / 0.72))
    for row, word in enumerate(words):
        middle = (width / 2, height * (row + 0.5) / len(words))
        left, top, right, bottom = draw.textbbox(middle, word, font, "mm")
        draw.rectangle((left - 5, top - 5, right + 5, bottom + 5), PLATE)
        draw.text(middle, word, INK, font, "mm")
    return np.asarray(image)


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    found = find_ocr()
    assert found, "the tests need the extra eval, which dev holds"
    return found


def fake(*lines: str) -> Ocr:
    return Ocr("fake", lambda image: list(lines))


def test_true_words_are_read_as_they_are_drawn(ocr: Ocr) -> None:
    assert [ocr.read(picture(word)) for word in TRUE] == [(word,) for word in TRUE]


def test_two_words_are_read_from_the_top_down(ocr: Ocr) -> None:
    assert ocr.read(picture("MARKET", "owl")) == ("MARKET", "owl")
    assert ocr.read(picture("TEA SHOP")) == ("TEA", "SHOP")


def test_misspelt_words_are_not_mended(ocr: Ocr) -> None:
    """Each differs by one letter (changed, left out, doubled) or two exchanged from a word that would be wanted."""
    assert [ocr.read(picture(word)) for word in MISSPELT] == [(word,) for word in MISSPELT]


def test_a_picture_without_letters_has_no_words(ocr: Ocr) -> None:
    assert ocr.read(picture()) == ()
    assert ocr.read(np.random.default_rng(0).integers(256, size=(64, 96, 3), dtype=np.uint8)) == ()


def test_larger_and_oblong_pictures_are_read_as_well(ocr: Ocr) -> None:
    assert ocr.read(picture("Adventure", height=256, width=512, letters=40)) == ("Adventure",)


def test_colours_are_not_exchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rapidocr", reason="no OCR is installed")
    seen = []

    class Engine:
        txts = None

        def __init__(self, **settings: object) -> None:
            pass

        def __call__(self, image: np.ndarray) -> "Engine":
            seen.append(image)
            return self

    monkeypatch.setattr("rapidocr.RapidOCR", Engine)
    found = find_ocr()
    assert found is not None
    assert found.read(picture("owl")) == ()
    assert seen[0][0, 0].tolist() == list(GROUND[::-1])


def test_reading_needs_no_network(ocr: Ocr, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*where: object) -> None:
        raise AssertionError(f"went to the network: {where}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = find_ocr()
    assert found is not None
    assert found.read(picture("Market")) == ("Market",)
    assert found.name.startswith("rapidocr ")


@pytest.mark.parametrize("absent", ["rapidocr", "onnxruntime"])
def test_without_its_libraries_there_is_no_ocr(absent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("dalle3_jax.reading.ocr.find_spec", lambda name: None if name == absent else find(name))
    assert find_ocr() is None


def test_without_models_in_the_wheel_there_is_no_ocr(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("rapidocr", tmp_path / "__init__.py")
    monkeypatch.setattr("dalle3_jax.reading.ocr.find_spec", lambda name: spec)
    assert find_ocr() is None


def test_lines_become_words_without_what_stands_around_them() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    assert fake("[TUNA]", "Tea  shop)", "·don't", "—", "_x_").read(image) == ("TUNA", "Tea", "shop", "don't", "x")


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (["OPEN"], ["OPEN"]),
        (["owl", "OPEN"], ["OPEN", "owl"]),
        (["OPEN", "O", "111", "7A"], ["OPEN"]),
        (["we", "we"], ["we", "we"]),
        ([], []),
        (["O"], []),
    ],
)
def test_the_words_wanted_and_no_others_are_exact(read: list[str], wanted: list[str]) -> None:
    assert has_exact_words(read, wanted)


@pytest.mark.parametrize(
    ("read", "wanted"),
    [
        (["OPNE"], ["OPEN"]),
        (["Open"], ["OPEN"]),
        ([], ["OPEN"]),
        (["OPEN", "owl"], ["OPEN"]),
        (["OPEN", "OPEN"], ["OPEN"]),
        (["we"], ["we", "we"]),
        (["OP", "EN"], ["OPEN"]),
        (["OPENED"], ["OPEN"]),
        (["at"], []),
    ],
)
def test_anything_else_is_not_exact(read: list[str], wanted: list[str]) -> None:
    assert not has_exact_words(read, wanted)


@pytest.mark.parametrize(
    ("one", "two", "count"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("open", "opne", 2), ("abc", "abc", 0)],
)
def test_edits_are_the_levenshtein_distance(one: str, two: str, count: int) -> None:
    assert edit_distance(one, two) == edit_distance(two, one) == count


def rates(*results: tuple[str, tuple[str, ...], tuple[str, ...]]) -> dict[int, tuple[float, float]]:
    """Length -> the share that is exact, and the character error rate."""
    return {length: (score.exact.value, score.error_rate.value) for length, score in scores_by_length(results).items()}


def test_the_best_assignment_counts() -> None:
    assert rates(("a", ("owl", "opem"), ("open", "owl"))) == {3: (1, 0), 4: (0, 1 / 4)}
    # The nearest word of "aab" would be "aaa" too; only one of them may have it.
    assert rates(("a", ("aaa", "zzzzz"), ("aaa", "aab"))) == {3: (0.5, 0.5)}


def test_a_missing_word_counts_wholly_and_the_rate_is_at_most_one() -> None:
    assert rates(("a", (), ("open", "owl"))) == {3: (0, 1), 4: (0, 1)}
    assert rates(("a", ("somethingelse",), ("owl",))) == {3: (0, 1)}
    assert rates(("a", ("open", "more"), ("open",))) == {4: (1, 0)}
    assert rates(("a", ("Zoo",), ("ZOO",))) == {3: (0, pytest.approx(2 / 3))}


def test_the_table_has_every_length_by_itself() -> None:
    assert rates(("a", ("owl", "opem"), ("open", "owl")), ("b", ("fax",), ("fox",)), ("c", ("x",), ())) == {
        3: (0.5, pytest.approx(1 / 6)),
        4: (0.0, 1 / 4),
    }
    assert scores_by_length([]) == {}


def test_rates_of_words_have_intervals_over_prompts_and_a_shuffled_control() -> None:
    drawn = [(str(number), (word,), (word,)) for number, word in enumerate(("fox", "cat", "elm", "sky"))]
    missed = [(f"{name} missed", (), wanted) for name, _, wanted in drawn]
    score = scores_by_length([*drawn, *missed])[3]
    assert score.words == score.exact.prompts == 8
    assert score.exact.low < score.exact.value == 0.5 < score.exact.high
    assert score.error_rate.low < score.error_rate.value == 0.5 < score.error_rate.high
    assert score.shuffled_exact is not None
    assert score.shuffled_error_rate is not None
    assert score.shuffled_exact.value == pytest.approx(4 / 56)  # each word once more, as another prompt's
    assert score.shuffled_error_rate.value > 0.9


def test_pictures_of_one_prompt_are_drawn_again_together_and_have_nothing_to_be_shuffled_with() -> None:
    score = scores_by_length([("a", ("fox",), ("fox",)), ("a", (), ("fox",))])[3]
    assert (score.words, score.exact, score.shuffled_exact) == (2, Rate(0.5, 0.5, 0.5, 1), None)
