"""Writes the caches of `latent_cache`: shard by shard, shared out over processes, going on where a build was killed."""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from jaxtyping import Bool, Float, Int32
from safetensors.numpy import save

from dalle3_jax.data import files
from dalle3_jax.data.bad_records import BadRecordCounter
from dalle3_jax.data.buckets import Size, nearest_bucket, nearest_buckets, resize_and_crop
from dalle3_jax.data.caches import latent_cache
from dalle3_jax.data.caches.prefetch import prefetch_map
from dalle3_jax.data.caches.sidecars import CaptionedSource
from dalle3_jax.data.image_files import WHITE
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.index import UNKNOWN, map_in_threads
from dalle3_jax.data.transforms import decode_image, normalise_pixels

__all__ = ["CacheEncoder", "finish_cache", "prepare_row", "start_cache", "write_cache_shards"]

OPTIONS = "group_size:1,uncompressed"  # latents hardly shrink, and are read three times as fast as they are

EncoderInput = dict[str, Any]
"""Pixels uint8 [h w 3], sizes, key and captions of a record that is to be encoded."""


@dataclass(frozen=True)
class CacheEncoder:
    """The networks, as functions that are always given `batch_size` rows.

    `encode_images` takes pictures in [-1, 1] and gives latents as the VAE has them; `encode_texts`, where there is
    one, takes captions and gives features and mask. `versions` are the captions that it is given. Transparent pictures
    are laid on `background`, red, green and blue.
    """

    encode_images: Callable[[Float[np.ndarray, "b h w 3"]], Float[np.ndarray, "b h2 w2 c"]]
    batch_size: int
    encode_texts: Callable[[list[str]], tuple[Float[np.ndarray, "b l d"], Bool[np.ndarray, "b l"]]] | None = None
    versions: tuple[str, ...] = ()
    threads: int = 4
    background: Sequence[int] = WHITE


@dataclass
class CacheShard:
    """The content of one shard: rows by part of the cache and place, sizes, bad records."""

    first: int
    count: int
    sizes: np.ndarray
    rows: dict[str, list[bytes]] = field(default_factory=dict)
    bad: list[list] = field(default_factory=list)

    def add_row(self, part: str, index: int, **arrays: np.ndarray) -> None:
        """Keep a row."""
        self.rows.setdefault(part, [b""] * self.count)[index - self.first] = save(arrays)


def write_cache_shards(
    folder: str,
    source: Source | CaptionedSource,
    sizes: Sequence[Size],
    encoder: CacheEncoder,
    count: int,
    *,
    max_bad: float = 1.0,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int], Any] = lambda records: None,
) -> None:
    """Writes the shards of the first `count` records that are this process's and are not there yet.

    `start_cache` comes before. `progress` is told how many records more are done. ValueError where latents do not fit
    float16, or where more than the share `max_bad` of the records is bad.
    """
    whole, ledger = finished_shards(folder), BadRecordCounter(max_bad, count)
    for shard in range(process, -(-count // latent_cache.SHARD), processes):
        first = shard * latent_cache.SHARD
        wanted = min(latent_cache.SHARD, count - first)
        if whole.get(shard, 0) >= wanted:
            progress(wanted)
            continue
        write_shard(
            folder,
            shard,
            encode_shard(
                source,
                CacheShard(first, wanted, planned_sizes(source, first, wanted, sizes)),
                sizes,
                encoder,
                ledger,
                progress,
            ),
        )


def finish_cache(folder: str, metadata: Mapping[str, Any], count: int) -> None:
    """Declares a cache finished, whose shards are all written; ValueError where one is missing."""
    wanted = {
        number: min(latent_cache.SHARD, count - first)
        for number, first in enumerate(range(0, count, latent_cache.SHARD))
    }
    whole = finished_shards(folder)
    if missing := [number for number, records in wanted.items() if whole.get(number, 0) < records]:
        raise ValueError(f"{folder} lacks {len(missing)} of {len(wanted)} shards, first {missing[0]}: encode again")
    shards = map_in_threads(
        read_shard_json, [files.join_path(folder, f"{number:05d}.json") for number in wanted], "joining shards"
    )
    sizes = np.concatenate([np.asarray(shard.pop("sizes"), np.int32) for shard in shards])
    content = io.BytesIO()
    np.save(content, sizes, allow_pickle=False)
    files.write_whole(files.join_path(folder, "sizes.npy"), content.getvalue())
    counts = Counter(row[1] for shard in shards for row in shard["bad"])
    record = {"made": metadata, "records": len(sizes), "shard": latent_cache.SHARD, "bad": counts, "shards": shards}
    files.write_whole(files.join_path(folder, "cache.json"), json.dumps(record, indent=1).encode())


def start_cache(folder: str, metadata: Mapping[str, Any], encoder: CacheEncoder) -> None:
    """Says what the cache is made from, or refuses a folder that says something else; for one process, before all."""
    path = files.join_path(folder, "made.json")
    if files.find_file(path):
        if stale := latent_cache.metadata_mismatch(folder, latent_cache.read_cache_metadata(folder), metadata):
            raise ValueError(f"{stale}. Encode into another folder, or remove that one")
    elif others := [entry.name for entry in files.list_files(folder) if not entry.name.startswith(".")]:
        raise ValueError(f"{folder} holds {others[0]} and is no cache: encode into another folder")
    files.write_whole(path, json.dumps(metadata, indent=1).encode())
    if encoder.encode_texts:
        features, mask = (np.asarray(rows)[0] for rows in encoder.encode_texts([""] * encoder.batch_size))
        null = save({"features": to_float16(features[mask], "the empty caption")})
        files.write_whole(files.join_path(folder, "null.safetensors"), null)


def finished_shards(folder: str) -> dict[int, int]:
    """The number of records in each whole shard, by the shard's number."""
    entries = {entry.name: entry for entry in files.list_files(folder)}
    names = [name for name in entries if name[:-5].isdecimal() and name[-5:] == ".json"]
    shards = map_in_threads(read_shard_json, [files.join_path(folder, name) for name in names], "looking at shards")
    return {
        int(name[:-5]): len(shard["sizes"])
        for name, shard in zip(names, shards, strict=True)
        if all(file in entries and entries[file].size == size for file, size in shard["files"].items())
    }


def read_shard_json(path: str) -> dict[str, Any]:
    """The content of the file of a shard."""
    return json.loads(files.read_bytes(path))


def planned_sizes(
    source: Source | CaptionedSource, first: int, count: int, sizes: Sequence[Size]
) -> Int32[np.ndarray, "n 2"]:
    """The sizes that pictures get by what their files say, bad ones too: batches then come as without a cache."""
    known = source.sizes(first, first + count)
    if known is None:
        return np.full((count, 2), UNKNOWN, np.int32)
    return np.array(sizes, np.int32)[nearest_buckets(known, sizes)]


def prepare_row(
    record: Record, sizes: Sequence[Size], versions: Sequence[str], background: Sequence[int] = WHITE
) -> EncoderInput:
    """The middle of a record's picture at the size that suits it; BadRecord where there is none, or no caption."""
    if missing := [version for version in versions if version not in record.captions]:
        raise BadRecord("caption", record.key, f"no caption {missing[0]!r}")
    pixels = decode_image(record.image, record.key, background)
    height, width = pixels.shape[:2]
    pixels, top, left = resize_and_crop(pixels, sizes[nearest_bucket(height, width, sizes)])
    said = np.array([height, width, top, left, *pixels.shape[:2]], np.int32)
    return {"pixels": pixels, "sizes": said, "key": record.key, "captions": dict(record.captions)}


def encode_shard(
    source: Source | CaptionedSource,
    shard: CacheShard,
    sizes: Sequence[Size],
    encoder: CacheEncoder,
    ledger: BadRecordCounter,
    progress: Callable[[int], Any],
) -> CacheShard:
    """The shard with everything in it; every batch is of pictures of one size."""
    waiting: dict[tuple[int, ...], list[tuple[int, EncoderInput]]] = {}
    for index, row in prefetch_rows(source, shard, sizes, encoder):
        if isinstance(row, BadRecord):
            shard.bad.append([index, row.reason, row.key, row.detail])
            ledger.count_bad(index, row)
            ledger.check_share()
            progress(1)
            continue
        ledger.count_good()
        rows = waiting.setdefault(row["pixels"].shape, [])
        rows.append((index, row))
        if len(rows) == encoder.batch_size:
            encode_rows(shard, rows, encoder)
            progress(len(rows))
            rows.clear()
    for rows in filter(None, waiting.values()):
        encode_rows(shard, rows, encoder)
        progress(len(rows))
    return shard


def prefetch_rows(
    source: Source | CaptionedSource, shard: CacheShard, sizes: Sequence[Size], encoder: CacheEncoder
) -> Iterator[tuple[int, EncoderInput | BadRecord]]:
    """The records of a shard in order, as they come or as what is wrong with them; the next ones are read meanwhile."""

    def ready(index: int) -> tuple[int, EncoderInput | BadRecord]:
        try:
            return index, prepare_row(source[index], sizes, encoder.versions, encoder.background)
        except BadRecord as error:
            return index, error

    indices = range(shard.first, shard.first + shard.count)
    yield from prefetch_map(ready, indices, encoder.threads, encoder.batch_size + encoder.threads)


def encode_rows(shard: CacheShard, rows: Sequence[tuple[int, EncoderInput]], encoder: CacheEncoder) -> None:
    """Encodes up to a batch of rows; the batch is filled up with its last row: one shape, one compilation."""
    filled = [*rows, *[rows[-1]] * (encoder.batch_size - len(rows))]
    latents = encoder.encode_images(normalise_pixels(np.stack([row["pixels"] for _, row in filled])))
    for (index, row), made in zip(rows, np.asarray(latents), strict=False):
        said = np.frombuffer(json.dumps({"key": row["key"], "captions": row["captions"]}).encode(), np.uint8)
        shard.add_row("latents", index, latents=to_float16(made, f"record {index}"), sizes=row["sizes"], record=said)
        shard.sizes[index - shard.first] = row["sizes"][4:]
    if encoder.encode_texts is None:
        return
    for version in encoder.versions:
        features, mask = encoder.encode_texts([row["captions"][version] for _, row in filled])
        for (index, _), made, used in zip(rows, np.asarray(features), np.asarray(mask), strict=False):
            shard.add_row(f"features-{version}", index, features=to_float16(made[used], f"record {index}"))


def to_float16(values: np.ndarray, what: str) -> np.ndarray:
    """The values in float16; ValueError where it cannot hold them."""
    with np.errstate(over="ignore"):  # what overflows is named below
        kept = np.ascontiguousarray(values, np.float16)
    if not np.isfinite(kept).all():
        raise ValueError(f"what was made of {what} is not finite in float16: the network does not suit the data")
    return kept


def write_shard(folder: str, number: int, shard: CacheShard) -> None:
    """Writes a shard's files and then, since they are whole, what says so."""
    with ExitStack() as stack:
        sizes = {}
        for part, rows in shard.rows.items():
            name = f"{part}-{number:05d}.array_record"
            path = stack.enter_context(files.atomic_file(files.join_path(folder, name)))
            writer = ArrayRecordWriter(str(path), OPTIONS)
            for row in rows:
                writer.write(row)
            writer.close()
            sizes[name] = path.stat().st_size
    said = {"files": sizes, "bad": shard.bad, "sizes": shard.sizes.tolist()}
    files.write_whole(files.join_path(folder, f"{number:05d}.json"), json.dumps(said).encode())
    if not files.is_remote(folder):
        for left in Path(files.local_path(folder)).glob(
            f".*-{number:05d}.array_record.*.tmp"
        ):  # by a build that was killed
            left.unlink()
