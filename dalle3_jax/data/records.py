"""The record: what every source of data yields, and what every later step of the pipeline reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np

Reason = Literal[
    "missing",
    "empty",
    "truncated",
    "format",
    "bomb",
    "shape",
    "depth",
    "animated",
    "json",
    "encoding",
    "caption",
    "length",
]
"""Why a record is bad. The file or member is not there; it has no bytes; it ends too early or is damaged inside; it is
no JPEG, PNG or WebP; it has too many pixels; it is a strip; it has 16 bits a channel; it moves; its JSON cannot be
read; its text is not UTF-8; it has no caption or an empty one; its caption is too long."""

REASONS: tuple[str, ...] = get_args(Reason)
FORMER_REASONS = ("colours",)
"""Of records that older caches and captions left out."""


class BadRecord(ValueError):
    """A record that no training can use: the pipeline takes another for it and counts it by `reason`.

    `key` names the record (empty where the one who raises does not know it); `detail` says what was found.
    """

    def __init__(self, reason: Reason, key: str, detail: str) -> None:
        """ValueError where `reason` is none of REASONS."""
        if reason not in (*REASONS, *FORMER_REASONS):
            raise ValueError(f"{reason!r} is no reason for a bad record: there are {', '.join(REASONS)}")
        super().__init__(reason, key, detail)  # what pickle makes it again from
        self.reason: Reason = reason
        self.key = key
        self.detail = detail

    def __str__(self) -> str:
        """Reason, key and detail in one line."""
        return f"bad record {self.key!r} ({self.reason}): {self.detail}"


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
