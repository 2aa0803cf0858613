"""WebDataset tars as img2dataset writes them (NNNNN.tar with KEY.jpg, KEY.txt, KEY.json), by random access.

A record is one read of its members, which stand together: over a network one request, and never the whole tar.
"""

import functools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from jaxtyping import Int32

from dalle3_jax.data import files
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources import index as indexes
from dalle3_jax.data.sources.captions_beside import PARTS
from dalle3_jax.data.sources.tar_index import BLOCK, SEVERAL, index_tar
from dalle3_jax.files import is_stray

MOST_INNER_FOLDERS = 3
"""Folders beside tars that are listed to see whether tars in them are left out: all would take long on a network."""
NEAR = 2**20
"""Bytes of headers and other members among a record's parts that are read with them rather than skipped."""


@dataclass(frozen=True)
class TarSource:
    """The records of all tars of a folder, or where there are none of all folders in it, in the order of their names.

    KEY.txt is the caption "alt"; of KEY.json `fields` are captions, by the versions they are, and the rest labels.
    """

    folder: str | Path
    fields: Mapping[str, str] = field(default_factory=lambda: captions_beside.FIELDS)

    @cached_property
    def tars(self) -> list[files.FileEntry]:
        """The files; ValueError where there are none."""
        tars = list_tars(self.folder)
        if not tars:
            raise ValueError(f"{str(self.folder)!r} holds no .tar: name the folder of the tars themselves")
        return tars

    @cached_property
    def tables(self) -> list[np.ndarray]:
        """The table of members of each tar; the first call may take long."""
        return indexes.load_tables(self.tars, index_tar, "indexing tars")

    @cached_property
    def record_ends(self) -> np.ndarray:
        """The number of records in each tar and all before it."""
        return np.cumsum([len(table) for table in self.tables])

    def __len__(self) -> int:
        """The number of records."""
        return int(self.record_ends[-1])

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it cannot be used, ValueError where its tar has changed."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        tar = int(np.searchsorted(self.record_ends, index, "right"))
        row: Any = self.tables[tar][index - self.record_ends[tar]]
        parts = read_parts(self.tars[tar].path, row)
        if parts is None:
            raise ValueError(f"{self.tars[tar].path} has changed since this run began: start the run again")
        key = row["key"].decode(errors="backslashreplace")
        if int(row["picture_at"]) == SEVERAL:
            raise BadRecord("missing", key, "several pictures have this key, and none of them is KEY.jpg itself")
        return captions_beside.parse_record(key, parts, (int(row["height"]), int(row["width"])), self.fields)

    def sizes(self, first: int, last: int) -> Int32[np.ndarray, "n 2"]:
        """Heights and widths of records first to last - 1; 1 by 1 where a picture does not say."""
        begins = self.record_ends - [len(table) for table in self.tables]
        parts = [
            table[max(first - begin, 0) : max(last - begin, 0)]
            for table, begin in zip(self.tables, begins, strict=True)
            if first < begin + len(table) and begin < last
        ]
        rows = [np.stack([part["height"], part["width"]], axis=1) for part in parts]
        return np.concatenate([np.zeros((0, 2), np.int32), *rows])

    @cached_property
    def fingerprint(self) -> str:
        """Of the tars' names and sizes and of what their headers say; not of where they lie."""
        digest = sha256(repr(sorted(self.fields.items())).encode())
        for entry, table in zip(self.tars, self.tables, strict=True):
            name = entry.path.removeprefix(files.join_path(self.folder, ""))
            digest.update(files.encode_name(f"{name} {entry.size} {len(table)}") + table["check"].tobytes())
        return f"tars/{digest.hexdigest()[:16]}"


def list_tars(folder: str | Path) -> list[files.FileEntry]:
    """The tars of a folder; where there are none, those of all folders in it.

    Folders whose tars are left out, since the folder has some of its own, are named once.
    """
    entries, folders = files.list_folder(folder)
    if tars := [entry for entry in entries if is_tar(entry.name)]:
        note_others(str(folder), len(tars), tuple(folders))
        return tars
    tars = [entry for entry in files.list_tree(folder) if is_tar(entry.name)]
    return sorted(tars, key=lambda entry: entry.path.split("/"))


@functools.cache
def note_others(folder: str, count: int, folders: Sequence[str]) -> None:
    """Say once which of the folders beside `count` tars have tars that are left out; the first few are looked into."""
    listed = {inner: files.list_files(inner) for inner in folders[:MOST_INNER_FOLDERS]}
    others = [inner for inner, entries in listed.items() if any(is_tar(entry.name) for entry in entries)]
    if others:
        print(f"note: of {folder} its own {count} tars are read, not those in {', '.join(others)}", file=sys.stderr)


def is_tar(name: str) -> bool:
    """Whether a file of this name is one of the tars."""
    return name.lower().endswith(".tar") and not is_stray(name)


def read_parts(tar: str, row: Any) -> dict[str, bytes | None] | None:
    """The bytes of each part of a record, None where there is none; None in all where the tar is another one.

    One read, but of parts that lie far from each other, which are read one by one.
    """
    start, length = int(row["start"]), int(row["length"])
    places = {part: (int(row[f"{part}_at"]), int(row[f"{part}_size"])) for part in PARTS}
    apart = length > sum(size for _, size in places.values()) + NEAR
    try:
        content = files.read_bytes(tar, start, start + (BLOCK if apart else length))
        if len(content) < (BLOCK if apart else length) or crc32(content[:BLOCK]) != row["check"]:
            return None
        parts: dict[str, bytes | None] = dict.fromkeys(PARTS)
        for part, (at, size) in places.items():
            if at >= 0:
                begin = start + at
                parts[part] = files.read_bytes(tar, begin, begin + size) if apart else content[at : at + size]
    except FileNotFoundError:
        return None
    return None if any(len(part or b"") < places[name][1] for name, part in parts.items()) else parts
