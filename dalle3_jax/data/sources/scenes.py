"""The embedded dataset as a source of records: composed pictures, drawn when they are asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import World, check_words, make_record, world_of
from dalle3_jax.data.scenes.frames import choose_frame
from dalle3_jax.data.scenes.scene import check_scenes, sample_scene

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
    render: bool = True  # False: records hold captions and labels alone

    def __post_init__(self) -> None:
        """Refuses an unknown world, one without scenes of the split, and words that do not fit the pictures."""
        sizes = self.frames or ((self.height, self.width),)
        for height, width in sizes:
            step = self.resolved_world.step
            if min(height, width) < max(8, step):
                cause = f" {step}, the step in which its things are sized" if step > 8 else " 8"
                raise ValueError(f"pictures of {width}x{height}: both sides must be at least{cause}")
        # Of several frames the widest takes the words that are too long for the others.
        check_words(self.resolved_world, *max(sizes, key=lambda size: size[1]))
        check_scenes(self.resolved_world, self.split)

    @cached_property
    def resolved_world(self) -> World:
        """The world itself, which `world` names or describes."""
        return world_of(self.world)

    def __len__(self) -> int:
        """The number of records."""
        return self.length

    def __getitem__(self, index: int) -> Record:
        """The record at `index`."""
        if not 0 <= index < self.length:
            raise IndexError(f"record {index} of {self.length}")
        return make_record(self.resolved_world, self.seed, index, *self.size(index), self.split, render=self.render)

    def size(self, index: int) -> tuple[int, int]:
        """Height and width of the record at `index`."""
        if not self.frames:
            return self.height, self.width
        shown = sample_scene(self.resolved_world, self.seed, index, self.split)
        return choose_frame(self.resolved_world, shown, self.frames, self.seed, index)

    def sizes(self, first: int, last: int) -> np.ndarray | None:
        """Heights and widths of scenes that choose their frame; None of others, drawn at any size that is asked for."""
        return np.array([self.size(index) for index in range(first, last)], np.int32) if self.frames else None

    @property
    def fingerprint(self) -> str:
        """World (of a part: what describes it, packs' files included), seed, split and size."""
        world = self.world if isinstance(self.world, str) else self.resolved_world.digest
        size = "+".join(f"{height}x{width}" for height, width in self.frames or ((self.height, self.width),))
        return f"scenes/{world}/{self.split}/{self.seed}/{size}"
