"""From a source to an endless stream of batches: deterministic, sharded by process, resumable to the batch.

    source -> order (bucket of each batch, record of each row) -> row (caption, crop) -> batch -> this process's batches

Every draw of a row is keyed by (seed, epoch, index), so that a batch is a pure function of its number: the state of the
iterator is that number alone, and n processes share out exactly the rows that one process would see.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import grain
import numpy as np

from dalle3_jax.data import sources
from dalle3_jax.data.bad_records import BadRecordCounter
from dalle3_jax.data.buckets import Size, nearest_buckets
from dalle3_jax.data.caches.sidecars import CaptionedSource, add_sidecars, source_at_size
from dalle3_jax.data.caption_versions import usable_captions
from dalle3_jax.data.order import Order, Place, SequentialOrder, ShuffledOrder
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.rows import Batch, Targets, Tokenize, collate_rows, make_row, tokenize_batch
from dalle3_jax.data.settings import bucket_sizes, resolve_settings
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ENDLESS, ScenesSource

__all__ = ["Batch", "Batches", "Targets", "Tokenize", "make_batches", "open_source", "tokenize_batch"]

ATTEMPTS = 100
"""Records that are tried for a row before the run is given up."""


def open_source(data: Mapping[str, Any]) -> Source:
    """The source that data.source names, without data.sidecars; one that draws pictures draws them at data.size."""
    settings = resolve_settings(data)
    if settings["source"] != "scenes":
        return sources.open_folder_source(settings["source"], settings["split"], settings["fields"])
    height, width = settings["size"]
    world = {**settings["part"], "of": settings["world"]} if settings["part"] else settings["world"]
    frames = tuple((height, width) for height, width in settings["frames"])
    return ScenesSource(world, settings["seed"], height, width, ENDLESS, settings["split"], frames)


def make_batches(
    data: Mapping[str, Any],
    *,
    tokenize: Tokenize | None,
    glyphs: Tokenize | None = None,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    source: Source | None = None,
    images: bool = True,
    latents: Sequence[Any] | None = None,
    targets: Targets | None = None,
) -> "Batches":
    """An endless iterator over this process's batches of `batch_size` rows each.

    A batch holds `images` float32 [b h w 3] in [-1, 1] (unless `images` is False), or `latents` where a cache of them
    is given; with a tokenizer also `ids`, `mask` and `sizes` (original height and width, crop top and left in the
    scaled picture, target height and width), and with `glyphs` (the tokenizer of quoted text) `glyph_ids` and
    `glyph_mask` of the same captions; and what `targets` makes of each record, always in the same shapes. All rows of a
    batch have one of the buckets' sizes, the same on every process. Joined in the order of the processes, their batches
    are the batch of one process. `source` stands in for the one that `data` names; with a tokenizer it has the captions
    of `data.sidecars` too.
    """
    settings = resolve_settings(data)
    if batch_size < 1 or not 0 <= process_index < process_count:
        raise ValueError(f"batch size {batch_size}, process {process_index} of {process_count}: not a share of a batch")
    sizes, given = bucket_sizes(settings), open_source(settings) if source is None else source
    read = add_sidecars(given, settings["sidecars"] if tokenize is not None else ())
    if tokenize is not None:
        settings["captions"] = usable_captions(read, settings["captions"])
    order = make_order(read, sizes, batch_size * process_count, int(seed), latents, settings["records"])
    reader = RowReader(read, sizes, settings, int(seed), tokenize is not None, images, latents, targets)
    ledger = BadRecordCounter(settings["max_bad"], settings["records"] or len(read if latents is None else latents))

    def row(position: int) -> dict[str, Any]:
        return reader.read_usable(order(int(position)), order, ledger)

    def collate(rows: Sequence[dict[str, Any]]) -> Batch:
        return collate_rows(rows, settings, tokenize, glyphs)

    rows = grain.MapDataset.range(ENDLESS).map(row).batch(batch_size, drop_remainder=True, batch_fn=collate)
    options = grain.ReadOptions(num_threads=settings["threads"], prefetch_buffer_size=settings["prefetch"])

    def example(place: Place) -> Batch:
        return collate([reader.read_usable(place, order, BadRecordCounter(1.0))] * batch_size)

    firsts = (order.first_place(bucket) for bucket in range(len(sizes)))
    examples = [partial(example, place) for place in firsts if place is not None]
    return Batches(rows[process_index::process_count], options, ledger, examples)


class Batches(Iterator[Batch]):
    """The batches of one process, without end.

    `waited` is how many seconds `next` took in all; `bad` counts records that could not be used, by reason; `examples`
    are batches of the shapes that will come, one of each bucket.
    """

    def __init__(
        self,
        rows: grain.MapDataset,
        options: grain.ReadOptions,
        ledger: BadRecordCounter,
        examples: Sequence[Callable[[], Batch]] = (),
    ) -> None:
        """The batches of `rows` from the first on."""
        self._rows, self._options, self._ledger = rows, options, ledger
        self._taken, self.examples, self.waited = 0, examples, 0.0
        self._iterator = iter(rows.to_iter_dataset(options))

    def __next__(self) -> Batch:
        """The next batch; ValueError where too many records cannot be used."""
        began = time.monotonic()
        batch = next(self._iterator)
        self._ledger.check_share()
        self.waited += time.monotonic() - began
        self._taken += 1
        return batch

    @property
    def bad(self) -> Mapping[str, int]:
        """Records that could not be used, by reason, since this process began."""
        return self._ledger.counts

    def describe_bad(self) -> str:
        """The numbers of unusable records by reason, the first of each named; empty where none was met."""
        return self._ledger.describe()

    def get_state(self) -> dict[str, int]:
        """The number of batches taken: all that resuming needs, with any number of processes."""
        return {"batches": self._taken}

    def set_state(self, state: Mapping[str, int]) -> None:
        """Go on after so many batches."""
        self._taken = int(state["batches"])
        self._iterator = iter(self._rows[self._taken :].to_iter_dataset(self._options))


@dataclass(frozen=True)
class RowReader:
    """Reader of records, which makes a row of each."""

    source: Source | CaptionedSource
    sizes: Sequence[Size]
    settings: Mapping[str, Any]
    seed: int
    text: bool
    images: bool
    latents: Sequence[Any] | None
    targets: Targets | None

    @cached_property
    def bucket_sources(self) -> tuple[Source | CaptionedSource, ...]:
        """The source of each bucket: scenes are drawn at its size, pictures brought to it."""
        return tuple(source_at_size(self.source, height, width) for height, width in self.sizes)

    def __call__(self, place: Place) -> dict[str, Any]:
        """The row; BadRecord where its record cannot be used."""
        key = (self.seed, place.epoch, place.record)
        how = {"text": self.text, "images": self.images, "latents": self.latents, "targets": self.targets}
        return make_row(
            self.bucket_sources[place.bucket], place.record, self.sizes[place.bucket], self.settings, key, **how
        )

    def read_usable(self, place: Place, order: Order, ledger: BadRecordCounter) -> dict[str, Any]:
        """The row, or that of another record of its bucket where it cannot be used."""
        for attempt in range(ATTEMPTS):
            try:
                row = self(place)
                ledger.count_good()
                return row
            except BadRecord as error:
                ledger.count_bad(place.record, error)
                place = order.replacement(place, attempt)
        ledger.check_share()
        raise ValueError(f"{ATTEMPTS} records in a row cannot be used: {ledger.describe()}")


def make_order(
    source: Source | CaptionedSource,
    sizes: Sequence[Size],
    batch: int,
    seed: int,
    latents: Sequence[Any] | None,
    records: int = 0,
) -> Order:
    """The order in which the records, or the first so many, stand in batches of `batch` rows over all processes."""
    length = len(source) if latents is None else len(latents)
    if records > length:
        raise ValueError(f"data.records is {records}, and there are only {length}: 0 takes all")
    length = records or length
    if isinstance(source, CaptionedSource):
        source.check_count(length)
    if length == ENDLESS:
        return SequentialOrder(len(sizes), batch, seed, bucket_lookup(source, sizes))
    if len(sizes) == 1:
        return ShuffledOrder([np.arange(length, dtype=np.int64)], batch, seed)
    known = source.sizes(0, length)
    if known is None:  # scenes whose latents are cached
        raise ValueError("data.latents and several data.buckets: scenes are drawn at any size; use one, or data.cache")
    buckets = nearest_buckets(known, sizes)
    return ShuffledOrder([np.flatnonzero(buckets == bucket) for bucket in range(len(sizes))], batch, seed)


def bucket_lookup(source: Source | CaptionedSource, sizes: Sequence[Size]) -> Callable[[int], int] | None:
    """The bucket of each record of scenes that choose their frame; None of others, which are drawn at any size.

    ValueError where a bucket is none of the frames.
    """
    scenes = source.source if isinstance(source, CaptionedSource) else source
    if not isinstance(scenes, ScenesSource) or not scenes.frames or len(sizes) == 1:
        return None
    if missing := sorted(set(sizes) - set(scenes.frames)):
        raise ValueError(
            f"data.buckets has {missing}, and scenes choose among data.frames {scenes.frames}: add them there"
        )
    numbers = {size: number for number, size in enumerate(sizes)}
    return lambda index: numbers.get(scenes.size(index), -1)
