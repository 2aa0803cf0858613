"""Latents encoded once and kept: what a record's picture costs the VAE is paid before training, not in each epoch.

A cache is a folder of `.npy` shards, each written whole, under a name that is the hash of what made it: the VAE's
weights and the source's fingerprint. A build that was killed goes on with the first shard that is missing.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float16

from dalle3_jax.data.sources import Source
from dalle3_jax.data.transforms import decode, unit

Encode = Callable[[Float[np.ndarray, "b h w 3"]], Float[np.ndarray, "b h w c"]]
SHARD = 1024
"""Records in a shard; the last one holds what is left."""


@dataclass(frozen=True)
class LatentCache(Sequence[np.ndarray]):
    """The latents of records 0 to n - 1, read from disk as they are needed."""

    shards: tuple[Float16[np.ndarray, "_ h w c"], ...]

    def __len__(self) -> int:
        """How many records are in the cache."""
        return sum(len(shard) for shard in self.shards)

    def __getitem__(self, index: int) -> Float16[np.ndarray, "h w c"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The latents of the record at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(f"latents {index} of {len(self)}")
        return np.array(self.shards[index // SHARD][index % SHARD])


def cache_folder(root: str | Path, source: Source, key: str) -> Path:
    """Where the latents of `source` under the VAE that `key` names are kept."""
    made_by = json.dumps({"source": source.fingerprint, "vae": key}, sort_keys=True)
    return Path(root) / sha256(made_by.encode()).hexdigest()[:16]


def build(
    root: str | Path,
    source: Source,
    encode: Encode,
    count: int,
    batch_size: int,
    key: str,
    progress: Callable[[int], None] = lambda done: None,
) -> LatentCache:
    """Encodes what is missing of the first `count` records and opens the cache.

    `encode` takes pictures in [-1, 1], always `batch_size` of them, and gives latents as the VAE has them (not scaled);
    `progress` is told how many records are done.
    """
    folder = cache_folder(root, source, key)
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, count, SHARD):
        last = min(first + SHARD, count)
        if rows_of(shard_path(folder, first)) < last - first:
            write_shard(shard_path(folder, first), source, encode, range(first, last), batch_size)
        progress(last)
    return open_cache(root, source, key, count)


def open_cache(root: str | Path, source: Source, key: str, count: int) -> LatentCache:
    """The first `count` latents; ValueError where they were not all written."""
    folder = cache_folder(root, source, key)
    paths = [shard_path(folder, first) for first in range(0, count, SHARD)]
    if missing := [path.name for i, path in enumerate(paths) if rows_of(path) < min(SHARD, count - i * SHARD)]:
        raise ValueError(f"{folder} lacks {len(missing)} of {len(paths)} shards ({missing[0]}): build the cache first")
    shards = [np.load(path, mmap_mode="r") for path in paths]
    return LatentCache(tuple(shard[: count - i * SHARD] for i, shard in enumerate(shards)))


def shard_path(folder: Path, first: int) -> Path:
    """The file that starts with record `first`."""
    return folder / f"{first // SHARD:05d}.npy"


def rows_of(path: Path) -> int:
    """How many records a shard holds: 0 where there is none, or none that can be read."""
    try:
        return len(np.load(path, mmap_mode="r"))
    except (OSError, ValueError, EOFError):
        return 0


def write_shard(path: Path, source: Source, encode: Encode, indices: range, batch_size: int) -> None:
    """Encodes the records at `indices` and writes them under a temporary name first."""
    rows = []
    for start in range(indices.start, indices.stop, batch_size):
        # The last batch is filled up with its last record: one shape, one compilation.
        batch = [min(index, indices.stop - 1) for index in range(start, start + batch_size)]
        latents = np.asarray(encode(unit(np.stack([decode(source[index].image) for index in batch]))))
        with np.errstate(over="ignore"):  # what overflows is named below
            rows.append(latents[: indices.stop - start].astype(np.float16))
    shard = np.concatenate(rows)
    if not np.isfinite(shard).all():
        raise ValueError(f"latents of records {indices.start} to {indices.stop - 1} are not finite in float16")
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        np.save(file, shard)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
