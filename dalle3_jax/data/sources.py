"""Where records come from: random access by index, as grain wants it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import World, check_words, record, world_of
from dalle3_jax.data.scenes.scene import check_scenes

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

    def __post_init__(self) -> None:
        """Refuses an unknown world, one without scenes of the split, and words that do not fit the pictures."""
        if min(self.height, self.width) < 8:
            raise ValueError(f"pictures of {self.width}x{self.height}: both sides must be at least 8")
        check_words(self.drawn, self.height, self.width)
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
        return record(self.drawn, self.seed, index, self.height, self.width, self.split)

    @property
    def fingerprint(self) -> str:
        """World (of a part: what describes it, packs' files included), seed, split and size."""
        world = self.world if isinstance(self.world, str) else self.drawn.digest
        return f"scenes/{world}/{self.split}/{self.seed}/{self.height}x{self.width}"


@dataclass(frozen=True)
class TFDSSource:
    """A dataset that `tfds_builder.write` wrote, read without TensorFlow; `folder` is its own or the one above."""

    folder: str | Path
    split: str = "train"

    @cached_property
    def rows(self) -> Any:
        """The data source of TFDS, pictures still encoded."""
        import tensorflow_datasets as tfds

        found = sorted(Path(self.folder).glob("**/features.json"))
        if len(found) != 1:
            raise ValueError(f"{str(self.folder)!r} holds {len(found)} TFDS datasets: name the folder of one")
        builder = tfds.builder_from_directory(found[0].parent)
        if self.split not in builder.info.splits:
            raise ValueError(f"no split {self.split!r} in {found[0].parent}: there are {sorted(builder.info.splits)}")
        encoded = {"image": tfds.decode.SkipDecoding()}
        return builder.as_data_source(self.split, decoders=encoded)  # pyright: ignore[reportCallIssue]

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`."""
        row = self.rows[index]
        captions = {version: text.decode() for version, text in row["captions"].items()}
        size = int(row["height"]), int(row["width"])
        return Record(row["key"].decode(), row["image"], *size, captions, json.loads(row["labels"]))

    @property
    def fingerprint(self) -> str:
        """What the dataset says of itself, and its outermost keys."""
        info = self.rows.dataset_info
        said = f"{info.full_name}/{self.split}/{len(self)}/{info.dataset_size}/{self[0].key}/{self[len(self) - 1].key}"
        return f"tfds/{sha256(said.encode()).hexdigest()[:16]}"


Source = ScenesSource | TFDSSource
"""A sequence of records whose `fingerprint` tells it from every other: part of a cache's key."""
