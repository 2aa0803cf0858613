"""The index of a WebDataset tar's records, so that any of them can be read by itself.

Members that share their name up to the first dot of its last part are one record: KEY.jpg, KEY.txt, KEY.json in what
img2dataset writes. A name that comes again begins another record of that key. Where no member is named KEY.jpg itself,
dots belong to names: `p.v1.jpg` and `p.v2.jpg` are two records, and `p.img.jpg` beside `p.txt` is the picture of one.
"""

import posixpath
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np

from dalle3_jax.data import files
from dalle3_jax.data.image_files import read_image_size
from dalle3_jax.data.sources.captions_beside import ENDINGS, PARTS
from dalle3_jax.data.sources.index import UNKNOWN
from dalle3_jax.files import STRAYS, is_stray, stand_in_kind

HEAD = 64 * 1024
"""Bytes of a picture that are read for its size; where cameras put more before it, all are."""

BLOCK = 512
"""Bytes of a header in a tar."""

COMPRESSED = {
    **{b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"},
    **{
        b"\x04\x22\x4d\x18": "lz4",
        b"7z\xbc\xaf": "7-Zip",
        b"Rar!\x1a": "RAR",
        b"LZIP\x01": "lzip",
        b"\x1f\x9d": "compress",
    },
}
NONE, SEVERAL = -1, -2
"""In place of where a part lies: there is none; there are several, and nothing says which."""

COLUMNS = [
    ("key", "S"),
    ("start", "<i8"),  # of the first member's header, in the tar
    ("length", "<i8"),  # from there to the end of the last member
    ("check", "<u4"),  # CRC-32 of the first header: another one says that the tar was changed
    *((f"{part}_at", "<i8") for part in PARTS),  # from the start; or NONE, or SEVERAL
    *((f"{part}_size", "<i8") for part in PARTS),
    ("height", "<i4"),
    ("width", "<i4"),
]


class Member(NamedTuple):
    """A file in a tar: its name, where its header and its content begin, and its size; of a link, those it leads to."""

    name: str
    header: int
    begin: int
    size: int

    @property
    def key(self) -> str:
        """The name up to the first dot of its last part."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def stem(self) -> str:
        """The name up to the last dot."""
        return self.name.rpartition(".")[0]

    @property
    def is_plain(self) -> bool:
        """Whether it is named KEY.ENDING."""
        return self.key == self.stem

    def is_part(self, part: str) -> bool:
        """Whether it is a picture, a text or JSON, by its ending."""
        return self.name.rpartition(".")[2].lower() in ENDINGS[part]


class Row(NamedTuple):
    """A record: its key, all its members, and those that are its parts; SEVERAL where nothing says which."""

    key: str
    members: list[Member]
    parts: Mapping[str, Member | int]


def index_tar(entry: files.FileEntry) -> np.ndarray:
    """One row a record, in the order of the tar; ValueError where it is damaged, cut short, or no tar."""
    try:
        with files.open_file(entry.path) as file:
            if kind := describe_content(file.read(BLOCK)):
                raise ValueError(f"{entry.path} is {kind}")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                groups = group_members(list_members(tar))
                if not has_end_block(file, tar.offset):
                    raise tarfile.ReadError("it has no end")
            rows = [index_record(row, file) for group in groups for row in split_group(group)]
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(
            f"{entry.path} is damaged or cut short ({error}): fetch it again, or take it out of the folder"
        ) from None
    except OSError as error:
        raise ValueError(
            f"{entry.path} cannot be read ({error.strerror or error}): take it out of the folder"
        ) from None
    width = max([len(row[0]) for row in rows], default=1)
    return np.array(rows, [(COLUMNS[0][0], f"S{width}"), *COLUMNS[1:]])


def describe_content(head: bytes) -> str:
    """The kind of a file named .tar that is none, and what to do; empty where nothing is known against it."""
    if kind := next((kind for magic, kind in COMPRESSED.items() if head.startswith(magic)), ""):
        return f"compressed ({kind}): unpack it, since records are read from within it"
    return stand_in_kind(head)


def list_members(tar: tarfile.TarFile) -> Iterator[Member]:
    """The files of a tar, links to earlier ones among them; what systems leave beside files is left out."""
    by_name: dict[str, Member] = {}
    for info in tar:
        name = info.name.replace("\\", "/")
        member = None
        if info.isfile():
            member = Member(name, info.offset, info.offset_data, info.size)
        elif info.islnk() or info.issym():
            target = info.linkname.replace("\\", "/")
            place = target if info.islnk() else posixpath.join(posixpath.dirname(name), target)
            if earlier := by_name.get(posixpath.normpath(place)):
                member = earlier._replace(name=name)
        if member is not None:
            by_name[posixpath.normpath(name)] = member
            if not is_left_by_system(name):
                yield member


def is_left_by_system(name: str) -> bool:
    """Whether a member is a stray, or lies in a folder that is one; other hidden folders are the tar's own."""
    *folders, last = name.split("/")
    return is_stray(last) or any(folder.lower() in STRAYS for folder in folders)


def group_members(members: Iterable[Member]) -> list[list[Member]]:
    """The members of each key, wherever in the tar they stand; a name that comes again begins another group."""
    groups: list[dict[str, Member]] = []
    latest: dict[str, dict[str, Member]] = {}
    for member in members:
        if member.name in latest.setdefault(member.key, {}) or not latest[member.key]:
            latest[member.key] = {}
            groups.append(latest[member.key])
        latest[member.key][member.name] = member
    return [list(group.values()) for group in groups]


def split_group(members: list[Member]) -> list[Row]:
    """The records of a group: one, or where dots belong to the names one for each of these."""
    pictures = [member for member in members if member.is_part("picture")]
    known = [member for member in members if any(member.is_part(part) for part in PARTS)]
    key, stems = members[0].key, list(dict.fromkeys(member.stem for member in known))
    if any(picture.is_plain for picture in pictures):
        names = {picture.name for picture in pictures if picture.is_plain}
        own = [member for member in members if member.is_plain]
        own += [member for member in members if member.stem in names]  # KEY.jpg.txt
        return [Row(key, members, {part: first_part(part, own) for part in PARTS})]
    if len({picture.stem for picture in pictures}) < 2:
        ordered = sorted(members, key=lambda member: not member.is_plain)
        key = stems[0] if len(stems) == 1 else key
        return [Row(key, members, {part: first_part(part, ordered) for part in PARTS})]
    if any(member.is_plain for member in known):
        parts = {part: first_part(part, members) for part in PARTS}
        return [Row(key, members, {**parts, "picture": SEVERAL})]
    by_stem = [[member for member in known if member.stem == stem] for stem in stems]
    return [Row(own[0].stem, own, {part: first_part(part, own) for part in PARTS}) for own in by_stem]


def first_part(part: str, members: Iterable[Member]) -> Member | int:
    """The first of the members that is this part; NONE where none is."""
    return next((member for member in members if member.is_part(part)), NONE)


def index_record(row: Row, file: Any) -> tuple:
    """The columns of one record."""
    start = min(member.header for member in row.members)
    length = max(member.begin + member.size for member in row.members) - start
    places = [part if isinstance(part, int) else part.begin - start for part in row.parts.values()]
    sizes = [0 if isinstance(part, int) else part.size for part in row.parts.values()]
    picture, size = row.parts["picture"], None
    if not isinstance(picture, int):
        read: Callable[[int], bytes] = partial(read_at, file, picture.begin)
        size = read_image_size(read(min(HEAD, picture.size)), partial(read, picture.size))
    key = files.encode_name(row.key)
    return key, start, length, crc32(read_at(file, start, BLOCK)), *places, *sizes, *(size or UNKNOWN)


def read_at(file: Any, place: int, size: int) -> bytes:
    """So many bytes of the file from a place on."""
    file.seek(place)
    return file.read(size)


def has_end_block(file: Any, offset: int) -> bool:
    """Whether a header of zeros, the end of a tar, stands at the offset; tarfile takes anything for an end."""
    return read_at(file, offset, BLOCK) == bytes(BLOCK)
