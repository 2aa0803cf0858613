"""Where records come from: random access by index, as grain wants it."""

from collections.abc import Mapping
from pathlib import Path

from dalle3_jax.data import files
from dalle3_jax.data.caches.latent_cache import CachedRecords
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources.folder import METADATA, FolderSource
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.sources.tars import TarSource
from dalle3_jax.data.sources.tfds import TFDSSource

Source = ScenesSource | TFDSSource | TarSource | FolderSource | CachedRecords
"""A sequence of records, `source[i]`, some of which raise BadRecord.

Its `fingerprint` tells it from every other: part of a cache's key, and of what must not change when a run goes on.
`sizes(first, last)` gives heights and widths, int32 [n 2], without decoding pictures; None where there are none.
"""


def open_folder_source(folder: str, split: str = "train", fields: Mapping[str, str] | None = None) -> Source:
    """The source that lies in a folder or a bucket, known by what is in it; ValueError where nothing is.

    *.tar: TarSource. metadata.jsonl, here or in SPLIT/: FolderSource. features.json, here or further down: TFDSSource.
    `fields` says which fields of JSON are which versions of captions, where the usual names do not.
    """
    chosen = dict(fields) if fields else captions_beside.FIELDS
    names = [entry.name for entry in files.list_files(folder)]
    if any(name.endswith(".tar") for name in names):
        return TarSource(folder, chosen)
    if METADATA in names or files.find_file(files.join_path(files.join_path(folder, split), METADATA)):
        return FolderSource(folder, split, chosen)
    if "features.json" in names or (not files.is_remote(folder) and any(Path(folder).glob("**/features.json"))):
        return TFDSSource(folder, split)
    what = f"holds none of them, only {shorten_names(names)}" if names else "is empty or not there"
    raise ValueError(
        f"data.source {folder!r} {what}: give scenes, or a folder with *.tar, metadata.jsonl or features.json"
    )


def shorten_names(names: list[str]) -> str:
    """The first of the names."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
