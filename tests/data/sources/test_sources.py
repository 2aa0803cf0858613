"""Sources: TFDS on ArrayRecord gives the records of the on-the-fly source."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import fsspec
import numpy as np
import pytest

from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.data.sources import TFDSSource, open_folder_source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image, image_to_png

NINE = ["cat", "lion", "tiger", "wolf", "cow", "bear", "fox", "owl", "pig"]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    from dalle3_jax.data.scenes.tfds_builder import write_dataset

    folder = tmp_path_factory.mktemp("tfds")
    return write_dataset(folder, ScenesSource(seed=4, height=40, width=64, split="held_out"), 12)


def test_tfds_gives_the_records_of_the_source(written):
    drawn, read = ScenesSource(seed=4, height=40, width=64, split="held_out"), TFDSSource(written, "held_out")
    assert len(read) == 12
    for index in range(12):
        a, b = drawn[index], read[index]
        assert isinstance(b.image, bytes)
        assert (decode_image(a.image) == decode_image(b.image)).all()
        assert (a.key, a.height, a.width, a.captions, a.labels) == (b.key, b.height, b.width, b.captions, b.labels)
    assert "tensorflow" not in sys.modules


def test_a_dataset_says_its_sizes_and_is_recognised_by_its_folder(written):
    source = open_folder_source(str(written.parents[1]), "held_out")
    assert isinstance(source, TFDSSource)
    assert source.sizes(2, 5).tolist() == [[40, 64]] * 3
    assert ScenesSource().sizes(0, 5) is None


def test_a_dataset_in_a_bucket_is_copied_once_its_own_split_alone(written, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    store = fsspec.filesystem("memory")
    store.put(str(written), "/datasets/scenes", recursive=True)
    store.pipe("/datasets/scenes/scenes-other.array_record-00000-of-00001", b"of another split")
    source = open_folder_source("memory://datasets/scenes", "held_out")
    assert source[3] == TFDSSource(written, "held_out")[3]
    assert not list(tmp_path.rglob("*other*"))
    store.rm("/datasets", recursive=True)


def test_a_dataset_is_found_in_the_folder_above_and_missing_ones_are_named(written, tmp_path):
    assert TFDSSource(written.parents[1], "held_out")[3].key == TFDSSource(written, "held_out")[3].key
    with pytest.raises(ValueError, match="no split 'train'"):
        len(TFDSSource(written, "train"))
    with pytest.raises(ValueError, match="0 TFDS datasets"):
        len(TFDSSource(tmp_path))


def test_a_dataset_is_not_written_over_another(written):
    from dalle3_jax.data.scenes.tfds_builder import write_dataset

    with pytest.raises(ValueError, match="holds a dataset already"):
        write_dataset(written.parents[1], ScenesSource(), 3)


def test_fingerprints_tell_sources_apart(written):
    sources = [ScenesSource(), ScenesSource(seed=1), ScenesSource(height=64), ScenesSource(split="held_out")]
    assert len({*(source.fingerprint for source in sources), TFDSSource(written, "held_out").fingerprint}) == 5
    assert ScenesSource(length=10).fingerprint == ScenesSource().fingerprint  # a longer source has the same records


def test_parts_have_fingerprints_that_are_the_same_in_every_process():
    parts = [{"words": 0}, {"words": 0, "kinds": ["one"]}, {"of": "first"}, {"words": 0, "concepts": ["dog", *NINE]}]
    prints = [ScenesSource(part).fingerprint for part in parts]
    assert len({*prints, ScenesSource("whole").fingerprint, ScenesSource().fingerprint}) == 6
    assert ScenesSource({"kinds": ("one",), "words": 0}).fingerprint == prints[1]
    code = (
        f"from dalle3_jax.data.sources import ScenesSource\nfor part in {parts}: print(ScenesSource(part).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == prints


def test_what_does_not_exist_is_named():
    with pytest.raises(ValueError, match=r"'second'.*first"):
        ScenesSource("second")
    with pytest.raises(ValueError, match="do not fit 64x64"):
        ScenesSource("whole", height=64, width=64)
    with pytest.raises(ValueError, match="pictures of 128x0: both sides"):
        ScenesSource(height=0)
    with pytest.raises(ValueError, match=r"split 'tset': choose one of"):
        ScenesSource(split="tset")
    with pytest.raises(IndexError, match="record 5 of 5"):
        ScenesSource(length=5)[5]


def test_a_source_without_scenes_of_its_split_is_refused_before_anything_is_drawn(monkeypatch):
    monkeypatch.setattr(import_module("dalle3_jax.data.scenes.scene"), "ATTEMPTS", 200)
    pair = min(sorted(pair) for pair in WHOLE.held_out.pairs)
    rest = [row.name for row in WHOLE.concepts if row.name not in pair and row.styles == WHOLE.styles][:3]
    five = {"concepts": [*pair, *rest], "words": 0, "styles": ["3d"]}
    with pytest.raises(ValueError, match="no train scene of the kind 'row'"):  # a row of all five holds the pair
        ScenesSource({**five, "kinds": {"one": 50, "row": 1}})
    with pytest.raises(ValueError, match="'scattered' has no held_out scene"):
        ScenesSource("scattered", split="held_out")
    ScenesSource({**five, "kinds": {"two": 1, "row": 0}})


def test_records_of_two_parts_have_keys_of_their_own():
    parts = [{"of": "first", "kinds": ["one"]}, {"of": "first", "kinds": ["two"]}]
    assert len({ScenesSource(part)[0].key for part in parts}) == 2


def test_only_whole_pictures_of_known_formats_are_read():
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3)
    assert (decode_image(image_to_png(pixels)) == pixels).all()
    for damaged, reason in (
        (b"", "empty"),
        (b"GIF89a" + bytes(50), "format"),
        (image_to_png(pixels)[:40], "truncated"),
    ):
        with pytest.raises(BadRecord, match=rf"\({reason}\)"):
            decode_image(damaged)
