"""What `dalle3-jax encode` leaves: latents and text features of every record, read instead of pictures and captions.

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
from dalle3_jax.data.records import BadRecord, Record

__all__ = ["Cache", "Entry", "Records", "differences", "digest_of", "made_by", "made_from", "open_cache"]

FORMAT = 1
SHARD = 4096
"""Records in a shard, the last one excepted: what a killed build does again."""

OPEN = 64
"""Files that are open at a time."""

RANDOM_ACCESS = "readahead_buffer_size:0,max_parallelism:0"


def made_by(
    *,
    source: str,
    vae: str,
    sizes: Sequence[Sequence[int]],
    text: str = "",
    text_length: int = 0,
    versions: Sequence[str] = (),
    captions: str = "",
) -> dict[str, Any]:
    """What a cache is made from, as JSON: another value of any of these makes another cache.

    `source` is its fingerprint, `vae` and `text` are digests of networks; without `text` no features are kept.
    `captions` is the fingerprint of the source with its sidecars, where texts are read from them.
    """
    how = {"format": FORMAT, "source": source, "vae": vae, "sizes": sorted(map(list, sizes)), "crop": "centre"}
    how["shard"] = SHARD
    if text:
        how |= {"text": text, "text_length": text_length, "versions": sorted(versions)}
        how |= {"captions": captions} if captions else {}
    return how


def digest_of(made: Mapping[str, Any]) -> str:
    """A name for what a cache is made from."""
    return sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:16]


def differences(folder: str, found: Mapping[str, Any], wanted: Mapping[str, Any], what: str = "cache") -> str:
    """How what a folder's content was made from differs from what it is wanted for; empty where it suits."""
    lines = [
        f"{name} is {found.get(name)!r} there and {wanted.get(name)!r} here"
        for name in sorted(found.keys() | wanted.keys())
        if found.get(name) != wanted.get(name)
    ]
    return f"the {what} {folder} was made from something else: {'; '.join(lines)}" if lines else ""


def made_from(folder: str) -> dict[str, Any]:
    """What the cache in a folder was made from; ValueError where there is none."""
    try:
        return json.loads(files.read(files.joined(folder, "made.json")))
    except FileNotFoundError:
        raise ValueError(f"{folder!r} holds no cache: give the --outdir of dalle3-jax encode") from None


def open_cache(folder: str, made: Mapping[str, Any], count: int | None = None) -> "Cache":
    """The cache in a folder or a bucket, its first `count` records; ValueError where it is not whole, or stale.

    `made` is what it has to be made from; where that says nothing of text, text features that are there are not read.
    """
    try:
        record = json.loads(files.read(files.joined(folder, "cache.json")))
    except FileNotFoundError:
        raise ValueError(f"{folder} holds no finished cache: run dalle3-jax encode again, it goes on") from None
    if stale := differences(folder, record["made"], {**record["made"], **made}):
        raise ValueError(f"{stale}. Encode into another folder, or take the data and networks it was made from")
    if count is not None and record["records"] < count:
        raise ValueError(f"{folder} holds {record['records']} records, not {count}: run dalle3-jax encode again")
    found = {entry.name: entry for entry in files.listed(folder)}
    sizes = {name: size for shard in record["shards"] for name, size in shard["files"].items()}
    if damaged := sorted(name for name, size in sizes.items() if name not in found or found[name].size != size):
        raise ValueError(f"{folder} lacks {damaged[0]} or holds a part of it: run dalle3-jax encode again")
    total, versions = record["records"] if count is None else count, made.get("versions", ())
    return Cache(folder, record, found, total, tuple(versions) if "text" in made else ())


@dataclass(frozen=True)
class Entry(Mapping[str, Any]):
    """What a cache holds of one record, read when it is asked for.

    `latents` float16 [h w c], the VAE's own, not scaled; `sizes` int32 [6]: original height and width, top and left of
    the crop in the scaled picture, height and width; for every version of captions that was encoded and "" for none
    `features/VERSION` float16 [l d] and `mask/VERSION` bool [l], zero and False after the last token.
    """

    cache: "Cache"
    index: int
    row: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """The array of this name."""
        if name not in self.names:
            raise KeyError(name)
        part, _, version = name.partition("/")
        if part not in ("features", "mask"):
            return self.row[name]
        features = self.cache.null if not version else self.cache.features(self.index, version)
        length = self.cache.record["made"]["text_length"]
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
        """How many arrays there are."""
        return len(self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """What the arrays are called."""
        versions = ("", *self.cache.versions) if self.cache.versions else ()
        return ("latents", "sizes", *(f"{part}/{of}" for of in versions for part in ("features", "mask")))


@dataclass(frozen=True)
class Cache(Sequence[Any]):
    """The first `total` records of a cache; `cache[i]` raises BadRecord for those that could not be encoded.

    `versions` are the captions whose features are read. Any number of threads may read.
    """

    folder: str
    record: Mapping[str, Any]
    entries: Mapping[str, files.Entry]
    total: int
    versions: tuple[str, ...] = ()
    readers: OrderedDict[str, Any] = field(default_factory=OrderedDict, repr=False, compare=False)
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    def __len__(self) -> int:
        """How many records there are, bad ones included."""
        return self.total

    def __getitem__(self, index: int) -> Entry:  # pyright: ignore[reportIncompatibleMethodOverride]
        """What is kept of the record at `index`."""
        return Entry(self, index, load(self.read("latents", index)))

    @cached_property
    def null(self) -> np.ndarray:
        """Features of the empty caption, float16 [l d] without padding."""
        return load(files.read(files.joined(self.folder, "null.safetensors")))["features"]

    @cached_property
    def bad(self) -> Mapping[int, Sequence[str]]:
        """Reason, key and detail of every record that could not be encoded."""
        return {index: rest for shard in self.record["shards"] for index, *rest in shard["bad"] if index < self.total}

    @cached_property
    def records(self) -> "Records":
        """Keys, captions and sizes, as a source has them."""
        return Records(self)

    def features(self, index: int, version: str) -> np.ndarray:
        """Features of a version of a record's caption, float16 [l d] without padding."""
        return load(self.read(f"features-{version}", index))["features"]

    def read(self, part: str, index: int) -> bytes:
        """The row of a record in one of the files of its shard; BadRecord where it could not be encoded."""
        if not 0 <= index < self.total:
            raise IndexError(f"record {index} of {self.total} in {self.folder}")
        if index in self.bad:
            raise BadRecord(*self.bad[index])  # pyright: ignore[reportArgumentType]
        shard, row = divmod(index, self.record["shard"])
        name = f"{part}-{shard:05d}.array_record"
        content = self.reader(name).read([row])[0]
        if not content:
            raise ValueError(f"{self.folder}/{name} has no row {row}: remove the cache and encode again")
        return content

    def reader(self, name: str) -> Any:
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
class Records:
    """The records of a cache without their pictures: what batches take captions from."""

    cache: Cache

    def __len__(self) -> int:
        """How many records there are."""
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
        return np.load(io.BytesIO(files.read(files.joined(self.cache.folder, "sizes.npy"))), allow_pickle=False)

    @property
    def origin(self) -> str:
        """The fingerprint of the source that was encoded."""
        return self.cache.record["made"]["source"]

    @property
    def fingerprint(self) -> str:
        """Of what the cache was made from."""
        return f"cache/{digest_of(self.cache.record['made'])}"
