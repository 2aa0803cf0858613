"""Named arrays in safetensors files: written in parts of bounded size, read back only if every byte is as written."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from dalle3_jax.checkpoints.int8 import INT8, SCALE, SUFFIX, quantize
from dalle3_jax.checkpoints.tensors import FLOATS, Tensors

__all__ = [
    "BESIDE_INT8",
    "BYTES_PER_FILE",
    "STORED",
    "TYPES",
    "check_release_type",
    "parse_dtype",
    "read_weights",
    "sha256",
    "split_by_size",
    "stored_values",
    "write_bytes",
    "write_part",
    "write_weights",
]

STORED = {FLOATS[kind].name: FLOATS[kind] for kind in ("F16", "BF16", "F32")}
"""The types that all weights can be written in."""
BESIDE_INT8 = STORED["float16"]
"""The type of what stands beside matrices in 8 bits: tables, norms, biases."""
TYPES = {name: frozenset({dtype}) for name, dtype in STORED.items()} | {
    INT8.name: frozenset({INT8, SCALE, BESIDE_INT8}),
}
"""The types of the tensors in files of a component, by the one that model.json gives it."""
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
    folder: Path,
    stem: str,
    tensors: Mapping[str, np.ndarray],
    dtype: np.dtype,
    *,
    axes: Mapping[str, tuple[int, ...]] | None = None,
    limit: int = BYTES_PER_FILE,
) -> dict[str, str]:
    """Writes `stem-00001-of-0000N.safetensors` files of at most `limit` bytes; returns {file name: SHA-256}.

    Values are cast to `dtype` file by file; ValueError names one that it cannot hold. With int8 that is done to the
    matrices that `axes` names, each in one file with its scales, which go over those axes; others are float16. A single
    tensor larger than the limit has a file to itself.
    """
    given = axes or {}
    groups = split_by_size(
        {name: _bytes(name, tensor, dtype, given) for name, tensor in sorted(tensors.items())}, limit
    )
    hashes = {}
    for number, names in enumerate(groups, start=1):
        file = f"{stem}-{number:05}-of-{len(groups):05}.safetensors"
        try:
            hashes[file] = write_part(folder / file, {name: tensors[name] for name in names}, dtype, axes=given)
        except ValueError as error:
            raise ValueError(f"{stem}.{error}") from None
    return hashes


def write_part(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    dtype: np.dtype,
    metadata: dict[str, str] | None = None,
    *,
    axes: Mapping[str, tuple[int, ...]] | None = None,
) -> str:
    """Writes one file and returns its SHA-256; ValueError names a value that `dtype` cannot hold."""
    stored = {}
    for name, tensor in tensors.items():
        stored |= _stored(name, tensor, dtype, axes or {})
    data = safetensors.numpy.save(stored, metadata)
    write_bytes(path, data)
    return sha256(data)


def split_by_size(sizes: Mapping[str, int], limit: int) -> list[list[str]]:
    """Groups of names whose files, of tensors of these bytes, stay under the limit; in the order of the names."""
    groups, left = [], 0
    for name, size in sizes.items():
        cost = size + entry_bytes(name)
        if not groups or cost > left:
            groups.append([])
            left = limit
        groups[-1].append(name)
        left -= cost
    return groups


def entry_bytes(name: str) -> int:
    """The bytes of a header's entry, generously."""
    return len(name.encode()) + 128


def read_weights(path: Path, expected_sha256: str) -> Tensors:
    """The tensors of one file, mapped; ValueError naming it when it is missing, damaged or not what it says."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; copy the release again") from None
    if digest != expected_sha256:
        raise ValueError(
            f"{path} is damaged: its SHA-256 is {digest[:12]}..., model.json says {expected_sha256[:12]}...; "
            "copy or export the release again"
        )
    return Tensors(path)


def parse_dtype(dtype: str) -> np.dtype:
    """The numpy type of a name, or of its short form, that all weights can be stored as; ValueError for others."""
    return _known_type(dtype, STORED)


def check_release_type(dtype: str) -> np.dtype:
    """The same of a release, which may have its matrices in int8."""
    return _known_type(dtype, {**STORED, INT8.name: INT8})


def stored_values(
    tensors: Mapping[str, np.ndarray], dtype: np.dtype, axes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """The values that whoever reads what `write_weights` wrote will have."""
    if dtype != INT8:
        return {name: value.astype(dtype) for name, value in tensors.items()}
    return {
        name: quantize(value, axes[name])[...] if name in axes else value.astype(BESIDE_INT8)
        for name, value in tensors.items()
    }


def _known_type(dtype: str, known: Mapping[str, np.dtype]) -> np.dtype:
    name = SHORT.get(dtype, dtype)
    if name not in known:
        raise ValueError(f"weights cannot be stored as {dtype!r}; one of {', '.join((*known, *SHORT))}")
    return known[name]


def _stored(
    name: str, tensor: np.ndarray, dtype: np.dtype, axes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """A tensor as a file holds it, with its scales if it has any."""
    if dtype != INT8:
        return {name: _cast(name, tensor, dtype)}
    if name not in axes:
        return {name: _cast(name, tensor, BESIDE_INT8)}
    try:
        matrix = quantize(tensor, axes[name])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return {name: matrix.steps, name + SUFFIX: matrix.scale}


def _bytes(name: str, tensor: np.ndarray, dtype: np.dtype, axes: Mapping[str, tuple[int, ...]]) -> int:
    """The bytes of a tensor and its scales in a file, with the header's entry for those."""
    if dtype != INT8:
        return tensor.size * dtype.itemsize
    if name not in axes:
        return tensor.size * BESIDE_INT8.itemsize
    scales = math.prod(length for axis, length in enumerate(tensor.shape) if axis not in axes[name])
    return tensor.size + scales * SCALE.itemsize + entry_bytes(name + SUFFIX)


def _cast(name: str, tensor: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = np.asarray(tensor.astype(dtype, copy=False), order="C")  # ascontiguousarray gives a scalar an axis
    if not np.isfinite(cast).all():
        raise ValueError(f"{name} is not finite as {dtype.name}; store float32, or repair it")
    return cast
