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

from dalle3_jax.evaluation.statistics import Rate, bootstrap, shuffled

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
    """How words of one length were drawn: how many, the share without fault, and the character error rate.

    Prompts weigh the same. What is shuffled is the same of every picture and the words of the other prompts that ask
    for some of this length; None where there is no other.
    """

    words: int
    exact: Rate
    error_rate: Rate
    shuffled_exact: Rate | None
    shuffled_error_rate: Rate | None


def find_ocr() -> Ocr | None:
    """The OCR of this installation, or None if there is none (INSTALL says what to do)."""
    models = find_models("det", "rec")
    return Ocr(f"rapidocr {version('rapidocr')}", _reader(*models)) if models else None


def find_models(*parts: str) -> tuple[Path, ...] | None:
    """RapidOCR's model of each part, the newest it has: "det" finds lines, "rec" reads them. None without one."""
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None or find_spec("onnxruntime") is None:
        return None
    folder = Path(spec.origin).parent / "models"
    found = [sorted(folder.glob(f"*_{part}_*.onnx")) for part in parts]
    return tuple(paths[-1] for paths in found) if all(found) else None


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


def exact(read: Words, wanted: Words) -> bool:
    """Whether the words read are those wanted, letter by letter, in any order.

    What else is read is let pass when it has fewer than two letters of the Latin alphabet: a ring looks like an O, a
    fence like 111.
    """
    left = list(read)
    for word in wanted:
        if word not in left:
            return False
        left.remove(word)
    return all(len(re.findall("[A-Za-z]", word)) < 2 for word in left)


def by_length(results: Iterable[tuple[str, Words, Words]]) -> dict[int, Score]:
    """(prompt, words read, words wanted) of many pictures -> length of a word -> how words of that length were drawn.

    Every word wanted is compared with a word read of its own, so that the edits are fewest; one without such a word is
    missing as a whole. Words that nobody wanted cost nothing here. Of a prompt's pictures the first is shuffled.
    """
    rows = list(results)
    lengths = sorted({len(word) for _, _, wanted in rows for word in wanted})
    return {length: _score([row for row in rows if length in map(len, row[2])], length) for length in lengths}


def _score(rows: Sequence[tuple[str, Words, Words]], length: int) -> Score:
    """How the words of one length were drawn, which every row asks for."""
    pictures: dict[str, list[tuple[Words, Words]]] = defaultdict(list)
    for prompt, read, wanted in rows:
        pictures[prompt].append((read, wanted))
    reads, wanteds = zip(*(pairs[0] for pairs in pictures.values()), strict=True)

    def exactly(read: Words, wanted: Words) -> float:
        return float(np.mean([not error for error in _shares(read, wanted, length)]))

    def wrong(read: Words, wanted: Words) -> float:
        return float(np.mean(_shares(read, wanted, length)))

    tests = exactly, wrong
    means = [[np.mean([test(*pair) for pair in pairs]) for pairs in pictures.values()] for test in tests]
    rates = [bootstrap(np.array(values)) for values in means]
    controls = [shuffled(test, reads, wanteds) if len(reads) > 1 else None for test in tests]
    words = sum(len(word) == length for _, _, wanted in rows for word in wanted)
    return Score(words, *rates, *controls)


def _shares(read: Words, wanted: Words, length: int) -> list[float]:
    """The edits for each letter of every word wanted that is of this length."""
    errors = zip(wanted, _errors(read, wanted), strict=True)
    return [error / length for word, error in errors if len(word) == length]


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
