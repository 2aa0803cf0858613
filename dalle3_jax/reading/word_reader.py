"""Reads words whose places are known: only how they are spelt is asked, in a fraction of a whole OCR's time.

RapidOCR's recogniser, the same that `ocr.find_ocr` uses, is shown each word by itself. Nothing is looked for, so that
of a word which cannot be read the spelling counts, and not whether anything looked like letters.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.data.records import Record
from dalle3_jax.reading.ocr import EDGE, find_ocr_models

__all__ = ["LetteredWord", "WordReader", "find_word_reader", "letter_size", "record_words"]

INSET = 0.1  # of a box's height, on every side: the rims of plates and the corners outside them are read as letters
HALF_HEIGHT = 0.68  # of the letters' size: of the box that `scenes.signs.sign_box` gives a word

ImageArray = UInt8[np.ndarray, "h w 3"]


class LetteredWord(NamedTuple):
    """A word as it is drawn, and its box (left, top, right, bottom) in fractions of the frame."""

    text: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class WordReader:
    """A recogniser: its name with its version, and `recognise`, which spells the one line in an RGB picture."""

    name: str
    recognise: Callable[[ImageArray], str]

    def read(self, image: ImageArray, words: Sequence[LetteredWord]) -> tuple[str, ...]:
        """The text in the box of each word, spelt as it is drawn, without punctuation around it."""
        return tuple(EDGE.sub("", self.recognise(crop_word(image, word.box))) for word in words)


def find_word_reader() -> WordReader | None:
    """The recogniser of this installation, or None if there is none (ocr.INSTALL says what to do)."""
    models = find_ocr_models("rec")
    return WordReader(f"rapidocr {version('rapidocr')}, recognition", _recogniser(*models)) if models else None


def _recogniser(model: Path) -> Callable[[ImageArray], str]:
    from rapidocr import RapidOCR

    engine = RapidOCR(
        params={
            "Rec.model_path": str(model),  # with its path given, the model is never downloaded
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,  # a word is small: more wait for each other most
            "Global.log_level": "critical",
        }
    )

    def recognise(image: ImageArray) -> str:
        # By itself: in a batch the widest word would decide what the others are padded to, and so how they are read.
        output = engine.recognize_txt([np.ascontiguousarray(image[..., ::-1])])  # it takes BGR
        return (output.txts or ("",))[0]

    return recognise


def crop_word(image: ImageArray, box: Sequence[float]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The part of a picture that a word's box covers, without its rim."""
    height, width = image.shape[:2]
    left, top, right, bottom = (round(at * side) for at, side in zip(box, (width, height) * 2, strict=True))
    inset = round(INSET * (bottom - top))
    return image[top + inset : bottom - inset, left + inset : right - inset]


def record_words(record: Record) -> tuple[LetteredWord, ...]:
    """The words that a record's labels say are drawn in it."""
    return tuple(parse_word_label(word) for word in record.labels["words"])


def parse_word_label(label: Mapping[str, Any]) -> LetteredWord:
    """The word of one label."""
    left, top, right, bottom = label["box"]
    return LetteredWord(label["text"], (left, top, right, bottom))


def letter_size(word: LetteredWord, height: int) -> float:
    """The size of a word's letters (their font's) in a picture of this height, to within 0.75 pixels."""
    _, top, _, bottom = word.box
    return (bottom - top) * height / (2 * HALF_HEIGHT)
