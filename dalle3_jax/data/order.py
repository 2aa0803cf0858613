"""Which record stands at which place of the training: a pure function, so that any place can be asked for.

Every batch has one bucket. A cycle is as many batches of each bucket as its records fill in one epoch, in a shuffled
order; what a bucket's last batch of a cycle lacks is taken from its next epoch, so that in the long run each record is
seen equally often and each bucket in proportion to its records, exactly. No process needs to ask another.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import NamedTuple

import grain
import numpy as np
from jaxtyping import Int, UInt8, UInt64

from dalle3_jax.data.draws import uniform

__all__ = ["Order", "Place", "SequentialOrder", "ShuffledOrder", "splitmix64"]


class Place(NamedTuple):
    """A row of the training: the bucket of its batch, how often its record was seen before, and the record."""

    bucket: int
    epoch: int
    record: int


@dataclass(frozen=True)
class SequentialOrder:
    """The order of a source that draws at any size: records in turn, the bucket of each batch drawn, all as likely.

    Where scenes choose their frame `bucket_of` says which bucket a record is of, and the next of its bucket is taken.
    """

    buckets: int
    batch: int
    seed: int
    bucket_of: Callable[[int], int] | None = None

    def __call__(self, position: int) -> Place:
        """The row at `position`, counted over all batches."""
        bucket = 0 if self.buckets == 1 else int(uniform(self.seed, "bucket", position // self.batch) * self.buckets)
        return self._of_its_bucket(Place(bucket, 0, position))

    def first_place(self, bucket: int) -> Place | None:
        """A row of the bucket."""
        return self._of_its_bucket(Place(bucket, 0, 0))

    def replacement(self, place: Place, attempt: int) -> Place:
        """The row that takes the place of a bad one."""
        return self._of_its_bucket(self._elsewhere("another", place, attempt))

    def _of_its_bucket(self, place: Place) -> Place:
        """The place, or the first of a row of others whose record is of its bucket."""
        if self.bucket_of is None:
            return place
        candidates = (self._elsewhere("bucket of", place, attempt) if attempt else place for attempt in count())
        return next(one for one in candidates if self.bucket_of(one.record) == place.bucket)

    def _elsewhere(self, why: str, place: Place, attempt: int) -> Place:
        return place._replace(record=int(uniform(self.seed, why, *place, attempt) * 2**40))


@dataclass(frozen=True)
class ShuffledOrder:
    """The order of a source with records of given buckets: `members[b]` are the records of bucket b."""

    members: Sequence[Int[np.ndarray, " _"]]
    batch: int
    seed: int
    streams: tuple[grain.MapDataset, ...] = field(init=False, repr=False, compare=False)
    _laid: Callable[[int], UInt8[np.ndarray, " _"]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuses a source without records."""
        if not sum(map(len, self.members)):
            raise ValueError("the source has no records")
        streams = tuple(
            grain.MapDataset.range(max(len(rows), 1)).seed(self.seed + 7919 * bucket).shuffle()
            for bucket, rows in enumerate(self.members)
        )
        object.__setattr__(self, "streams", streams)
        object.__setattr__(self, "_laid", lru_cache(maxsize=4)(self._shuffle_cycle))

    def __call__(self, position: int) -> Place:
        """The row at `position`, counted over all batches."""
        number, row = divmod(position, self.batch)
        bucket, turn = self.bucket_and_turn(number)
        epoch, _ = divmod(turn * self.batch + row, len(self.members[bucket]))
        return Place(bucket, epoch, self.record_at(bucket, turn * self.batch + row))

    def bucket_and_turn(self, number: int) -> tuple[int, int]:
        """The bucket of a batch, and how many batches of that bucket came before it."""
        cycle = number * self.batch // sum(map(len, self.members))
        while self.batches_before_cycle(cycle + 1) <= number:
            cycle += 1
        while self.batches_before_cycle(cycle) > number:
            cycle -= 1
        buckets, place = self._laid(cycle), number - self.batches_before_cycle(cycle)
        bucket = int(buckets[place])
        return bucket, self.bucket_batches_before(bucket, cycle) + int(np.count_nonzero(buckets[:place] == bucket))

    def batches_before_cycle(self, cycle: int) -> int:
        """The number of batches before a cycle."""
        return sum(self.bucket_batches_before(bucket, cycle) for bucket in range(len(self.members)))

    def bucket_batches_before(self, bucket: int, cycle: int) -> int:
        """The number of batches of a bucket before a cycle: those that so many epochs of its records fill."""
        return cycle * len(self.members[bucket]) // self.batch

    def record_at(self, bucket: int, place: int) -> int:
        """The record at a place of the bucket's stream, which is one epoch after the other, each shuffled anew."""
        return int(self.members[bucket][self.streams[bucket][place]])

    def first_place(self, bucket: int) -> Place | None:
        """A row of the bucket, None where it has no records."""
        return Place(bucket, 0, int(self.members[bucket][0])) if len(self.members[bucket]) else None

    def replacement(self, place: Place, attempt: int) -> Place:
        """The row of the same bucket that takes the place of a bad one."""
        number = uniform(self.seed, "another", *place, attempt) * len(self.members[place.bucket])
        return place._replace(record=int(self.members[place.bucket][int(number)]))

    def _shuffle_cycle(self, cycle: int) -> UInt8[np.ndarray, " _"]:
        """The buckets of a cycle's batches, shuffled."""
        counts = [
            self.bucket_batches_before(b, cycle + 1) - self.bucket_batches_before(b, cycle)
            for b in range(len(self.members))
        ]
        buckets = np.repeat(np.arange(len(counts), dtype=np.uint8), counts)
        return buckets[
            np.argsort(splitmix64(np.arange(len(buckets), dtype=np.uint64), self.seed, cycle), kind="stable")
        ]


Order = SequentialOrder | ShuffledOrder


def splitmix64(numbers: UInt64[np.ndarray, " n"], *key: int) -> UInt64[np.ndarray, " n"]:
    """A hash of each number under a key (splitmix64, as in its reference code): the same on every machine for ever."""
    with np.errstate(over="ignore"):
        z = (numbers + np.uint64(int(uniform(*key) * 2**53))) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))
