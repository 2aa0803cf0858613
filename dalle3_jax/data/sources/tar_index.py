"""Where the records of a WebDataset tar lie, so that any of them can be read by itself.

Members that follow each other and share their name up to the first dot of its last part are one record: KEY.jpg,
KEY.txt, KEY.json in what img2dataset writes.
"""

import itertools
import tarfile
from collections.abc import Iterable
from typing import Any
from zlib import crc32

import numpy as np

from dalle3_jax.data import files
from dalle3_jax.data.sources.index import read_image_size

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jxl", "heic")
"""Endings of pictures, of formats that are read and of others: a record of those is bad, not without a picture."""

HEAD = 64 * 1024
"""Bytes of a picture that are read for its size; cameras put a preview before it."""

BLOCK = 512
"""Bytes of a header in a tar."""

PARTS = ("picture", "text", "json")
COLUMNS = [
    ("key", "S"),
    ("start", "<i8"),  # of the first member's header, in the tar
    ("length", "<i8"),  # from there to the end of the last member
    ("check", "<u4"),  # CRC-32 of the first header: another one says that the tar was changed
    *((f"{part}_at", "<i8") for part in PARTS),  # from the start; -1: there is none
    *((f"{part}_size", "<i8") for part in PARTS),
    ("height", "<i4"),
    ("width", "<i4"),
]


def index_tar(entry: files.FileEntry) -> np.ndarray:
    """One row a record, in the order of the tar; ValueError where the tar is damaged or cut short."""
    try:
        with files.open_file(entry.path) as file, tarfile.open(fileobj=file, mode="r:") as tar:
            members = (member for member in tar if member.isfile() and not is_hidden(member))
            rows = [index_record(key, group, file) for key, group in itertools.groupby(members, key=member_key)]
            if not has_end_block(file, tar.offset):
                raise tarfile.ReadError("it has no end")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{entry.path} is damaged or cut short ({error}): fetch it again, or take it out of the folder"
        ) from None
    width = max([len(row[0]) for row in rows], default=1)
    return np.array(rows, [(COLUMNS[0][0], f"S{width}"), *COLUMNS[1:]])


def member_key(member: tarfile.TarInfo) -> str:
    """The member's name up to the first dot of its last part."""
    folder, slash, name = member.name.rpartition("/")
    return folder + slash + name.partition(".")[0]


def is_hidden(member: tarfile.TarInfo) -> bool:
    """Whether its name begins with a dot, as what a Mac puts beside every file does."""
    return member.name.rpartition("/")[2].startswith(".")


def member_extension(member: tarfile.TarInfo) -> str:
    """What follows that dot, in small letters."""
    return member.name.rpartition("/")[2].partition(".")[2].lower()


def index_record(key: str, group: Iterable[tarfile.TarInfo], file: Any) -> tuple:
    """The columns of one record."""
    members = list(group)
    start, last = members[0].offset, members[-1]
    chosen = {part: next((m for m in members if is_part(part, member_extension(m))), None) for part in PARTS}
    places = [member.offset_data - start if member else -1 for member in chosen.values()]
    sizes = [member.size if member else 0 for member in chosen.values()]
    file.seek(start)
    check = crc32(file.read(BLOCK))
    head = b""
    if picture := chosen["picture"]:
        file.seek(picture.offset_data)
        head = file.read(min(HEAD, picture.size))
    length = last.offset_data + last.size - start
    return key.encode(), start, length, check, *places, *sizes, *read_image_size(head)


def is_part(part: str, ending: str) -> bool:
    """Whether members with this ending are that part of a record."""
    return ending in {"picture": PICTURES, "text": ("txt",), "json": ("json",)}[part]


def has_end_block(file: Any, offset: int) -> bool:
    """Whether a header of zeros, the end of a tar, stands at the offset; tarfile takes anything for an end."""
    file.seek(offset)
    return file.read(BLOCK) == bytes(BLOCK)
