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
from dalle3_jax.data.bad_records import BadRecordCounter
from dalle3_jax.data.caches import sidecars
from dalle3_jax.data.caches.latent_cache import metadata_mismatch
from dalle3_jax.data.caches.prefetch import prefetch_map
from dalle3_jax.data.image_files import WHITE
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.index import map_in_threads
from dalle3_jax.data.transforms import decode_image, stretch_image

__all__ = [
    "CaptionFunctions",
    "Chunk",
    "chunks_of_process",
    "finish_sidecars",
    "missing_chunks",
    "start_sidecars",
    "write_chunks",
]

VOLATILE = ("date", "software")
"""What is told of a folder's making and may be another when it goes on."""

CaptionLine = dict[str, Any]
ImageArray = UInt8[np.ndarray, "_ _ 3"]


class Chunk(NamedTuple):
    """A file: its number, its first record, and how many there are in it."""

    number: int
    first: int
    records: int


@dataclass(frozen=True)
class CaptionFunctions:
    """The functions that make captions.

    `caption_images` takes the pictures of a chunk (brought to `size` where it is given, height and width) with their
    places in the source; `apply_guards` takes a record's place, its alternative text and what was written of it, and
    gives what is kept of that and a flag for each change. Transparent pictures are laid on `background`.
    """

    caption_images: Callable[[list[ImageArray], list[int]], list[str]]
    apply_guards: Callable[[int, str, str], tuple[str, Sequence[str]]]
    size: tuple[int, int] | None = None
    threads: int = 4
    background: Sequence[int] = WHITE


class CaptionInput(NamedTuple):
    """A record that is to be captioned."""

    position: int
    key: str
    alt: str
    image: ImageArray


def start_sidecars(folder: str, metadata: Mapping[str, Any]) -> None:
    """Says what the captions are made from, or refuses a folder that says something else; for one process, first."""
    path = files.join_path(folder, "made.json")
    if files.find_file(path):
        stored = json.loads(files.read_bytes(path))
        if stale := metadata_mismatch(folder, comparable_metadata(stored), comparable_metadata(metadata), "sidecar"):
            raise ValueError(f"{stale}. Recaption into another folder, or remove that one")
        return
    if others := [entry.name for entry in files.list_files(folder) if not entry.name.startswith(".")]:
        raise ValueError(f"{folder} holds {others[0]} and no captions of ours: recaption into another folder")
    files.write_whole(path, json.dumps(metadata, indent=1).encode())


def comparable_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the metadata that must be the same for a folder to go on, in one level."""
    inner = {name: value for name, value in metadata["made"].items() if name not in VOLATILE}
    return {name: value for name, value in metadata.items() if name != "made"} | inner


def chunks_of_process(count: int, process: int = 0, processes: int = 1) -> list[Chunk]:
    """The chunks of the first `count` records that are a process's."""
    size = sidecars.CHUNK
    firsts = range(process * size, count, processes * size)
    return [Chunk(first // size, first, min(size, count - first)) for first in firsts]


def missing_chunks(folder: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """Those of the chunks that are not there, or with fewer records."""
    names = {entry.name for entry in files.list_files(folder)}

    def lacks(chunk: Chunk) -> bool:
        name = sidecars.chunk_file_name(chunk.number)
        return name not in names or len(files.read_bytes(files.join_path(folder, name)).splitlines()) < chunk.records

    lacking = map_in_threads(lacks, chunks, "looking at captions")
    return [chunk for chunk, lack in zip(chunks, lacking, strict=True) if lack]


def write_chunks(
    folder: str,
    source: Source,
    captioning: CaptionFunctions,
    chunks: Sequence[Chunk],
    *,
    max_bad: float = 1.0,
    progress: Callable[[int], Any] = lambda records: None,
) -> None:
    """Writes the chunks, each as soon as it is whole; `progress` is told how many records more are done.

    `start_sidecars` comes before. ValueError where more than the share `max_bad` of the records is bad.
    """
    ledger = BadRecordCounter(max_bad, sum(chunk.records for chunk in chunks))
    indices = itertools.chain.from_iterable(range(chunk.first, chunk.first + chunk.records) for chunk in chunks)
    rows = prefetch_map(
        lambda index: read_caption_input(source, index, captioning), indices, captioning.threads, sidecars.CHUNK
    )
    for chunk in chunks:
        lines = caption_lines(itertools.islice(rows, chunk.records), captioning, ledger)
        content = "".join(f"{json.dumps(line)}\n" for line in lines)
        files.write_whole(files.join_path(folder, sidecars.chunk_file_name(chunk.number)), content.encode())
        progress(chunk.records)


def read_caption_input(
    source: Source, index: int, captioning: CaptionFunctions
) -> tuple[int, CaptionInput | BadRecord]:
    """The input of a record's captioning, or what is wrong with it."""
    try:
        record = source[index]
        picture = decode_image(record.image, record.key, captioning.background)
    except BadRecord as error:
        return index, error
    picture = picture if captioning.size is None else stretch_image(picture, *captioning.size)
    return index, CaptionInput(index, record.key, record.captions.get("alt", ""), picture)


def caption_lines(
    rows: Iterable[tuple[int, CaptionInput | BadRecord]], captioning: CaptionFunctions, ledger: BadRecordCounter
) -> list[CaptionLine]:
    """The lines of a chunk, in the order of its records; ValueError where too many records are bad."""
    lines: dict[int, CaptionLine] = {}
    good: list[CaptionInput] = []
    for index, row in rows:
        if isinstance(row, BadRecord):
            lines[index] = bad_record_line(index, row, ledger)
        else:
            good.append(row)
    texts = captioning.caption_images([row.image for row in good], [row.position for row in good]) if good else []
    lines |= {row.position: caption_line(row, text, captioning, ledger) for row, text in zip(good, texts, strict=True)}
    return [lines[index] for index in sorted(lines)]


def caption_line(row: CaptionInput, text: str, captioning: CaptionFunctions, ledger: BadRecordCounter) -> CaptionLine:
    """The line of a record of which `text` was written."""
    caption, flagged = captioning.apply_guards(row.position, row.alt, text)
    flags = {"flags": list(flagged)} if flagged else {}
    if not caption:
        return (
            bad_record_line(row.position, BadRecord("caption", row.key, f"nothing is left of {text[:40]!r}"), ledger)
            | flags
        )
    ledger.count_good()
    return {"index": row.position, "key": row.key, "caption": caption, **flags}


def bad_record_line(index: int, error: BadRecord, ledger: BadRecordCounter) -> CaptionLine:
    """The line of a record that gets no caption, which is counted."""
    ledger.count_bad(index, error)
    ledger.check_share()
    return {"index": index, "key": error.key, "bad": error.reason}


def finish_sidecars(folder: str, count: int) -> dict[str, Any]:
    """Declares a folder finished, whose chunks are all written, and gives its record.

    ValueError where one is missing, or where a line is not that of its place.
    """
    chunks = chunks_of_process(count)
    if missing := missing_chunks(folder, chunks):
        name = sidecars.chunk_file_name(missing[0].number)
        raise ValueError(f"{folder} lacks {len(missing)} of {len(chunks)} files, first {name}: recaption again")
    parts = map_in_threads(lambda chunk: summarise_chunk(folder, chunk), chunks, "joining captions")
    flags = sum((part["flags"] for part in parts), Counter[str]())
    bad = sum((part["bad"] for part in parts), Counter[str]())
    record = json.loads(files.read_bytes(files.join_path(folder, "made.json")))
    record |= {"count": sum(part["count"] for part in parts), "flags": dict(sorted(flags.items()))}
    record |= {"bad": dict(sorted(bad.items())), "chunks": [part["digest"] for part in parts]}
    files.write_whole(files.join_path(folder, "captions.json"), json.dumps(record, indent=1).encode())
    return record


def summarise_chunk(folder: str, chunk: Chunk) -> dict[str, Any]:
    """The digest of a chunk's file, its records, and how often each flag and each reason is in it."""
    path = files.join_path(folder, sidecars.chunk_file_name(chunk.number))
    content = files.read_bytes(path)
    lines = [json.loads(line) for line in content.splitlines()]
    if [line["index"] for line in lines] != list(range(chunk.first, chunk.first + len(lines))):
        raise ValueError(f"{path} does not hold the records from {chunk.first} on: remove it, recaption again")
    flags = Counter(flag for line in lines for flag in line.get("flags", ()))
    bad = Counter(line["bad"] for line in lines if "bad" in line)
    return {"digest": sha256(content).hexdigest(), "count": len(lines), "flags": flags, "bad": bad}
