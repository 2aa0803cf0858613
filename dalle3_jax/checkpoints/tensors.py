"""safetensors files through the memory map: headers are believed only as far as they agree with the file.

The format (github.com/huggingface/safetensors): eight bytes with the length of a JSON header, the header, then the
bytes of all tensors end to end. Nothing in it can be executed; here nothing of it is taken on trust either.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import jax.numpy as jnp
import numpy as np

from dalle3_jax.files import stand_in_kind

__all__ = ["DTYPES", "FLOATS", "Tensors", "have_same_bytes", "is_finite"]

FLOATS = {
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
    "F32": np.dtype(np.float32),
    "F64": np.dtype(np.float64),
}
DTYPES = FLOATS | {
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "BOOL": np.dtype(np.bool_),
}
MAX_HEADER, MAX_AXES, MAX_NAME, MAX_VALUES = 2 * 2**20, 8, 512, 2**48
"""Headers of some 15,000 tensors, ten times those of the largest networks; JSON made to that end grows 35-fold."""
BLOCK = 2**22
"""Values that are looked at in one piece."""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
SURROGATE = re.compile("[\ud800-\udfff]")
PICKLES = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
ELSEWHERE = (
    "it is never opened here, since reading it can run code: make safetensors of it elsewhere, on a machine that you "
    "can lose, by loading it with transformers or diffusers and save_pretrained(..., safe_serialization=True)"
)


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one file by name, as read-only views of the mapped file: memory is used by nobody but the cache.

    Raises ValueError naming the file when it is missing, cut short, a pickle, or its header is not what it should be.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._data, self._start, header = _map_file(path)
            self._entries = _check_header(header, len(self._data))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not a weight file that can be trusted: {error}") from None
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None

    def __getitem__(self, name: str) -> np.ndarray:
        dtype, shape, begin, end = self._entries[name]
        return self._data[begin:end].view(dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape, without touching its bytes."""
        return self._entries[name][1]

    def warm(self, name: str) -> None:
        """Reads a tensor's bytes into the page cache, in order: faster than the views' page faults would."""
        _, _, begin, end = self._entries[name]
        with self.path.open("rb", buffering=0) as file:
            file.seek(self._start + begin)
            piece = memoryview(bytearray(min(BLOCK, end - begin)))
            left = end - begin
            while left and (count := file.readinto(piece[:left])):
                left -= count

    def dtype(self, name: str) -> np.dtype:
        """A tensor's type, without touching its bytes."""
        return self._entries[name][0]


def is_finite(array: np.ndarray) -> bool:
    """Whether a float array holds neither NaN nor infinity, looked at block by block."""
    whole = np.dtype(f"u{array.itemsize}")
    infinity = np.array(np.inf, array.dtype).view(whole)
    flat = array.view(whole).reshape(-1)
    sign = whole.type(1 << (8 * array.itemsize - 1))
    blocks = (flat[i : i + BLOCK] for i in range(0, flat.size, BLOCK))
    return all((block & ~sign).max() < infinity for block in blocks)


def have_same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays hold the same bytes, compared block by block."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    first, second = (x.reshape(-1).view(np.uint8) for x in (a, b))
    blocks = (slice(i, i + BLOCK) for i in range(0, first.size, BLOCK))
    return all(np.array_equal(first[block], second[block]) for block in blocks)


def _map_file(path: Path) -> tuple[np.ndarray, int, Any]:
    """The mapped bytes behind the header, where they begin in the file, and the header."""
    if not path.is_file():
        raise ValueError("it is no file" if path.exists() else "there is no such file")
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        first = file.read(64)
        if kind := stand_in_kind(first):
            raise ValueError(f"it is {kind}")
        # The lengths of some sound headers begin as pickles do.
        if first.startswith(PICKLES) and first[8:9] != b"{":
            raise ValueError(f"it is a pickle under the name of another format; {ELSEWHERE}")
        length = int.from_bytes(first[:8], "little")
        if len(first) < 8 or length > size - 8:
            raise ValueError(f"its header says {length} bytes and the file has {size}: it is cut short or damaged")
        if length > MAX_HEADER:
            raise ValueError(f"its header has {length} bytes; more than {MAX_HEADER} is not believed")
        file.seek(8)
        header = _parse_header(file.read(length))
        data = np.memmap(file, np.uint8, "r", 8 + length) if size > 8 + length else np.frombuffer(b"", np.uint8)
    return data, 8 + length, header


def _parse_header(text: bytes) -> Any:
    if not text.startswith(b"{"):
        raise ValueError("its header is not JSON")
    return json.loads(
        text.decode("utf-8"),
        object_pairs_hook=_reject_duplicate_names,
        parse_int=_whole_number,
        parse_float=_reject_number,
        parse_constant=_reject_number,
    )


def _reject_duplicate_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a name occurs twice in its header")
    return entries


def _whole_number(text: str) -> int:
    return int(text) if text.isdigit() and len(text) < 20 else _reject_number(text)


def _reject_number(text: str) -> NoReturn:
    raise ValueError(f"its header holds {text[:20]}, where only sizes belong")


def _check_header(header: dict[str, Any], size: int) -> dict[str, tuple[np.dtype, tuple[int, ...], int, int]]:
    """The entries in the order of their bytes, which must follow each other without a gap to the end of the file."""
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(map(_is_text, (*notes, *notes.values()))):
        raise ValueError("its __metadata__ is not a table of texts")
    entries = sorted(
        ((name, *_parse_entry(name, entry)) for name, entry in header.items()), key=lambda entry: entry[3:]
    )
    place = 0
    for name, _, _, begin, end in entries:
        if begin != place:
            raise ValueError(f"{name} begins at byte {begin} where {place} comes next")
        place = end
    if place != size:
        raise ValueError(f"its tensors take {place} bytes and the file holds {size}: it is cut short or damaged")
    return {name: (dtype, shape, begin, end) for name, dtype, shape, begin, end in entries}


def _parse_entry(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    if len(name) > MAX_NAME or not NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{name[:40]!r} is no name of a tensor: letters, digits, '_', '-' and single dots make one")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(kind, str) or kind not in DTYPES:
        raise ValueError(f"{name} is of the type {str(kind)[:20]!r}; known are {', '.join(DTYPES)}")
    if not _are_sizes(shape) or len(shape) > MAX_AXES or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"{name} has no shape, or no place, made of whole numbers")
    dtype, (begin, end) = DTYPES[kind], offsets
    if math.prod(size or 1 for size in shape) > MAX_VALUES:
        raise ValueError(f"{name} of shape {tuple(shape)} is larger than any array")
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} of shape {tuple(shape)} and type {kind} cannot take {end - begin} bytes")
    return dtype, tuple(shape), begin, end


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int for value in values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not SURROGATE.search(value)
