"""Named arrays in safetensors files: written in parts of bounded size, read back only if every byte is as written."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

DTYPES = {"F16": np.dtype(np.float16), "BF16": np.dtype(jnp.bfloat16), "F32": np.dtype(np.float32)}
BYTES_PER_FILE = 15_000_000


def sha256(data: bytes) -> str:
    """The SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_weights(
    folder: Path, stem: str, tensors: Mapping[str, np.ndarray], *, limit: int = BYTES_PER_FILE
) -> dict[str, str]:
    """Writes `stem-00001-of-0000N.safetensors` files of at most `limit` bytes; returns {file name: SHA-256}.

    A single tensor larger than the limit has a file to itself.
    """
    parts = list(_parts(tensors, limit))
    hashes = {}
    for number, part in enumerate(parts, start=1):
        name = f"{stem}-{number:05}-of-{len(parts):05}.safetensors"
        data = safetensors.numpy.save({key: np.ascontiguousarray(tensors[key]) for key in part})
        write_bytes(folder / name, data)
        hashes[name] = sha256(data)
    return hashes


def read_weights(path: Path, expected_sha256: str) -> dict[str, np.ndarray]:
    """Reads one safetensors file; ValueError naming the file when it is missing, damaged or not what it says."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; copy the release again") from None
    if sha256(data) != expected_sha256:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {sha256(data)[:12]}..., model.json says {expected_sha256[:12]}...; "
            "copy or export the release again"
        )
    try:
        _check_header(data)
        return {name: _array(name, view) for name, view in safetensors.deserialize(data)}
    except (ValueError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is not a weight file that can be trusted: {error}") from None


def _parts(tensors: Mapping[str, np.ndarray], limit: int) -> Iterator[list[str]]:
    """Groups of names whose files stay under the limit, in order of name."""
    part, size = [], 0
    for name in sorted(tensors):
        cost = tensors[name].nbytes + len(name.encode()) + 128  # the header's entry, generously
        if part and size + cost > limit:
            yield part
            part, size = [], 0
        part.append(name)
        size += cost
    if part:
        yield part


def _check_header(data: bytes) -> None:
    """The library takes a name twice in silence and keeps one of them."""
    size = int.from_bytes(data[:8], "little")
    names = []
    json.loads(data[8 : 8 + size], object_pairs_hook=lambda pairs: names.append([key for key, _ in pairs]))
    top_level = names[-1] if names else []
    if len(set(top_level)) != len(top_level):
        raise ValueError("a tensor's name occurs twice")


def _array(name: str, view: Mapping) -> np.ndarray:
    dtype = DTYPES.get(view["dtype"])
    if dtype is None:
        raise ValueError(f"{name} is {view['dtype']}; weights are {', '.join(DTYPES)}")
    array = np.frombuffer(view["data"], dtype).reshape(view["shape"])
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array
