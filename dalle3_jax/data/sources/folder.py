"""A folder of pictures with a metadata.jsonl or metadata.csv, as Hugging Face's imagefolder has it.

A line is {"file_name": ..., "text": ...}; a CSV has those as columns.
"""

import csv
import errno
import io
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Int32

from dalle3_jax.data import files
from dalle3_jax.data.image_files import read_image_size
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources import index as indexes

METADATA = ("metadata.jsonl", "metadata.csv")
FILE_NAME = "file_name"
LONGEST_CELL = 2**31 - 1
HEAD = 64 * 1024
COLUMNS = [("begin", "<i8"), ("end", "<i8"), ("bytes", "<i8"), ("height", "<i4"), ("width", "<i4")]
"""Where a line lies, and the size of its picture's file; -1 bytes: there is none."""


@dataclass(frozen=True)
class FolderSource:
    """The pictures that FOLDER/metadata.jsonl (or .csv) names, or FOLDER/SPLIT's where there is none, in its order.

    `fields` of a line are captions, by the versions they are; the rest but file_name is labels. Lines are kept in
    memory: beyond some millions of pictures, tars are better.
    """

    folder: str | Path
    split: str = "train"
    fields: Mapping[str, str] = field(default_factory=lambda: captions_beside.FIELDS)

    @cached_property
    def metadata(self) -> files.FileEntry:
        """The file of lines; ValueError where there is none."""
        entry = find_metadata(self.folder, self.split)
        if entry is None:
            raise ValueError(
                f"neither {self.folder} nor its folder {self.split} holds {' or '.join(METADATA)}: name one that does"
            )
        return entry

    @cached_property
    def lines(self) -> bytes:
        """The metadata, a JSON object a line."""
        content = files.read_bytes(self.metadata.path)
        if self.metadata.name.endswith(".csv"):
            return b"".join(csv_lines(content, self.metadata.path))
        encoding = captions_beside.unicode_encoding(content)
        return content if encoding == "utf-8-sig" else content.decode(encoding, "replace").encode()

    @cached_property
    def table(self) -> np.ndarray:
        """One row a line; the first call looks at every picture."""
        return indexes.load_or_make_table(self.metadata, partial(index_lines, lines=self.lines))

    def __len__(self) -> int:
        """The number of records."""
        return len(self.table)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it cannot be used, ValueError where its picture has changed."""
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        row = self.table[index]
        line = self.lines[int(row["begin"]) : int(row["end"])]
        values = captions_beside.parse_object(line, f"line {index + 1}")
        name = image_path(values, f"line {index + 1}")
        key = files.printable_name(name)
        captions = captions_beside.validate_captions(captions_beside.extract_captions(values, self.fields, key), key)
        picture = self._read_image(name, key, int(row["bytes"]))
        labels = captions_beside.extract_labels(values, self.fields)
        labels.pop(FILE_NAME)
        return Record(key, picture, int(row["height"]), int(row["width"]), captions, labels)

    def _read_image(self, name: str, key: str, size: int) -> bytes:
        folder = self.metadata.path.rpartition("/")[0]
        try:
            entry = find_picture(folder, name)
            content = None if entry is None else files.read_bytes(entry.path)
        except OSError as error:
            if error.errno not in files.UNREADABLE:
                raise
            raise BadRecord("missing", key, f"{folder}/{key[:80]} cannot be read: {error.strerror}") from None
        if entry is None or content is None:
            raise BadRecord("missing", key, f"there is no file {files.join_path(folder, key)}")
        if len(content) != size:
            raise ValueError(
                f"{entry.path} has changed since it was indexed: touch {self.metadata.path}, and start again"
            )
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


def find_metadata(folder: str | Path, split: str) -> files.FileEntry | None:
    """The file of lines of a folder or of its split; None where there is none."""
    places = [files.join_path(place, name) for place in (folder, files.join_path(folder, split)) for name in METADATA]
    return next((entry for place in places if (entry := files.find_file(place))), None)


def csv_lines(content: bytes, path: str) -> Iterator[bytes]:
    """The rows of a CSV as lines of JSON, empty cells left out; ValueError where no column is file_name.

    What parts the cells is the one of comma, semicolon and tab that makes file_name a column. Bytes that are not UTF-8
    stay half characters, which spoil their own record alone.
    """
    encoding = captions_beside.unicode_encoding(content)
    text = content.decode(encoding, "surrogateescape" if encoding == "utf-8-sig" else "replace")
    head = text.partition("\n")[0]
    comma = next((c for c in ",;\t" if FILE_NAME in next(csv.reader([head], delimiter=c), ())), None)
    if comma is None:
        raise ValueError(f"{path} has no column {FILE_NAME}, it begins {head[:80]!r}: name the column of the paths so")
    before = csv.field_size_limit(LONGEST_CELL)  # of the whole process; a caption that is too long is told later
    try:
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=comma):
            cells = {
                name: cell for name, cell in row.items() if isinstance(name, str) and isinstance(cell, str) and cell
            }
            yield json.dumps(cells).encode() + b"\n"
    finally:
        csv.field_size_limit(before)


def image_path(values: Mapping, key: str) -> str:
    """The picture's path within the folder; BadRecord where there is none, or it leads out of the folder."""
    name = values.get(FILE_NAME)
    if not isinstance(name, str) or not name:
        raise BadRecord("json", key, "the line has no file_name")
    slashed = name.replace("\\", "/")
    outside = slashed.startswith("/") or slashed[1:3] == ":/" or ".." in PurePosixPath(slashed).parts
    if outside or "://" in name or "\0" in name:
        raise BadRecord("missing", key, f"file_name {name[:80]!r} leads out of the folder")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise BadRecord("encoding", key, f"file_name {name[:80]!a} is not Unicode") from None
    return name


def find_picture(folder: str, name: str) -> files.FileEntry | None:
    """The file of that name in the folder; else with Windows' \\ as /, or with letters and accents joined or apart."""
    slashed = name.replace("\\", "/")
    names = [name, slashed, unicodedata.normalize("NFC", slashed), unicodedata.normalize("NFD", slashed)]
    paths = [files.join_path(folder, candidate) for candidate in dict.fromkeys(names)]
    return next((entry for path in paths if (entry := files.find_file(path))), None)


def index_lines(entry: files.FileEntry, lines: bytes) -> np.ndarray:
    """One row for every line that is not empty."""
    rows, begin = [], 0
    for line in io.BytesIO(lines):
        if line.strip():
            rows.append((begin, begin + len(line), line))
        begin += len(line)
    folder = entry.path.rpartition("/")[0]
    rows = indexes.map_in_threads(partial(index_line, folder), rows, "looking at pictures")
    return np.array(rows, COLUMNS)


def index_line(folder: str, line: tuple[int, int, bytes]) -> tuple:
    """The columns of one line."""
    begin, end, content = line
    try:
        entry = find_picture(folder, image_path(captions_beside.parse_object(content, ""), ""))
    except BadRecord:  # which reading the record says again
        entry = None
    except OSError as error:
        if error.errno not in files.UNREADABLE:
            raise
        entry = None
    return begin, end, *index_picture(entry)


def index_picture(entry: files.FileEntry | None) -> tuple[int, int, int]:
    """Bytes, height and width of a picture's file; -1 bytes where there is none that can be read."""
    if entry is None:
        return -1, *indexes.UNKNOWN
    try:
        head = files.read_bytes(entry.path, 0, HEAD)
        size = read_image_size(head, partial(files.read_bytes, entry.path))
    except OSError as error:
        if error.errno not in (*files.UNREADABLE, errno.ENOENT):
            raise
        return -1, *indexes.UNKNOWN
    height, width = size or indexes.UNKNOWN
    return entry.size, height, width
