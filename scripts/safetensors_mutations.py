"""Sound safetensors bytes, and small changes to them that a reader must notice or understand."""

import json
import random
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import safetensors.numpy

__all__ = ["mutate_file", "valid_file"]

NAMES = ("../../x", "/etc/passwd", "a/b", "a\\b", "", ".", "..", ".x", "x..y", "x\n", "x\0", "__metadata__", "x" * 600)
ODD = (None, True, False, "", "1", 1.5, -1, -0.0, 2**31, 2**48, 2**53, 2**63 - 1, 2**64, 10**40, 1e400, [], {}, [[]])
TEXTS = (
    *("\\ud800", "\\udc00\\ud800", "\\u0000", "\\u0061", "\\u202e", "\\ufeff", "\\x61", "\\u00zz", "\\", "\\\\"),
    *("é", "\ufeff", "\u202e", "а", "\t", "\x00", "\x7f", "-0", "1e2", "0x10", "01", "NaN", "-Infinity", "//", "'"),  # noqa: RUF001
)
BYTES = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\xfe\xff", b"\x80")


def valid_file() -> bytes:
    """The file that all others are made of: of most types, a scalar and an empty tensor among them."""
    values = np.arange(24)
    tensors = {
        "block.0.weight": values.reshape(4, 6).astype(np.float32),
        "block.0.bias": values[:4].astype(np.float16),
        "block.1.weight": values.reshape(2, 3, 2, 2).astype(jnp.bfloat16),
        "block.1.bias": values[:3].astype(np.float64),
        "empty": np.zeros((0, 5), np.float32),
        "flags": values[:5] > 2,
        "ids": values[:2],
        "scale": np.array(3, np.float32),
    }
    return safetensors.numpy.save(tensors, {"format": "pt"})


def mutate_file(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One or two changes to a file, and the name of the first."""
    kind = rng.choice([*HEADERS, *FILES])
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length], data[8 + length :]
    if kind in HEADERS:
        header = HEADERS[kind](header, rng)
    if rng.random() < 0.2:
        header = HEADERS[rng.choice(["bits", "bytes", "digits", "unicode"])](header, rng)
    if rng.random() < 0.1:
        header += b" " * rng.randrange(16)
    data = len(header).to_bytes(8, "little") + header + rest
    return kind, FILES[kind](data, rng) if kind in FILES else data


def _flip_bits(header: bytes, rng: random.Random) -> bytes:
    changed = bytearray(header)
    for _ in range(rng.randint(1, 3)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _change_bytes(header: bytes, rng: random.Random) -> bytes:
    """Some taken out, or others put in."""
    at, count = rng.randrange(len(header)), rng.randint(1, 8)
    if rng.random() < 0.5:
        return header[:at] + header[at + count :]
    other = rng.choice([rng.randbytes(count), header[at : at + count], rng.choice(BYTES)])
    return header[:at] + other + header[at:]


def _change_digits(header: bytes, rng: random.Random) -> bytes:
    """Other digits, or the same number written otherwise."""
    places = [i for i, byte in enumerate(header) if byte in b"0123456789"]
    for at in sorted(rng.sample(places, min(len(places), rng.randint(1, 2))), reverse=True):
        same = header[at : at + 1].decode()
        other = rng.choice([*"0123456789", f"-{same}", f"0{same}", f"{same}.0", f"{same}e0"])
        header = header[:at] + other.encode() + header[at + 1 :]
    return header


def _insert_unicode(header: bytes, rng: random.Random) -> bytes:
    """Odd text where a string begins."""
    places = [i + 1 for i, byte in enumerate(header) if byte == ord('"')] or [0]
    at = rng.choice(places)
    return header[:at] + rng.choice(TEXTS).encode() + header[at:]


def _repeat_key(header: bytes, rng: random.Random) -> bytes:
    """A key twice: an entry, or a field within one, the second time perhaps with another value."""
    entries = json.loads(header)
    name = rng.choice(list(entries))
    second = rng.choice([entries[name], entries[rng.choice(list(entries))], rng.choice(ODD)])
    outer = b"{" + f"{json.dumps(name)}:{json.dumps(second)},".encode() + header.lstrip()[1:]
    field = rng.choice([b'"dtype"', b'"shape"', b'"data_offsets"'])
    inner = header.replace(field, field + b":" + json.dumps(second).encode() + b"," + field, 1)
    return rng.choice([outer, inner])


def _on_entries(
    change: Callable[[dict[str, Any], str, random.Random], None],
) -> Callable[[bytes, random.Random], bytes]:
    """A change to the header's entries, one of which is named, as one to its bytes."""

    def change_bytes(header: bytes, rng: random.Random) -> bytes:
        entries = json.loads(header)
        name = rng.choice([name for name in entries if name != "__metadata__"])
        change(entries, name, rng)
        return json.dumps(entries, separators=rng.choice([(",", ":"), (", ", ": ")])).encode()

    return change_bytes


def _rename_tensor(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    swapped = list(name)
    rng.shuffle(swapped)
    entries[rng.choice([*NAMES, "other.name", "".join(swapped)])] = entries.pop(name)


def _change_dtype(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    entries[name]["dtype"] = rng.choice(["F16", "BF16", "F32", "I32", "U8", "I64", "F8_E4M3", "f32", *ODD])


def _change_shape(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    shape = entries[name]["shape"]
    huge = [0, 2**47, 2**47, 2**47]
    others = [shape[::-1], [*shape, 1], shape[1:], [1] * 9, huge, huge[::-1], [-1, -24], [24], [12, 2], rng.choice(ODD)]
    entries[name]["shape"] = rng.choice([*others, [*shape[:-1], rng.choice(ODD)]])


def _move_offsets(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    begin, end = entries[name]["data_offsets"]
    other = entries[rng.choice([name for name in entries if name != "__metadata__"])]
    step = rng.choice([1, 4, 8, -4, 2**40, 2**63])
    places = [
        [begin + step, end + step],
        [begin, end + step],
        [end, begin],
        [begin],
        [begin, end, end],
        rng.choice(ODD),
    ]
    if rng.random() < 0.4:
        entries[name]["data_offsets"], other["data_offsets"] = other["data_offsets"], entries[name]["data_offsets"]
    else:
        entries[name]["data_offsets"] = rng.choice([*places, other["data_offsets"], rng.choice(ODD)])


def _nest_value(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    deep: Any = rng.choice(ODD)
    for _ in range(rng.choice([1, 3, 50, 500])):
        deep = rng.choice([[deep], {"x": deep}])
    place = rng.choice([entries, entries[name], entries.setdefault("__metadata__", {})])
    place[rng.choice(list(place) or ["x"])] = deep


def _change_number(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    values = entries[name][rng.choice(["shape", "data_offsets"])]
    at = rng.randrange(len(values) + 1)
    values[at : at + 1] = [rng.choice([*ODD, [2**62]])]


def _change_fields(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    """A field more or less, or an entry that is none."""
    if rng.random() < 0.3:
        entries[rng.choice([name, "__metadata__"])] = rng.choice([*ODD, {"a": 1}, {"a": None}, {"a": "b"}])
    elif rng.random() < 0.5:
        entries[name][rng.choice(["order", "Shape", "__metadata__"])] = rng.choice(ODD)
    else:
        del entries[name][rng.choice(list(entries[name]))]


def _permute_entries(entries: dict[str, Any], name: str, rng: random.Random) -> None:
    """Another order, which means nothing; or a tensor less, which does."""
    if rng.random() < 0.3:
        del entries[name]
    pairs = list(entries.items())
    rng.shuffle(pairs)
    entries.clear()
    entries.update(pairs)


def _truncate_file(data: bytes, rng: random.Random) -> bytes:
    return rng.choice([data[: rng.randrange(len(data))], data[: -rng.randint(1, 9)], data + rng.randbytes(9)])


def _change_header_length(data: bytes, rng: random.Random) -> bytes:
    """Another length of the header than it has."""
    length = int.from_bytes(data[:8], "little")
    lies = [0, 1, length - 1, length + 1, length + 8, len(data), len(data) - 8, 2**60, 2**63, 2**64 - 1, 100_000_000]
    return rng.choice(lies).to_bytes(8, "little") + data[8:]


def _change_payload(data: bytes, rng: random.Random) -> bytes:
    """Other values, NaN among them."""
    start = 8 + int.from_bytes(data[:8], "little")
    return data[:start] + bytes(rng.choice([byte, 0xFF, 0x7F, 0xF8]) for byte in data[start:])


HEADERS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bits": _flip_bits,
    "bytes": _change_bytes,
    "digits": _change_digits,
    "unicode": _insert_unicode,
    "a key twice": _repeat_key,
    "names": _on_entries(_rename_tensor),
    "types": _on_entries(_change_dtype),
    "shapes": _on_entries(_change_shape),
    "places": _on_entries(_move_offsets),
    "nesting": _on_entries(_nest_value),
    "numbers": _on_entries(_change_number),
    "fields": _on_entries(_change_fields),
    "order": _on_entries(_permute_entries),
}
FILES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncation": _truncate_file,
    "header length": _change_header_length,
    "payload": _change_payload,
}
