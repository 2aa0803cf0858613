"""A folder of pictures without a list of them: captions stand in files beside them, as kohya and A1111 write them.

a.png a.txt                  KEY.txt (or .caption, or a.png.txt) is the caption "alt"
00000/000000000.jpg .json    img2dataset's files: fields of the JSON are captions, the rest labels
cats/b.webp                  the folder is a label; pictures without captions wait for `dalle3-jax recaption`
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from dalle3_jax.data import files
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources import index as indexes
from dalle3_jax.data.sources.captions_beside import ENDINGS, PARTS
from dalle3_jax.data.sources.folder import index_picture

COLUMNS = [("bytes", "<i8"), ("height", "<i4"), ("width", "<i4")]


class PictureFiles(NamedTuple):
    """A picture's path within the folder, and the files of its record by part; None where there is none."""

    name: str
    parts: Mapping[str, files.FileEntry | None]


@dataclass(frozen=True)
class PictureSource:
    """All pictures of a folder and of the folders in it, in the order of their names, with what stands beside them."""

    folder: str | Path
    fields: Mapping[str, str] = field(default_factory=lambda: captions_beside.FIELDS)

    @cached_property
    def pictures(self) -> list[PictureFiles]:
        """The pictures; ValueError where there are none."""
        tree = files.list_tree(self.folder)
        beside = {path_key(entry.path): entry for entry in tree}
        prefix = files.join_path(self.folder, "")
        pictures = []
        for entry in tree:
            if not is_picture(entry.name):
                continue
            stems = entry.path.rpartition(".")[0], entry.path
            parts = {part: find_beside(beside, stems, part) for part in PARTS}
            pictures.append(PictureFiles(entry.path.removeprefix(prefix), {**parts, "picture": entry}))
        if not pictures:
            raise ValueError(f"{str(self.folder)!r} holds no pictures: name the folder that they lie in")
        return pictures

    @cached_property
    def table(self) -> np.ndarray:
        """Bytes, height and width of every picture; the first call looks at all of them."""
        digest = sha256()
        for picture in self.pictures:
            entry = picture.parts["picture"]
            digest.update(files.encode_name(f"{picture.name} {entry.size} {entry.version}\n" if entry else ""))
        listing = files.FileEntry(files.join_path(self.folder, "pictures"), len(self.pictures), digest.hexdigest())
        return indexes.load_or_make_table(listing, self._make_table)

    def _make_table(self, listing: files.FileEntry) -> np.ndarray:
        entries = [picture.parts["picture"] for picture in self.pictures]
        return np.array(indexes.map_in_threads(index_picture, entries, "looking at pictures"), COLUMNS)

    def __len__(self) -> int:
        """The number of records."""
        return len(self.pictures)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it cannot be used, ValueError where its picture has changed."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        name, parts = self.pictures[index]
        row, key = self.table[index], files.printable_name(name)
        contents = {part: None if entry is None else read_part(entry, key) for part, entry in parts.items()}
        if row["bytes"] >= 0 and len(contents["picture"] or b"") != row["bytes"]:
            raise ValueError(f"{files.join_path(self.folder, key)} has changed since it was indexed: start again")
        record = captions_beside.parse_record(key, contents, (int(row["height"]), int(row["width"])), self.fields)
        if folder := key.rpartition("/")[0]:
            record.labels.setdefault("folder", folder)  # pyright: ignore[reportAttributeAccessIssue]
        return record

    def sizes(self, first: int, last: int) -> Int32[np.ndarray, "n 2"]:
        """Heights and widths of records first to last - 1; 1 by 1 where a picture does not say."""
        rows = self.table[first:last]
        return np.stack([rows["height"], rows["width"]], axis=1)

    @cached_property
    def fingerprint(self) -> str:
        """Of names and sizes of all files, and of the sizes of all pictures; not of where they lie."""
        digest = sha256(repr(sorted(self.fields.items())).encode())
        for name, parts in self.pictures:
            sizes = [-1 if entry is None else entry.size for entry in parts.values()]
            digest.update(files.encode_name(f"{name} {sizes}\n"))
        digest.update(np.ascontiguousarray(self.table).tobytes())
        return f"pictures/{digest.hexdigest()[:16]}"


def is_picture(name: str) -> bool:
    """Whether a file of this name is a picture."""
    return name.rpartition(".")[2].lower() in ENDINGS["picture"] and "." in name


def path_key(path: str) -> str:
    """The path with its ending in small letters."""
    stem, dot, ending = path.rpartition(".")
    return f"{stem}{dot}{ending.lower()}"


def find_beside(beside: Mapping[str, files.FileEntry], stems: tuple[str, ...], part: str) -> files.FileEntry | None:
    """The file of a part of a record, under one of the names that it may have."""
    paths = (f"{stem}.{ending}" for stem in stems for ending in ENDINGS[part])
    return next((beside[path] for path in paths if path in beside), None)


def read_part(entry: files.FileEntry, key: str) -> bytes:
    """The content of a file; BadRecord where it cannot be read."""
    try:
        return files.read_bytes(entry.path)
    except OSError as error:
        if not isinstance(error, FileNotFoundError) and error.errno not in files.UNREADABLE:
            raise
        raise BadRecord("missing", key, f"{entry.name} cannot be read: {error.strerror}") from None
