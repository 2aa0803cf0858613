"""The embedded dataset as a TFDS dataset on ArrayRecord, which needs no TensorFlow to write or to read.

write("folder", ScenesSource(seed=1), count=1000)
TFDSSource("folder")[7]
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from dalle3_jax.data.records import Record
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import image_to_png

VERSIONS = ("alt", "short", "descriptive")


class Scenes(tfds.core.GeneratorBasedBuilder):
    """Composed pictures with three captions each and exact labels."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, source: ScenesSource, count: int, **options: Any) -> None:
        """The first `count` records of `source`; `options` are those of TFDS."""
        self.source, self.count = source, count
        super().__init__(file_format="array_record", **options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {
                "key": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                "height": np.int32,
                "width": np.int32,
                "captions": {version: tfds.features.Text() for version in VERSIONS},
                "labels": tfds.features.Text(),
            }
        )
        return self.dataset_info_from_configs(description=self.__doc__, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {self.source.split: self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(self.count):
            yield index, make_example(self.source[index])


def make_example(record: Record) -> dict[str, Any]:
    """A record as the features of the dataset; the picture as PNG, which loses nothing."""
    return {
        "key": record.key,
        "image": image_to_png(record.image) if isinstance(record.image, np.ndarray) else record.image,
        "height": record.height,
        "width": record.width,
        "captions": dict(record.captions),
        "labels": json.dumps(record.labels),
    }


def write_dataset(folder: str | Path, source: ScenesSource, count: int) -> Path:
    """Writes the first `count` records, in order; returns the dataset's folder, ValueError where one is already."""
    builder = Scenes(source=source, count=count, data_dir=str(folder))
    if Path(builder.data_dir).exists():
        raise ValueError(f"{builder.data_dir} holds a dataset already: remove it or choose another folder")
    builder.download_and_prepare()
    return Path(builder.data_dir)
