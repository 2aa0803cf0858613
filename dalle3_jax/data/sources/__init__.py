"""Sources of records: random access by index, as grain wants it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.data import files
from dalle3_jax.data.caches.latent_cache import CachedRecords
from dalle3_jax.data.image_files import WHITE
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources.folder import FolderSource, find_metadata
from dalle3_jax.data.sources.pictures import PictureSource, is_picture
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.sources.tars import TarSource, is_tar, list_tars
from dalle3_jax.data.sources.tfds import TFDSSource
from dalle3_jax.data.transforms import decode_image

Source = ScenesSource | TFDSSource | TarSource | FolderSource | PictureSource | CachedRecords
"""A sequence of records, `source[i]`, some of which raise BadRecord.

Its `fingerprint` tells it from every other: part of a cache's key, and of what must not change when a run goes on.
`sizes(first, last)` gives heights and widths, int32 [n 2], without decoding pictures; None where there are none.
"""


LIST = re.compile(r"metadata\.(jsonl?|csv|tsv|parquet|arrow)", re.IGNORECASE)
"""Lists of pictures as other tools call them."""

HINTS = {
    (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".zip"): "unpack it: records are read from within tars",
    (".parquet", ".arrow"): "parquet and arrow are not read: write metadata.jsonl or tars from it",
}


def open_folder_source(folder: str, split: str = "train", fields: Mapping[str, str] | None = None) -> Source:
    """The source that lies in a folder or a bucket, known by what is in it; ValueError where nothing is.

    *.tar, here or further down: TarSource. metadata.jsonl or .csv, here or in SPLIT/: FolderSource.
    features.json, here or further down: TFDSSource. Pictures, here or further down: PictureSource. Where tars or
    pictures lie in SPLIT/, it is taken alone. `fields` says which fields of JSON are which versions of captions, where
    the usual names do not.
    """
    chosen = dict(fields) if fields else captions_beside.FIELDS
    if any(is_tar(entry.name) for entry in files.list_files(folder)):
        return TarSource(folder, chosen)
    if find_metadata(folder, split):
        return FolderSource(folder, split, chosen)
    tree = files.list_tree(folder)
    if any(entry.name == "features.json" for entry in tree):
        return TFDSSource(folder, split)
    inner = files.join_path(folder, split)
    if any(is_tar(entry.name) for entry in tree):
        return TarSource(inner if list_tars(inner) else folder, chosen)
    for place in (inner, folder):
        inside = [entry for entry in tree if entry.path.startswith(files.join_path(place, ""))]
        if any(is_picture(entry.name) for entry in inside):
            check_lists(place, inside)
            return PictureSource(place, chosen)
    names = [files.printable_name(entry.name) for entry in tree]
    what = f"holds none of them, only {shorten_names(names)}" if names else "is empty or not there"
    raise ValueError(
        f"data.source {str(folder)!r} {what}: give scenes, or a folder with *.tar, metadata.jsonl, features.json or "
        f"pictures{suggest_remedy(names)}"
    )


def check_lists(folder: str, inside: Sequence[files.FileEntry]) -> None:
    """ValueError where the pictures of a folder have lists that would not be read: elsewhere, or of other kinds."""
    lists = [entry.path.removeprefix(files.join_path(folder, "")) for entry in inside if LIST.fullmatch(entry.name)]
    if lists:
        raise ValueError(
            f"data.source {folder!r} has no metadata.jsonl or metadata.csv of its own, and what "
            f"{shorten_names(list(map(files.printable_name, lists)))} says of its pictures would not be read: name the "
            "folder of one list, or write one above all pictures"
        )


def read_good_records(
    source: Any, count: int, version: str = "", background: Sequence[int] = WHITE
) -> list[tuple[Record, UInt8[np.ndarray, "_ _ 3"]]]:
    """The first records that can be used, with their pixels, at most `count`; all have a caption of `version`."""
    rows: list[tuple[Record, np.ndarray]] = []
    for index in range(len(source)):
        if len(rows) == count:
            break
        try:
            record = source[index]
            if not version or version in record.captions:
                rows.append((record, decode_image(record.image, record.key, background)))
        except BadRecord:
            continue
    return rows


def suggest_remedy(names: list[str]) -> str:
    """The remedy for files of other kinds; empty where nothing is known of them."""
    for endings, remedy in HINTS.items():
        if other := next((name for name in names if name.lower().endswith(endings)), None):
            return f"; {other}: {remedy}"
    return ""


def shorten_names(names: list[str]) -> str:
    """The first of the names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
