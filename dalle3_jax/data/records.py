"""The record: what every source of data yields, and what every later step of the pipeline reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Record:
    """One picture with its captions.

    `image` is either encoded (PNG, JPEG or WebP bytes) or uint8 [h w 3]; `captions` maps a version ("alt", "short",
    "descriptive", ...) to its text; `labels` is plain JSON data, empty where nothing is known.
    """

    key: str
    image: bytes | np.ndarray
    height: int
    width: int
    captions: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
