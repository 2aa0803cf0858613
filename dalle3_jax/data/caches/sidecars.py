"""Captions that were made later: one version of those of a source, in files that lie beside the data, never in it.

    made.json        what made them: version, source, captioner, decoding, guards; written first
    00000.jsonl      1,024 records, one a line: {"index": 0, "key": "...", "caption": "..."}, with "flags" where a guard
                     changed the caption, or "bad" (the reason) in place of a caption
    captions.json    written last, made.json with the count, every file's SHA-256, and how often each guard had to act

A folder without captions.json is not finished. Lines join records by their place and must have the record's key.
"""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
from jaxtyping import Int32

from dalle3_jax.data import files
from dalle3_jax.data.caches.latent_cache import CachedRecords
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource

__all__ = ["CaptionedSource", "Sidecars", "add_sidecars", "sizeless_fingerprint", "source_at_size"]

FORMAT = 1
CHUNK = 1024
"""Records in a file, the last one excepted: what a killed run does again."""

CACHED_CHUNKS = 512
"""Files whose lines are in memory at a time, about 100 MB."""

VERSION = re.compile(r"[a-z0-9_]+")
"""What a version of captions may be called."""


@dataclass(frozen=True)
class Sidecars:
    """The captions of one version in a folder or a bucket; any number of threads may read."""

    folder: str
    manifest: Mapping[str, Any]
    lines: OrderedDict[int, list[bytes]] = field(default_factory=OrderedDict, repr=False, compare=False)
    lock: Any = field(default_factory=threading.Lock, repr=False, compare=False)

    @classmethod
    def open(cls, folder: str, source: str | None = None) -> "Sidecars":
        """Those in a folder, for a source of this fingerprint where one is given.

        ValueError where the folder is not finished, lacks a file, or holds captions of something else.
        """
        try:
            record = json.loads(files.read_bytes(files.join_path(folder, "captions.json")))
        except FileNotFoundError:
            raise ValueError(f"{folder!r} holds no finished captions: run dalle3-jax recaption, it goes on") from None
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ValueError(f"{folder}/captions.json is not what recaption writes (format {FORMAT}): recaption again")
        names = {entry.name for entry in files.list_files(folder)}
        if missing := [name for name in map(chunk_file_name, range(len(record["chunks"]))) if name not in names]:
            raise ValueError(f"{folder} lacks {missing[0]}: run dalle3-jax recaption again")
        if source is not None and record["source"] != sizeless_fingerprint(source):
            raise ValueError(
                f"{folder} holds captions of {record['source']}, and the data is {sizeless_fingerprint(source)}: name "
                "the data that they were made from, or recaption this one into another folder"
            )
        return cls(folder, record)

    @property
    def version(self) -> str:
        """The version under which the captions stand in a record."""
        return self.manifest["version"]

    @cached_property
    def digest(self) -> str:
        """Of all captions, and of what made them: no date is in it."""
        said = {name: self.manifest[name] for name in ("version", "source", "chunks")}
        return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        """The number of records that they are of, from the first on, bad ones included."""
        return self.manifest["count"]

    def __getitem__(self, index: int) -> tuple[str, str]:
        """(Key, caption) of the record at `index`; BadRecord where it got none."""
        said = self.read_line(index)
        if "bad" in said:
            raise BadRecord(said["bad"], said["key"], f"it got no caption {self.version!r}")
        return said["key"], said["caption"]

    def read_line(self, index: int) -> dict[str, Any]:
        """All that is said of the record at `index`; ValueError where its file is damaged."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)} in {self.folder}")
        number, row = divmod(index, self.manifest["chunk"])
        with self.lock:
            if number not in self.lines:
                self.lines[number] = self._read_chunk(number)
                if len(self.lines) > CACHED_CHUNKS:
                    self.lines.popitem(last=False)
            self.lines.move_to_end(number)
            return json.loads(self.lines[number][row])

    def _read_chunk(self, number: int) -> list[bytes]:
        content = files.read_bytes(files.join_path(self.folder, chunk_file_name(number)))
        if sha256(content).hexdigest() != self.manifest["chunks"][number]:
            raise ValueError(f"{self.folder}/{chunk_file_name(number)} is damaged: remove it and recaption again")
        return content.splitlines()


@dataclass(frozen=True)
class CaptionedSource:
    """A source whose records have further versions of captions."""

    source: Source
    sidecars: tuple[Sidecars, ...]

    def __len__(self) -> int:
        """The number of records of the source."""
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it, or a caption, cannot be used.

        ValueError where a line is of another record, or where the record has another caption of that version.
        """
        record = self.source[index]
        captions = dict(record.captions)
        for sidecars in self.sidecars:
            key, caption = sidecars[index]
            if key != record.key:
                raise ValueError(f"record {index} is {record.key!r}, and in {sidecars.folder} it is {key!r}")
            if captions.setdefault(sidecars.version, caption) != caption:
                raise ValueError(
                    f"record {record.key!r} has a caption {sidecars.version!r} already, which is not the one in "
                    f"{sidecars.folder}: recaption as another version"
                )
        return replace(record, captions=captions)

    def sizes(self, first: int, last: int) -> Int32[np.ndarray, "n 2"] | None:
        """Heights and widths, as the source knows them."""
        return self.source.sizes(first, last)

    @property
    def fingerprint(self) -> str:
        """Of the source and of all captions."""
        return "+".join([self.source.fingerprint, *(f"{one.version}/{one.digest}" for one in self.sidecars)])

    def check_count(self, count: int) -> None:
        """ValueError unless the first `count` records have been captioned."""
        least = min(self.sidecars, key=len)
        if len(least) < count:
            raise ValueError(
                f"{least.folder} has captions of the first {len(least)} records, and {count} are to be read: "
                f"read those alone (data.records={len(least)}; encode: --count), or give recaption a higher --count"
            )


def add_sidecars(source: Source, folders: Sequence[str]) -> Source | CaptionedSource:
    """The source with the captions of the folders; ValueError where they are of another one, or of one version."""
    if not folders:
        return source
    origin = source.source_fingerprint if isinstance(source, CachedRecords) else source.fingerprint
    opened = tuple(Sidecars.open(str(folder), origin) for folder in folders)
    versions = [sidecars.version for sidecars in opened]
    if double := sorted({version for version in versions if versions.count(version) > 1}):
        raise ValueError(f"data.sidecars names the version {double[0]!r} twice: leave one of the folders out")
    return CaptionedSource(source, opened)


def source_at_size(source: Source | CaptionedSource, height: int, width: int) -> Source | CaptionedSource:
    """The same records, with scenes drawn at that size."""
    if isinstance(source, CaptionedSource):
        return replace(source, source=source_at_size(source.source, height, width))
    if not isinstance(source, ScenesSource) or source.frames:  # scenes that choose their frame are as pictures are
        return source
    return replace(source, height=height, width=width)


def sizeless_fingerprint(fingerprint: str) -> str:
    """A source's fingerprint without the size that scenes are drawn at: what is said of one holds at any."""
    return re.sub(r"^(scenes/.*)/[\dx+]+$", r"\1", fingerprint)


def chunk_file_name(number: int) -> str:
    """The file of a chunk."""
    return f"{number:05d}.jsonl"
