"""A folder of pictures with a metadata.jsonl, as Hugging Face's imagefolder has it: {"file_name": ..., "text": ...}."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int32

from dalle3_jax.data import files
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources import index as indexes

METADATA = "metadata.jsonl"
HEAD = 64 * 1024
COLUMNS = [("begin", "<i8"), ("end", "<i8"), ("bytes", "<i8"), ("height", "<i4"), ("width", "<i4")]
"""Where a line lies, and the size of its picture's file; -1 bytes: there is none."""


@dataclass(frozen=True)
class FolderSource:
    """The pictures that FOLDER/metadata.jsonl names, or where there is none FOLDER/SPLIT/metadata.jsonl, in its order.

    `fields` of a line are captions, by the versions they are; the rest but file_name is labels. Lines are kept in
    memory: beyond some millions of pictures, tars are better.
    """

    folder: str | Path
    split: str = "train"
    fields: Mapping[str, str] = field(default_factory=lambda: captions_beside.FIELDS)

    @cached_property
    def metadata(self) -> files.FileEntry:
        """The file of lines; ValueError where there is none."""
        places = [
            files.join_path(self.folder, METADATA),
            files.join_path(files.join_path(self.folder, self.split), METADATA),
        ]
        found = next((entry for place in places if (entry := files.find_file(place))), None)
        if found is None:
            raise ValueError(f"neither {places[0]} nor {places[1]} is there: give a folder that holds one of them")
        return found

    @cached_property
    def lines(self) -> bytes:
        """The content of the metadata."""
        return files.read_bytes(self.metadata.path)

    @cached_property
    def table(self) -> np.ndarray:
        """One row a line; the first call looks at every picture."""
        return indexes.load_or_make_table(self.metadata, index_folder)

    def __len__(self) -> int:
        """How many records there are."""
        return len(self.table)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it cannot be used, ValueError where its picture has changed."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self.table[index]
        line = self.lines[int(row["begin"]) : int(row["end"])]
        values = captions_beside.parse_object(line, f"line {index + 1}")
        key = image_path(values, f"line {index + 1}")
        captions = captions_beside.validate_captions(captions_beside.extract_captions(values, self.fields, key), key)
        picture = self._read_image(key, int(row["bytes"]))
        labels = {
            name: value
            for name, value in captions_beside.extract_labels(values, self.fields).items()
            if name != "file_name"
        }
        return Record(key, picture, int(row["height"]), int(row["width"]), captions, labels)

    def _read_image(self, key: str, size: int) -> bytes:
        path = files.join_path(self.metadata.path.rpartition("/")[0], key)
        try:
            content = files.read_bytes(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise BadRecord("missing", key, f"there is no file {path}") from None
        if len(content) != size:
            raise ValueError(f"{path} has changed since it was indexed: touch {self.metadata.path}, and start again")
        if not content:
            raise BadRecord("empty", key, "the picture has no bytes")
        return content

    def sizes(self, first: int, last: int) -> Int32[np.ndarray, "n 2"]:
        """Heights and widths of records first to last - 1; 1 by 1 where a picture does not say."""
        rows = self.table[first:last]
        return np.stack([rows["height"], rows["width"]], axis=1)

    @cached_property
    def fingerprint(self) -> str:
        """Of the lines and of the sizes of all pictures; not of where they lie."""
        digest = sha256(repr(sorted(self.fields.items())).encode() + self.lines)
        digest.update(np.ascontiguousarray(self.table).tobytes())
        return f"folder/{digest.hexdigest()[:16]}"


def image_path(values: Mapping, key: str) -> str:
    """The picture's path within the folder; BadRecord where there is none, or it leads out of the folder."""
    name = values.get("file_name")
    if not isinstance(name, str) or not name:
        raise BadRecord("json", key, "the line has no file_name")
    if name.startswith("/") or ".." in PurePosixPath(name).parts or "://" in name or "\0" in name:
        raise BadRecord("missing", key, f"file_name {name[:80]!r} leads out of the folder")
    return name


def index_folder(entry: files.FileEntry) -> np.ndarray:
    """One row for every line that is not empty."""
    lines, begin = [], 0
    for line in io.BytesIO(files.read_bytes(entry.path)):
        if line.strip():
            lines.append((begin, begin + len(line), line))
        begin += len(line)
    rows = indexes.map_in_threads(partial(index_line, entry), lines, "looking at pictures")
    return np.array(rows, COLUMNS)


def index_line(entry: files.FileEntry, line: tuple[int, int, bytes]) -> tuple:
    """The columns of one line."""
    begin, end, content = line
    try:
        name = image_path(captions_beside.parse_object(content, ""), "")
        found = files.find_file(files.join_path(entry.path.rpartition("/")[0], name))
    except BadRecord:  # which reading the record says again
        found = None
    if found is None:
        return begin, end, -1, *indexes.UNKNOWN
    head = files.read_bytes(found.path, 0, HEAD)
    return begin, end, found.size, *indexes.read_image_size(head)
