"""Writes the captions of `sidecars`: file by file, shared out over processes, going on where a run was killed."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.data import files
from dalle3_jax.data.bad_records import Ledger
from dalle3_jax.data.caches import sidecars
from dalle3_jax.data.caches.latent_cache import differences
from dalle3_jax.data.caches.prefetch import ahead
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.index import in_threads
from dalle3_jax.data.transforms import decode, stretched

__all__ = ["Captioning", "Chunk", "begin", "chunks_of", "conclude", "unwritten", "write"]

TOLD = ("date", "software")
"""What is told of a folder's making and may be another when it goes on."""

Line = dict[str, Any]
Picture = UInt8[np.ndarray, "_ _ 3"]


class Chunk(NamedTuple):
    """A file: its number, its first record, and how many there are in it."""

    number: int
    first: int
    records: int


@dataclass(frozen=True)
class Captioning:
    """How captions are made, as functions.

    `captions` takes the pictures of a chunk (brought to `size` where it is given, height and width) with their places
    in the source; `guarded` takes a record's place, its alternative text and what was written of it, and gives what is
    kept of that and a flag for each change.
    """

    captions: Callable[[list[Picture], list[int]], list[str]]
    guarded: Callable[[int, str, str], tuple[str, Sequence[str]]]
    size: tuple[int, int] | None = None
    threads: int = 4


class Row(NamedTuple):
    """A record that is to be captioned."""

    at: int
    key: str
    alt: str
    picture: Picture


def begin(folder: str, made: Mapping[str, Any]) -> None:
    """Says what the captions are made from, or refuses a folder that says something else; for one process, first."""
    path = files.joined(folder, "made.json")
    if files.entry(path):
        found = json.loads(files.read(path))
        if stale := differences(folder, compared(found), compared(made), "sidecar"):
            raise ValueError(f"{stale}. Recaption into another folder, or remove that one")
        return
    if found := [entry.name for entry in files.listed(folder) if not entry.name.startswith(".")]:
        raise ValueError(f"{folder} holds {found[0]} and no captions of ours: recaption into another folder")
    files.write_whole(path, json.dumps(made, indent=1).encode())


def compared(made: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a folder to go on, in one level."""
    inner = {name: value for name, value in made["made"].items() if name not in TOLD}
    return {name: value for name, value in made.items() if name != "made"} | inner


def chunks_of(count: int, process: int = 0, processes: int = 1) -> list[Chunk]:
    """The chunks of the first `count` records that are a process's."""
    size = sidecars.CHUNK
    firsts = range(process * size, count, processes * size)
    return [Chunk(first // size, first, min(size, count - first)) for first in firsts]


def unwritten(folder: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those of the chunks that are not there, or with fewer records."""
    found = {entry.name for entry in files.listed(folder)}

    def lacks(chunk: Chunk) -> bool:
        name = sidecars.name_of(chunk.number)
        return name not in found or len(files.read(files.joined(folder, name)).splitlines()) < chunk.records

    lacking = in_threads(lacks, chunks, "looking at captions")
    return [chunk for chunk, lack in zip(chunks, lacking, strict=True) if lack]


def write(
    folder: str,
    source: Source,
    captioning: Captioning,
    chunks: Sequence[Chunk],
    *,
    most_bad: float = 1.0,
    progress: Callable[[int], Any] = lambda records: None,
) -> None:
    """Writes the chunks after `begin`, each as soon as it is whole; `progress` is told how many records more are done.

    ValueError where more than the share `most_bad` of the records is bad.
    """
    ledger = Ledger(most_bad)
    indices = itertools.chain.from_iterable(range(chunk.first, chunk.first + chunk.records) for chunk in chunks)
    rows = ahead(lambda index: row_of(source, index, captioning.size), indices, captioning.threads, sidecars.CHUNK)
    for chunk in chunks:
        lines = lines_of(itertools.islice(rows, chunk.records), captioning, ledger)
        content = "".join(f"{json.dumps(line)}\n" for line in lines)
        files.write_whole(files.joined(folder, sidecars.name_of(chunk.number)), content.encode())
        progress(chunk.records)


def row_of(source: Source, index: int, size: tuple[int, int] | None) -> tuple[int, Row | BadRecord]:
    """What is captioned of a record, or what is wrong with it."""
    try:
        record = source[index]
        picture = decode(record.image, record.key)
    except BadRecord as error:
        return index, error
    picture = picture if size is None else stretched(picture, *size)
    return index, Row(index, record.key, record.captions.get("alt", ""), picture)


def lines_of(rows: Iterable[tuple[int, Row | BadRecord]], captioning: Captioning, ledger: Ledger) -> list[Line]:
    """The lines of a chunk, in the order of its records; ValueError where too many records are bad."""
    lines: dict[int, Line] = {}
    good: list[Row] = []
    for index, row in rows:
        if isinstance(row, BadRecord):
            lines[index] = refused(index, row, ledger)
        else:
            good.append(row)
    texts = captioning.captions([row.picture for row in good], [row.at for row in good]) if good else []
    lines |= {row.at: line_of(row, text, captioning, ledger) for row, text in zip(good, texts, strict=True)}
    return [lines[index] for index in sorted(lines)]


def line_of(row: Row, text: str, captioning: Captioning, ledger: Ledger) -> Line:
    """The line of a record of which `text` was written."""
    caption, found = captioning.guarded(row.at, row.alt, text)
    flags = {"flags": list(found)} if found else {}
    if not caption:
        return refused(row.at, BadRecord("caption", row.key, f"nothing is left of {text[:40]!r}"), ledger) | flags
    ledger.good()
    return {"index": row.at, "key": row.key, "caption": caption, **flags}


def refused(index: int, error: BadRecord, ledger: Ledger) -> Line:
    """The line of a record that gets no caption, which is counted."""
    ledger.bad(index, error)
    ledger.check()
    return {"index": index, "key": error.key, "bad": error.reason}


def conclude(folder: str, count: int) -> dict[str, Any]:
    """Declares a folder finished, whose chunks are all written, and gives its record.

    ValueError where one is missing, or where a line is not that of its place.
    """
    chunks = chunks_of(count)
    if missing := unwritten(folder, chunks):
        name = sidecars.name_of(missing[0].number)
        raise ValueError(f"{folder} lacks {len(missing)} of {len(chunks)} files, first {name}: recaption again")
    parts = in_threads(lambda chunk: said_of(folder, chunk), chunks, "joining captions")
    flags = sum((part["flags"] for part in parts), Counter[str]())
    bad = sum((part["bad"] for part in parts), Counter[str]())
    record = json.loads(files.read(files.joined(folder, "made.json")))
    record |= {"count": sum(part["count"] for part in parts), "flags": dict(sorted(flags.items()))}
    record |= {"bad": dict(sorted(bad.items())), "chunks": [part["digest"] for part in parts]}
    files.write_whole(files.joined(folder, "captions.json"), json.dumps(record, indent=1).encode())
    return record


def said_of(folder: str, chunk: Chunk) -> dict[str, Any]:
    """The digest of a chunk's file, its records, and how often each flag and each reason is in it."""
    path = files.joined(folder, sidecars.name_of(chunk.number))
    content = files.read(path)
    lines = [json.loads(line) for line in content.splitlines()]
    if [line["index"] for line in lines] != list(range(chunk.first, chunk.first + len(lines))):
        raise ValueError(f"{path} does not hold the records from {chunk.first} on: remove it, recaption again")
    flags = Counter(flag for line in lines for flag in line.get("flags", ()))
    bad = Counter(line["bad"] for line in lines if "bad" in line)
    return {"digest": sha256(content).hexdigest(), "count": len(lines), "flags": flags, "bad": bad}
