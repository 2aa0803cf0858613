"""Datasets of TFDS on ArrayRecord, read without TensorFlow."""

from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32

from dalle3_jax.data import files
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import captions_beside
from dalle3_jax.data.sources import index as indexes

FEATURES = {"key", "image", "height", "width", "captions", "labels"}


@dataclass(frozen=True)
class TFDSSource:
    """A dataset of `tfds_builder.write_dataset`, read without TensorFlow; `folder` is its own or the one above."""

    folder: str | Path
    split: str = "train"

    @cached_property
    def local_folder(self) -> Path:
        """The dataset's own folder, here: one of a bucket is copied first, since ArrayRecord reads files."""
        if files.is_remote(self.folder):
            return copy_split_files(str(self.folder), self.split)
        entries = [entry for entry in files.list_tree(self.folder) if entry.name == "features.json"]
        if len(entries) != 1:
            raise ValueError(f"{str(self.folder)!r} holds {len(entries)} TFDS datasets: name the folder of one")
        return Path(files.local_path(entries[0].path)).parent

    @cached_property
    def builder(self) -> Any:
        """The builder of TFDS that reads the folder; ValueError where it lacks the split or the features."""
        import tensorflow_datasets as tfds

        builder = tfds.builder_from_directory(self.local_folder)
        if self.split not in builder.info.splits:
            raise ValueError(f"no split {self.split!r} in {self.local_folder}: there are {sorted(builder.info.splits)}")
        features: Any = builder.info.features
        if missing := sorted(FEATURES - set(features)):
            raise ValueError(
                f"{self.local_folder} has no {', '.join(missing)}: docs/data.md lists the features of a record"
            )
        return builder

    @cached_property
    def rows(self) -> Any:
        """The data source of TFDS, pictures still encoded."""
        import tensorflow_datasets as tfds

        encoded = {"image": tfds.decode.SkipDecoding()}
        return self.builder.as_data_source(self.split, decoders=encoded)  # pyright: ignore[reportCallIssue]

    def __len__(self) -> int:
        """The number of records."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Record:
        """The record at `index`; BadRecord where it cannot be used."""
        row = self.rows[index]
        key = row["key"].decode(errors="replace")
        captions = {version: captions_beside.decode_text(text, key) for version, text in row["captions"].items()}
        labels = captions_beside.parse_object(row["labels"], key)
        size = int(row["height"]), int(row["width"])
        if not row["image"]:
            raise BadRecord("empty", key, "the picture has no bytes")
        return Record(key, row["image"], *size, captions_beside.validate_captions(captions, key), labels)

    @cached_property
    def table(self) -> np.ndarray:
        """Heights and widths; the first call reads the whole split."""
        info = next(entry for entry in files.list_files(self.local_folder) if entry.name == "dataset_info.json")
        named = replace(info, path=f"{info.path}.{self.split}")

        def size_at(index: int) -> tuple[int, int]:
            row = self.rows[index]
            return int(row["height"]), int(row["width"])

        def make(_: files.FileEntry) -> np.ndarray:
            return np.array(indexes.map_in_threads(size_at, range(len(self)), "reading sizes"), np.int32)

        return indexes.load_or_make_table(named, make)

    def sizes(self, first: int, last: int) -> Int32[np.ndarray, "n 2"]:
        """Heights and widths of records first to last - 1."""
        return self.table[first:last]

    @cached_property
    def fingerprint(self) -> str:
        """A digest of what the dataset says of itself, and its outermost keys."""
        info = self.rows.dataset_info
        ends = [self.rows[index]["key"].decode(errors="replace") for index in (0, len(self) - 1)]
        said = f"{info.full_name}/{self.split}/{len(self)}/{info.dataset_size}/{ends[0]}/{ends[1]}"
        return f"tfds/{sha256(said.encode()).hexdigest()[:16]}"


def copy_split_files(folder: str, split: str) -> Path:
    """The files of a TFDS dataset that lies in a bucket, this split's alone, as a folder of this machine."""
    entries = files.list_files(folder)
    if not any(entry.name == "features.json" for entry in entries):
        raise ValueError(f"{folder!r} holds no TFDS dataset: name the folder with features.json itself")
    other = [entry for entry in entries if ".array_record" in entry.name and f"-{split}.array_record" not in entry.name]
    return files.local_copies([entry for entry in entries if entry not in other])
