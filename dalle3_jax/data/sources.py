"""Where records come from: random access by index, as grain wants it."""

from dataclasses import dataclass
from typing import Protocol

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import WORLDS, Split, record

ENDLESS = 2**40
"""Records of the on-the-fly source: more than any run draws."""


class Source(Protocol):
    """A sequence of records."""

    def __len__(self) -> int:
        """How many records there are."""
        ...

    def __getitem__(self, index: int) -> Record:
        """The record at `index`."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells this source's records from those of any other; part of a cache's key."""
        ...


@dataclass(frozen=True)
class ScenesSource:
    """The embedded dataset, drawn when asked for."""

    world: str = "first"
    seed: int = 0
    height: int = 128
    width: int = 128
    length: int = ENDLESS
    split: Split = "train"

    def __post_init__(self) -> None:
        """Names an unknown world before anything is drawn."""
        if self.world not in WORLDS:
            raise ValueError(f"world {self.world!r}: choose one of {sorted(WORLDS)}")

    def __len__(self) -> int:
        """How many records there are."""
        return self.length

    def __getitem__(self, index: int) -> Record:
        """The record at `index`."""
        if not 0 <= index < self.length:
            raise IndexError(f"record {index} of {self.length}")
        return record(WORLDS[self.world], self.seed, index, self.height, self.width, self.split)

    @property
    def fingerprint(self) -> str:
        """World, seed, split and size."""
        return f"scenes/{self.world}/{self.split}/{self.seed}/{self.height}x{self.width}"
