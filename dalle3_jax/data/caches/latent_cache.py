"""The cache of `dalle3-jax encode`: latents and text features of records, read instead of pictures and captions.

    made.json            what made it: VAE, source, sizes, ...; written first, so that nothing else goes on with it
    latents-00000.array_record      one row a record: latents, sizes, key, captions; no bytes for a bad record
    features-VERSION-00000...       one row a record: the text encoder's features of that version of its caption
    00000.json           written when a shard is whole: its files with their bytes, and its bad records
    null.safetensors     features of the empty caption
    sizes.npy            height and width of every record's picture as it was encoded
    cache.json           written last: a folder without it is not finished

Rows are safetensors, files are ArrayRecord, whose checksums are verified with every read.
"""

import io
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Int32
from safetensors.numpy import load

from dalle3_jax.data import files
from dalle3_jax.data.bad_records import NAMED
from dalle3_jax.data.image_files import WHITE
from dalle3_jax.data.records import BadRecord, Record

__all__ = [
    "CacheEntry",
    "CachedRecords",
    "LatentCache",
    "cache_metadata",
    "metadata_digest",
    "metadata_mismatch",
    "open_cache",
    "read_cache_metadata",
]

FORMAT = 1
SHARD = 4096
"""Records in a shard, the last one excepted: what a killed build does again."""

OPEN = 64
"""Files that are open at a time."""

RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


def cache_metadata(
    *,
    source: str,
    vae: str,
    sizes: Sequence[Sequence[int]],
    text: str = "",
    text_length: int = 0,
    versions: Sequence[str] = (),
    captions: str = "",
    background: Sequence[int] = WHITE,
) -> dict[str, Any]:
    """The metadata of a cache, on what it is made from, as JSON: another value of any of these makes another cache.

    `source` is its fingerprint, `vae` and `text` are digests of networks; without `text` no features are kept.
    `captions` is the fingerprint of the source with its sidecars, where texts are read from them; `background` is what
    transparent pictures were laid on.
    """
    how = {"format": FORMAT, "source": source, "vae": vae, "sizes": sorted(map(list, sizes)), "crop": "centre"}
    how["shard"] = SHARD
    if tuple(background) != WHITE:  # a key of its own, so that caches of before it are those of white
        how["background"] = list(background)
    if text:
        how |= {"text": text, "text_length": text_length, "versions": sorted(versions)}
        how |= {"captions": captions} if captions else {}
    return how


def metadata_digest(metadata: Mapping[str, Any]) -> str:
    """A name for what a cache is made from."""
    return sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:16]


def metadata_mismatch(folder: str, stored: Mapping[str, Any], expected: Mapping[str, Any], what: str = "cache") -> str:
    """An error that lists all mismatches of what a folder was made from and is wanted for; empty where it suits."""
    lines = [
        f"{name} is {stored.get(name)!r} there and {expected.get(name)!r} here"
        for name in sorted(stored.keys() | expected.keys())
        if stored.get(name) != expected.get(name)
    ]
    return f"the {what} {folder} was made from something else: {'; '.join(lines)}" if lines else ""


def read_cache_metadata(folder: str) -> dict[str, Any]:
    """The metadata of the cache in a folder, on what it was made from; ValueError where there is none."""
    try:
        return json.loads(files.read_bytes(files.join_path(folder, "made.json")))
    except FileNotFoundError:
        raise ValueError(f"{folder!r} holds no cache: give the --outdir of dalle3-jax encode") from None


def open_cache(folder: str, metadata: Mapping[str, Any], count: int | None = None) -> "LatentCache":
    """The cache in a folder or a bucket, its first `count` records; ValueError where it is not whole, or stale.

    `metadata` is what it has to be made from; where that says nothing of text, text features that are there are not
    read.
    """
    try:
        record = json.loads(files.read_bytes(files.join_path(folder, "cache.json")))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no finished cache: run dalle3-jax encode again, it goes on") from None
    if stale := metadata_mismatch(folder, record["made"], {**record["made"], **metadata}):
        raise ValueError(f"{stale}. Encode into another folder, or take the data and networks it was made from")
    if count is not None and record["records"] < count:
        raise ValueError(f"{folder} holds {record['records']} records, not {count}: run dalle3-jax encode again")
    entries = {entry.name: entry for entry in files.list_files(folder)}
    sizes = {name: size for shard in record["shards"] for name, size in shard["files"].items()}
    if damaged := sorted(name for name, size in sizes.items() if name not in entries or entries[name].size != size):
        raise ValueError(f"{folder} lacks {damaged[0]} or holds a part of it: run dalle3-jax encode again")
    total, versions = record["records"] if count is None else count, metadata.get("versions", ())
    return LatentCache(folder, record, entries, total, tuple(versions) if "text" in metadata else ())


@dataclass(frozen=True)
class CacheEntry(Mapping[str, Any]):
    """The entry of one record in a cache, read when it is asked for.

    `latents` float16 [h w c], the VAE's own, not scaled; `sizes` int32 [6]: original height and width, top and left of
    the crop in the scaled picture, height and width; for every version of captions that was encoded and "" for none
    `features/VERSION` float16 [l d] and `mask/VERSION` bool [l], zero and False after the last token.
    """

    cache: "LatentCache"
    index: int
    row: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """The array of this name."""
        if name not in self.names:
            raise KeyError(name)
        part, _, version = name.partition("/")
        if part not in ("features", "mask"):
            return self.row[name]
        features = self.cache.null_features if not version else self.cache.read_features(self.index, version)
        length = self.cache.manifest["made"]["text_length"]
        if part == "mask":
            return np.arange(length) < len(features)
        return np.pad(features, ((0, length - len(features)), (0, 0)))

    def __contains__(self, name: object) -> bool:
        """Whether there is such an array, without reading it."""
        return name in self.names

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.names)

    def __len__(self) -> int:
        """The number of arrays."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays."""
        versions = ("", *self.cache.versions) if self.cache.versions else ()
        return ("latents", "sizes", *(f"{part}/{of}" for of in versions for part in ("features", "mask")))


@dataclass(frozen=True)
class LatentCache(Sequence[Any]):
    """The first `total` records of a cache; `cache[i]` raises BadRecord for those that could not be encoded.

    `versions` are the captions whose features are read. Any number of threads may read.
    """

    folder: str
    manifest: Mapping[str, Any]
    entries: Mapping[str, files.FileEntry]
    total: int
    versions: tuple[str, ...] = ()
    readers: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False, compare=False)
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def __len__(self) -> int:
        """The number of records, bad ones included."""
        return self.total

    def __getitem__(self, index: int) -> CacheEntry:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The cached entry of the record at `index`."""
        return CacheEntry(self, index, load(self.read_row("latents", index)))

    @cached_property
    def null_features(self) -> np.ndarray:
        """Features of the empty caption, float16 [l d] without padding."""
        return load(files.read_bytes(files.join_path(self.folder, "null.safetensors")))["features"]

    @cached_property
    def bad_records(self) -> Mapping[int, Sequence[str]]:
        """Reason, key and detail of every record that could not be encoded."""
        return {index: rest for shard in self.manifest["shards"] for index, *rest in shard["bad"] if index < self.total}

    def bad_keys(self) -> dict[str, list[str]]:
        """The keys of the first bad records of each reason."""
        keys: dict[str, list[str]] = {}
        for reason, key, *_ in self.bad_records.values():
            if len(named := keys.setdefault(reason, [])) < NAMED:
                named.append(key)
        return keys

    @cached_property
    def source(self) -> "CachedRecords":
        """Keys, captions and sizes, as a source has them."""
        return CachedRecords(self)

    def read_features(self, index: int, version: str) -> np.ndarray:
        """Features of a version of a record's caption, float16 [l d] without padding."""
        return load(self.read_row(f"features-{version}", index))["features"]

    def read_row(self, part: str, index: int) -> bytes:
        """The row of a record in one of the files of its shard; BadRecord where it could not be encoded."""
        if not 0 <= index < self.total:
            raise IndexError(f"record {index} of {self.total} in {self.folder}")
        if index in self.bad_records:
            raise BadRecord(*self.bad_records[index])  # pyright: ignore[reportArgumentType]
        shard, row = divmod(index, self.manifest["shard"])
        name = f"{part}-{shard:05d}.array_record"
        content = self.open_reader(name).read([row])[0]
        if not content:
            raise ValueError(f"{self.folder}/{name} has no row {row}: remove the cache and encode again")
        return content

    def open_reader(self, name: str) -> Any:
        """An open file; the one that was not asked for longest is let go, and closed when nobody reads it any more."""
        from array_record.python.array_record_module import ArrayRecordReader

        with self.lock:
            if name not in self.readers:
                path = files.local_copies([self.entries[name]]) / name
                self.readers[name] = ArrayRecordReader(str(path), RANDOM_ACCESS, file_reader_buffer_size=1 << 16)
                if len(self.readers) > OPEN:
                    self.readers.popitem(last=False)
            self.readers.move_to_end(name)
            return self.readers[name]


@dataclass(frozen=True)
class CachedRecords:
    """The records of a cache without their pictures: what batches take captions from."""

    cache: LatentCache

    def __len__(self) -> int:
        """The number of records."""
        return len(self.cache)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`, its image empty; BadRecord where it could not be encoded."""
        row = self.cache[index].row
        said = json.loads(row["record"].tobytes())
        height, width = map(int, row["sizes"][:2])
        return Record(said["key"], b"", height, width, said["captions"])

    def sizes(self, first: int, last: int) -> Int32[np.ndarray, "n 2"]:
        """Heights and widths as they were encoded: the sizes of their buckets."""
        return self._sizes[first:last]

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.load(
            io.BytesIO(files.read_bytes(files.join_path(self.cache.folder, "sizes.npy"))), allow_pickle=False
        )

    @property
    def source_fingerprint(self) -> str:
        """The fingerprint of the source that was encoded."""
        return self.cache.manifest["made"]["source"]

    @property
    def fingerprint(self) -> str:
        """Of what the cache was made from."""
        return f"cache/{metadata_digest(self.cache.manifest['made'])}"
