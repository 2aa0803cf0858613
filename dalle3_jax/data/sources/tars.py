"""WebDataset tars as img2dataset writes them (NNNNN.tar with KEY.jpg, KEY.txt, KEY.json), by random access.

A record is one read of its members, which stand together: over a network one request, and never the whole tar.
"""

from collections.abc import Mapping
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
from dalle3_jax.data.sources.tar_index import BLOCK, PARTS, index_tar


@dataclass(frozen=True)
class TarSource:
    """The records of all tars of a folder, in the order of their names.

    KEY.txt is the caption "alt"; of KEY.json `fields` are captions, by the versions they are, and the rest labels.
    """

    folder: str | Path
    fields: Mapping[str, str] = field(default_factory=lambda: captions_beside.FIELDS)

    @cached_property
    def tars(self) -> list[files.FileEntry]:
        """The files; ValueError where there are none."""
        found = [entry for entry in files.list_files(self.folder) if entry.name.endswith(".tar")]
        if not found:
            raise ValueError(f"{str(self.folder)!r} holds no .tar: name the folder of the tars themselves")
        return found

    @cached_property
    def tables(self) -> list[np.ndarray]:
        """What is in each tar; the first call may take long."""
        return indexes.load_tables(self.tars, index_tar, "indexing tars")

    @cached_property
    def record_ends(self) -> np.ndarray:
        """The number of records in each tar and all before it."""
        return np.cumsum([len(table) for table in self.tables])

    def __len__(self) -> int:
        """How many records there are."""
        return int(self.record_ends[-1])

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it cannot be used, ValueError where its tar has changed."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        tar = int(np.searchsorted(self.record_ends, index, "right"))
        row = self.tables[tar][index - self.record_ends[tar]]
        start, length = int(row["start"]), int(row["length"])
        content = files.read_bytes(self.tars[tar].path, start, start + length)
        if len(content) < length or crc32(content[:BLOCK]) != row["check"]:
            raise ValueError(f"{self.tars[tar].path} has changed since this run began: start the run again")
        return self._parse_record(row, content)

    def _parse_record(self, row: Any, content: bytes) -> Record:
        key = row["key"].decode(errors="replace")
        picture, text, said = (part_bytes(row, part, content) for part in PARTS)
        if picture is None:
            raise BadRecord("missing", key, "no picture stands beside the text")
        if not picture:
            raise BadRecord("empty", key, "the picture has no bytes")
        values = {} if said is None else captions_beside.parse_object(said, key)
        captions = captions_beside.extract_captions(values, self.fields, key)
        if text is not None:
            captions["alt"] = captions_beside.decode_text(text, key)
        labels = captions_beside.extract_labels(values, self.fields)
        size = int(row["height"]), int(row["width"])
        return Record(key, picture, *size, captions_beside.validate_captions(captions, key), labels)

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
            digest.update(f"{entry.name} {entry.size} {len(table)}".encode() + table["check"].tobytes())
        return f"tars/{digest.hexdigest()[:16]}"


def part_bytes(row: Any, part: str, content: bytes) -> bytes | None:
    """The bytes of a part of a record; None where there is none."""
    at, size = int(row[f"{part}_at"]), int(row[f"{part}_size"])
    return None if at < 0 else content[at : at + size]
