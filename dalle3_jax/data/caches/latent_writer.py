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
from dalle3_jax.data.bad_records import Ledger
from dalle3_jax.data.buckets import Size, bucket_of, buckets_of, resized
from dalle3_jax.data.caches import latent_cache
from dalle3_jax.data.caches.prefetch import ahead
from dalle3_jax.data.caches.sidecars import Captioned
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.index import UNKNOWN, in_threads
from dalle3_jax.data.transforms import decode, unit

__all__ = ["Encoder", "begin", "conclude", "prepared", "write"]

OPTIONS = "group_size:1,uncompressed"  # latents hardly shrink, and are read three times as fast as they are

Row = dict[str, Any]
"""Pixels uint8 [h w 3], sizes, key and captions of a record that is to be encoded."""


@dataclass(frozen=True)
class Encoder:
    """The networks, as functions that are always given `batch_size` rows.

    `images` takes pictures in [-1, 1] and gives latents as the VAE has them; `texts`, where there is one, takes
    captions and gives features and mask. `versions` are the captions that it is given.
    """

    images: Callable[[Float[np.ndarray, "b h w 3"]], Float[np.ndarray, "b h2 w2 c"]]
    batch_size: int
    texts: Callable[[list[str]], tuple[Float[np.ndarray, "b l d"], Bool[np.ndarray, "b l"]]] | None = None
    versions: tuple[str, ...] = ()
    threads: int = 4


@dataclass
class Shard:
    """What is made of one shard: rows by part of the cache and place, sizes, bad records."""

    first: int
    count: int
    sizes: np.ndarray
    rows: dict[str, list[bytes]] = field(default_factory=dict)
    bad: list[list] = field(default_factory=list)

    def put(self, part: str, index: int, **arrays: np.ndarray) -> None:
        """Keep a row."""
        self.rows.setdefault(part, [b""] * self.count)[index - self.first] = save(arrays)


def write(
    folder: str,
    source: Source | Captioned,
    sizes: Sequence[Size],
    encoder: Encoder,
    count: int,
    *,
    most_bad: float = 1.0,
    process: int = 0,
    processes: int = 1,
    progress: Callable[[int], Any] = lambda records: None,
) -> None:
    """Writes the shards of the first `count` records that are this process's and are not there yet, after `begin`.

    `progress` is told how many records more are done. ValueError where latents do not fit float16, or where more than
    the share `most_bad` of the records is bad.
    """
    whole, ledger = finished(folder), Ledger(most_bad)
    for shard in range(process, -(-count // latent_cache.SHARD), processes):
        first = shard * latent_cache.SHARD
        wanted = min(latent_cache.SHARD, count - first)
        if whole.get(shard, 0) >= wanted:
            progress(wanted)
            continue
        store(
            folder,
            shard,
            encoded(
                source, Shard(first, wanted, planned(source, first, wanted, sizes)), sizes, encoder, ledger, progress
            ),
        )


def conclude(folder: str, made: Mapping[str, Any], count: int) -> None:
    """Declares a cache finished, whose shards are all written; ValueError where one is missing."""
    wanted = {
        number: min(latent_cache.SHARD, count - first)
        for number, first in enumerate(range(0, count, latent_cache.SHARD))
    }
    whole = finished(folder)
    if missing := [number for number, records in wanted.items() if whole.get(number, 0) < records]:
        raise ValueError(f"{folder} lacks {len(missing)} of {len(wanted)} shards, first {missing[0]}: encode again")
    shards = in_threads(said_of, [files.joined(folder, f"{number:05d}.json") for number in wanted], "joining shards")
    sizes = np.concatenate([np.asarray(shard.pop("sizes"), np.int32) for shard in shards])
    content = io.BytesIO()
    np.save(content, sizes, allow_pickle=False)
    files.write_whole(files.joined(folder, "sizes.npy"), content.getvalue())
    counts = Counter(row[1] for shard in shards for row in shard["bad"])
    record = {"made": made, "records": len(sizes), "shard": latent_cache.SHARD, "bad": counts, "shards": shards}
    files.write_whole(files.joined(folder, "cache.json"), json.dumps(record, indent=1).encode())


def begin(folder: str, made: Mapping[str, Any], encoder: Encoder) -> None:
    """Says what the cache is made from, or refuses a folder that says something else; for one process, before all."""
    path = files.joined(folder, "made.json")
    if files.entry(path):
        if stale := latent_cache.differences(folder, latent_cache.made_from(folder), made):
            raise ValueError(f"{stale}. Encode into another folder, or remove that one")
    elif found := [entry.name for entry in files.listed(folder) if not entry.name.startswith(".")]:
        raise ValueError(f"{folder} holds {found[0]} and is no cache: encode into another folder")
    files.write_whole(path, json.dumps(made, indent=1).encode())
    if encoder.texts:
        features, mask = (np.asarray(rows)[0] for rows in encoder.texts([""] * encoder.batch_size))
        null = save({"features": half(features[mask], "the empty caption")})
        files.write_whole(files.joined(folder, "null.safetensors"), null)


def finished(folder: str) -> dict[int, int]:
    """How many records each whole shard holds, by its number."""
    found = {entry.name: entry for entry in files.listed(folder)}
    names = [name for name in found if name[:-5].isdecimal() and name[-5:] == ".json"]
    shards = in_threads(said_of, [files.joined(folder, name) for name in names], "looking at shards")
    return {
        int(name[:-5]): len(shard["sizes"])
        for name, shard in zip(names, shards, strict=True)
        if all(file in found and found[file].size == size for file, size in shard["files"].items())
    }


def said_of(path: str) -> dict[str, Any]:
    """What the file of a shard says."""
    return json.loads(files.read(path))


def planned(source: Source | Captioned, first: int, count: int, sizes: Sequence[Size]) -> Int32[np.ndarray, "n 2"]:
    """The sizes that pictures get by what their files say, bad ones too: batches then come as without a cache."""
    known = source.sizes(first, first + count)
    if known is None:
        return np.full((count, 2), UNKNOWN, np.int32)
    return np.array(sizes, np.int32)[buckets_of(known, sizes)]


def prepared(record: Record, sizes: Sequence[Size], versions: Sequence[str]) -> Row:
    """The middle of a record's picture at the size that suits it; BadRecord where there is none, or no caption."""
    if missing := [version for version in versions if version not in record.captions]:
        raise BadRecord("caption", record.key, f"no caption {missing[0]!r}")
    pixels = decode(record.image, record.key)
    height, width = pixels.shape[:2]
    pixels, top, left = resized(pixels, sizes[bucket_of(height, width, sizes)])
    said = np.array([height, width, top, left, *pixels.shape[:2]], np.int32)
    return {"pixels": pixels, "sizes": said, "key": record.key, "captions": dict(record.captions)}


def encoded(
    source: Source | Captioned,
    shard: Shard,
    sizes: Sequence[Size],
    encoder: Encoder,
    ledger: Ledger,
    progress: Callable[[int], Any],
) -> Shard:
    """The shard with everything in it; every batch is of pictures of one size."""
    waiting: dict[tuple[int, ...], list[tuple[int, Row]]] = {}
    for index, row in read_ahead(source, shard, sizes, encoder):
        if isinstance(row, BadRecord):
            shard.bad.append([index, row.reason, row.key, row.detail])
            ledger.bad(index, row)
            ledger.check()
            progress(1)
            continue
        ledger.good()
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


def read_ahead(
    source: Source | Captioned, shard: Shard, sizes: Sequence[Size], encoder: Encoder
) -> Iterator[tuple[int, Row | BadRecord]]:
    """The records of a shard in order, as they come or as what is wrong with them; the next ones are read meanwhile."""

    def ready(index: int) -> tuple[int, Row | BadRecord]:
        try:
            return index, prepared(source[index], sizes, encoder.versions)
        except BadRecord as error:
            return index, error

    indices = range(shard.first, shard.first + shard.count)
    yield from ahead(ready, indices, encoder.threads, encoder.batch_size + encoder.threads)


def encode_rows(shard: Shard, rows: Sequence[tuple[int, Row]], encoder: Encoder) -> None:
    """Encodes up to a batch of rows; the batch is filled up with its last row: one shape, one compilation."""
    filled = [*rows, *[rows[-1]] * (encoder.batch_size - len(rows))]
    latents = encoder.images(unit(np.stack([row["pixels"] for _, row in filled])))
    for (index, row), made in zip(rows, np.asarray(latents), strict=False):
        said = np.frombuffer(json.dumps({"key": row["key"], "captions": row["captions"]}).encode(), np.uint8)
        shard.put("latents", index, latents=half(made, f"record {index}"), sizes=row["sizes"], record=said)
        shard.sizes[index - shard.first] = row["sizes"][4:]
    if encoder.texts is None:
        return
    for version in encoder.versions:
        features, mask = encoder.texts([row["captions"][version] for _, row in filled])
        for (index, _), made, used in zip(rows, np.asarray(features), np.asarray(mask), strict=False):
            shard.put(f"features-{version}", index, features=half(made[used], f"record {index}"))


def half(values: np.ndarray, what: str) -> np.ndarray:
    """The values in float16; ValueError where it cannot hold them."""
    with np.errstate(over="ignore"):  # what overflows is named below
        kept = np.ascontiguousarray(values, np.float16)
    if not np.isfinite(kept).all():
        raise ValueError(f"what was made of {what} is not finite in float16: the network does not suit the data")
    return kept


def store(folder: str, number: int, shard: Shard) -> None:
    """Writes a shard's files and then, since they are whole, what says so."""
    with ExitStack() as stack:
        sizes = {}
        for part, rows in shard.rows.items():
            name = f"{part}-{number:05d}.array_record"
            path = stack.enter_context(files.written_whole(files.joined(folder, name)))
            writer = ArrayRecordWriter(str(path), OPTIONS)
            for row in rows:
                writer.write(row)
            writer.close()
            sizes[name] = path.stat().st_size
    said = {"files": sizes, "bad": shard.bad, "sizes": shard.sizes.tolist()}
    files.write_whole(files.joined(folder, f"{number:05d}.json"), json.dumps(said).encode())
    if not files.is_remote(folder):
        for left in Path(folder).glob(f".*-{number:05d}.array_record.*.tmp"):  # by a build that was killed
            left.unlink()
