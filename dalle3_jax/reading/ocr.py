"""Reads the words drawn in a picture with an OCR that nobody here trained.

RapidOCR (PP-OCR on onnxruntime; its models lie in its wheel) finds the lines of letters and reads each by itself, with
no dictionary that would mend a misspelt word.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

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


def find_ocr() -> Ocr | None:
    """The OCR of this installation, or None if there is none (INSTALL says what to do)."""
    models = find_ocr_models("det", "rec")
    return Ocr(f"rapidocr {version('rapidocr')}", _line_reader(*models)) if models else None


def find_ocr_models(*parts: str) -> tuple[Path, ...] | None:
    """RapidOCR's model of each part, the newest it has: "det" finds lines, "rec" reads them. None without one."""
    spec = find_spec("rapidocr")
    if spec is None or spec.origin is None or find_spec("onnxruntime") is None:
        return None
    folder = Path(spec.origin).parent / "models"
    models = [sorted(folder.glob(f"*_{part}_*.onnx")) for part in parts]
    return tuple(paths[-1] for paths in models) if all(models) else None


def _line_reader(detection: Path, recognition: Path) -> Callable[[UInt8[np.ndarray, "h w 3"]], list[str]]:
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
        output = engine(np.ascontiguousarray(image[..., ::-1]))  # it takes BGR
        return list(getattr(output, "txts", None) or ())  # lines without a letter give another class

    return lines
