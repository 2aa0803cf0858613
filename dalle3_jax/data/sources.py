"""Where records come from: random access by index, as grain wants it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dalle3_jax.data import files, texts
from dalle3_jax.data.caches import Records
from dalle3_jax.data.picture_folder import METADATA, FolderSource
from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import World, check_words, record, world_of
from dalle3_jax.data.scenes.frames import frame_of
from dalle3_jax.data.scenes.scene import check_scenes, scene
from dalle3_jax.data.tars import TarSource
from dalle3_jax.data.tfds import TFDSSource

ENDLESS = 2**40
"""Records of the on-the-fly source: more than any run draws."""


@dataclass(frozen=True)
class ScenesSource:
    """The embedded dataset, drawn when asked for."""

    world: str | Mapping[str, Any] = "first"
    seed: int = 0
    height: int = 128
    width: int = 128
    length: int = ENDLESS
    split: str = "train"
    frames: tuple[
        tuple[int, int], ...
    ] = ()  # (height, width): each scene at the one that suits it; (): all at one size

    def __post_init__(self) -> None:
        """Refuses an unknown world, one without scenes of the split, and words that do not fit the pictures."""
        sizes = self.frames or ((self.height, self.width),)
        for height, width in sizes:
            if min(height, width) < 8:
                raise ValueError(f"pictures of {width}x{height}: both sides must be at least 8")
        # Of several frames the widest takes the words that are too long for the others.
        check_words(self.drawn, *max(sizes, key=lambda size: size[1]))
        check_scenes(self.drawn, self.split)

    @cached_property
    def drawn(self) -> World:
        """The world itself, which `world` names or describes."""
        return world_of(self.world)

    def __len__(self) -> int:
        """How many records there are."""
        return self.length

    def __getitem__(self, index: int) -> Record:
        """The record at `index`."""
        if not 0 <= index < self.length:
            raise IndexError(f"record {index} of {self.length}")
        return record(self.drawn, self.seed, index, *self.size(index), self.split)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the record at `index`."""
        if not self.frames:
            return self.height, self.width
        shown = scene(self.drawn, self.seed, index, self.split)
        return frame_of(self.drawn, shown, self.frames, self.seed, index)

    def sizes(self, first: int, last: int) -> np.ndarray | None:
        """Heights and widths of scenes that choose their frame; None of others, drawn at any size that is asked for."""
        return np.array([self.size(index) for index in range(first, last)], np.int32) if self.frames else None

    @property
    def fingerprint(self) -> str:
        """World (of a part: what describes it, packs' files included), seed, split and size."""
        world = self.world if isinstance(self.world, str) else self.drawn.digest
        size = "+".join(f"{height}x{width}" for height, width in self.frames or ((self.height, self.width),))
        return f"scenes/{world}/{self.split}/{self.seed}/{size}"


Source = ScenesSource | TFDSSource | TarSource | FolderSource | Records
"""A sequence of records, `source[i]`, some of which raise BadRecord.

Its `fingerprint` tells it from every other: part of a cache's key, and of what must not change when a run goes on.
`sizes(first, last)` gives heights and widths, int32 [n 2], without decoding pictures; None where there are none.
"""


def opened(folder: str, split: str = "train", fields: Mapping[str, str] | None = None) -> Source:
    """The source that lies in a folder or a bucket, known by what is in it; ValueError where nothing is.

    *.tar: TarSource. metadata.jsonl, here or in SPLIT/: FolderSource. features.json, here or further down: TFDSSource.
    `fields` says which fields of JSON are which versions of captions, where the usual names do not.
    """
    chosen = dict(fields) if fields else texts.FIELDS
    names = [entry.name for entry in files.listed(folder)]
    if any(name.endswith(".tar") for name in names):
        return TarSource(folder, chosen)
    if METADATA in names or files.entry(files.joined(files.joined(folder, split), METADATA)):
        return FolderSource(folder, split, chosen)
    if "features.json" in names or (not files.is_remote(folder) and any(Path(folder).glob("**/features.json"))):
        return TFDSSource(folder, split)
    what = f"holds none of them, only {shortened(names)}" if names else "is empty or not there"
    raise ValueError(
        f"data.source {folder!r} {what}: give scenes, or a folder with *.tar, metadata.jsonl or features.json"
    )


def shortened(names: list[str]) -> str:
    """The first of the names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
