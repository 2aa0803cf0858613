"""Reads the words drawn in a picture with an OCR that nobody here trained, and compares them with those asked for.

RapidOCR (PP-OCR on onnxruntime; its models lie in its wheel) finds the lines of letters and reads each by itself, with
no dictionary that would mend a misspelt word.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

DETAIL = 384  # pixels of the shorter side at which lines are looked for, at least
CERTAIN = 0.8  # of a line's certainty in [0, 1]: waves and windows are read as letters too, but with less
EDGE = re.compile(r"^[\W_]+|[\W_]+$")  # the sides of a plate are read as brackets
INSTALL = 'no OCR is installed, so drawn words are not measured: pip install "dalle3_jax[eval]"'

Words = Sequence[str]


@dataclass(frozen=True)
class Ocr:
    """An OCR: its name with its version, and `lines`, which reads a picture's lines of letters from the top down."""

    name: str
    lines: Callable[[UInt8[np.ndarray, "h w 3"]], list[str]]

    def read(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[str, ...]:
        """The words in an RGB picture, in reading order, spelt as they are drawn, without punctuation around them."""
        words = (EDGE.sub("", word) for line in self.lines(image) for word in line.split())
        return tuple(word for word in words if word)


class Score(NamedTuple):
    """How words of one length were drawn: how many, the share without fault, and the character error rate."""

    words: int
    exact: float
    error_rate: float


def find_ocr() -> Ocr | None:
    """The OCR of this installation, or None if there is none (INSTALL says what to do)."""
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None or find_spec("onnxruntime") is None:
        return None
    models = Path(spec.origin).parent / "models"
    found = [sorted(models.glob(f"*_{part}_*.onnx")) for part in ("det", "rec")]
    if not all(found):
        return None
    return Ocr(f"rapidocr {version('rapidocr')}", _reader(*(paths[-1] for paths in found)))


def _reader(detection: Path, recognition: Path) -> Callable[[UInt8[np.ndarray, "h w 3"]], list[str]]:
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Det.model_path": str(detection),  # with their paths given, models are never downloaded
            "Rec.model_path": str(recognition),
            "Det.limit_side_len": DETAIL,
            "Global.text_score": CERTAIN,
            "Global.use_cls": False,  # letters stand upright
            "Global.log_level": "critical",
        }
    )

    def lines(image: UInt8[np.ndarray, "h w 3"]) -> list[str]:
        found = engine(np.ascontiguousarray(image[..., ::-1]))  # it takes BGR
        return list(getattr(found, "txts", None) or ())  # lines without a letter give another class

    return lines


def exact(read: Words, wanted: Words, *, fold: bool = False) -> bool:
    """Whether the words read are those wanted, letter by letter, in any order.

    What else is read is let pass when it has fewer than two letters of the Latin alphabet: a ring looks like an O, a
    fence like 111. With `fold`, capitals equal small letters.
    """
    left = _folded(read, fold)
    for word in _folded(wanted, fold):
        if word not in left:
            return False
        left.remove(word)
    return all(len(re.findall("[A-Za-z]", word)) < 2 for word in left)


def character_error_rate(read: Words, wanted: Words, *, fold: bool = False) -> float:
    """The edits from the words wanted to those read, as a share of the letters wanted, from 0 to 1.

    Every word wanted is compared with a word read of its own, so that the edits are fewest; one without such a word is
    missing as a whole. Words that nobody wanted cost nothing here. Raises ValueError when no letter is wanted.
    """
    letters = sum(map(len, wanted))
    if not letters:
        raise ValueError(f"no letter is wanted in {list(wanted)}: leave pictures without words out of this rate")
    return sum(_errors(_folded(read, fold), _folded(wanted, fold))) / letters


def by_length(results: Iterable[tuple[Words, Words]], *, fold: bool = False) -> dict[int, Score]:
    """(words read, words wanted) of many pictures -> length of a word -> how words of that length were drawn."""
    errors: dict[int, list[int]] = defaultdict(list)
    for read, wanted in results:
        for word, error in zip(wanted, _errors(_folded(read, fold), _folded(wanted, fold)), strict=True):
            errors[len(word)].append(error)
    return {
        length: Score(len(found), found.count(0) / len(found), sum(found) / (length * len(found)))
        for length, found in sorted(errors.items())
    }


def edits(one: str, two: str) -> int:
    """The Levenshtein distance: letters put in, left out or exchanged."""
    row = list(range(len(two) + 1))
    for i, letter in enumerate(one, 1):
        above, row = row, [i]
        for j, other in enumerate(two, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
    return row[-1]


def _errors(read: Words, wanted: Words) -> list[int]:
    """The edits that each word wanted needs, under the assignment of words read that needs fewest."""
    from scipy.optimize import linear_sum_assignment

    costs = [[min(edits(word, other), len(word)) for other in read] + [len(word)] * len(wanted) for word in wanted]
    return [costs[row][at] for row, at in zip(*linear_sum_assignment(costs), strict=True)] if wanted else []


def _folded(words: Words, fold: bool) -> list[str]:
    return [word.casefold() for word in words] if fold else list(words)
