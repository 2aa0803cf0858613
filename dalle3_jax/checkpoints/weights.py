"""Named arrays in safetensors files: written in parts of bounded size, read back only if every byte is as written."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from dalle3_jax.checkpoints.tensors import FLOATS, Tensors

STORED = {FLOATS[kind].name: FLOATS[kind] for kind in ("F16", "BF16", "F32")}
"""The types that weights are written in."""
SHORT = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}
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
    folder: Path, stem: str, tensors: Mapping[str, np.ndarray], dtype: np.dtype, *, limit: int = BYTES_PER_FILE
) -> dict[str, str]:
    """Writes `stem-00001-of-0000N.safetensors` files of at most `limit` bytes; returns {file name: SHA-256}.

    Values are cast to `dtype` file by file; ValueError names one that it cannot hold. A single tensor larger than the
    limit has a file to itself.
    """
    groups = parts({name: tensor.size * dtype.itemsize for name, tensor in sorted(tensors.items())}, limit)
    hashes = {}
    for number, names in enumerate(groups, start=1):
        file = f"{stem}-{number:05}-of-{len(groups):05}.safetensors"
        try:
            hashes[file] = write_part(folder / file, {name: tensors[name] for name in names}, dtype)
        except ValueError as error:
            raise ValueError(f"{stem}.{error}") from None
    return hashes


def write_part(
    path: Path, tensors: Mapping[str, np.ndarray], dtype: np.dtype, metadata: dict[str, str] | None = None
) -> str:
    """Writes one file and returns its SHA-256; ValueError names a value that `dtype` cannot hold."""
    data = safetensors.numpy.save({name: _cast(name, tensor, dtype) for name, tensor in tensors.items()}, metadata)
    write_bytes(path, data)
    return sha256(data)


def parts(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Groups of names whose files, of tensors of these bytes, stay under the limit; in the order of the names."""
    groups, left = [], 0
    for name, size in sizes.items():
        cost = size + len(name.encode()) + 128  # the header's entry, generously
        if not groups or cost > left:
            groups.append([])
            left = limit
        groups[-1].append(name)
        left -= cost
    return groups


def read_weights(path: Path, expected_sha256: str) -> Tensors:
    """The tensors of one file, mapped; ValueError naming it when it is missing, damaged or not what it says."""
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; copy the release again") from None
    if found != expected_sha256:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {found[:12]}..., model.json says {expected_sha256[:12]}...; "
            "copy or export the release again"
        )
    return Tensors(path)


def check_type(dtype: str) -> np.dtype:
    """The numpy type of a name, or of its short form, that weights can be stored as; ValueError for others."""
    name = SHORT.get(dtype, dtype)
    if name not in STORED:
        raise ValueError(f"weights cannot be stored as {dtype!r}; one of {', '.join((*STORED, *SHORT))}")
    return STORED[name]


def _cast(name: str, tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = np.asarray(tensor.astype(dtype, copy=False), order="C")  # ascontiguousarray gives a scalar an axis
    if not np.isfinite(cast).all():
        raise ValueError(f"{name} is not finite as {dtype.name}; store float32, or repair it")
    return cast
