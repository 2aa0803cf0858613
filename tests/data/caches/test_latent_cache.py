"""Caches: whole, resumable, shared out over processes, and never mistaken for another's."""

import json
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from dalle3_jax.data.batches import make_batches
from dalle3_jax.data.caches import latent_cache, latent_writer
from dalle3_jax.data.caches.latent_cache import open_cache
from dalle3_jax.data.records import BadRecord
from dalle3_jax.data.sources import open_folder_source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image, normalise_pixels
from scripts import make_bad_records

SOURCE = ScenesSource(height=32, width=32)
MADE = latent_cache.cache_metadata(source=SOURCE.fingerprint, vae="v", sizes=[(32, 32)])
WIDTH = 3


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(latent_cache, "SHARD", 8)
    monkeypatch.setitem(MADE, "shard", 8)


class Images:
    """Means over blocks of 8 pixels, counting what it is asked for."""

    def __init__(self, most=10**9):
        self.shapes, self.most = [], most

    def __call__(self, images):
        if len(self.shapes) == self.most:
            raise KeyboardInterrupt
        self.shapes.append(images.shape)
        b, h, w, c = images.shape
        return images.reshape(b, h // 8, 8, w // 8, 8, c).mean((2, 4))


def texts(captions):
    """The lengths of a caption's first words, five tokens at most, and an end."""
    features, mask = np.full((len(captions), 6, WIDTH), 77.0, np.float32), np.zeros((len(captions), 6), bool)
    for row, caption in enumerate(captions):
        lengths = [*map(len, caption.split()[:5]), 0]
        features[row, : len(lengths)] = np.array(lengths)[:, None] + np.arange(WIDTH)
        mask[row, : len(lengths)] = True
    return features, mask


def build(folder, count, images=None, source=SOURCE, made=None, sizes=((32, 32),), **how):
    encoder = latent_writer.CacheEncoder(images or Images(), 3, **how)
    made = MADE if made is None else made
    latent_writer.start_cache(str(folder), made, encoder)
    latent_writer.write_cache_shards(str(folder), source, sizes, encoder, count)
    latent_writer.finish_cache(str(folder), made, count)
    return open_cache(str(folder), made, count)


def expected(count):
    return Images()(np.stack([normalise_pixels(decode_image(SOURCE[i].image)) for i in range(count)])).astype(
        np.float16
    )


def latents(cache):
    return np.stack([entry["latents"] for entry in cache])


def test_a_cache_holds_latents_captions_and_sizes_of_every_record(tmp_path):
    images, told = Images(), []
    encoder = latent_writer.CacheEncoder(images, 3)
    latent_writer.start_cache(str(tmp_path), MADE, encoder)
    latent_writer.write_cache_shards(str(tmp_path), SOURCE, [(32, 32)], encoder, 20, progress=told.append)
    latent_writer.finish_cache(str(tmp_path), MADE, 20)
    cache = open_cache(str(tmp_path), MADE)
    assert len(cache) == len(cache.source) == sum(told) == 20
    assert (latents(cache) == expected(20)).all()
    assert set(images.shapes) == {(3, 32, 32, 3)}  # one shape, one compilation
    for index in (0, 7, 8, 19):
        record, drawn = cache.source[index], SOURCE[index]
        assert (record.key, record.captions, record.height, record.width) == (drawn.key, drawn.captions, 32, 32)
        assert cache[index]["sizes"].tolist() == [32, 32, 0, 0, 32, 32]
        assert set(cache[index]) == {"latents", "sizes"}
    for index in (20, -1):
        with pytest.raises(IndexError, match="of 20"):
            cache[index]


def test_a_build_goes_on_where_it_was_stopped(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, 20, Images(most=4))
    with pytest.raises(ValueError, match="holds no finished cache: run dalle3-jax encode again"):
        open_cache(str(tmp_path), MADE)
    with pytest.raises(ValueError, match="lacks 2 of 3 shards, first 1"):
        latent_writer.finish_cache(str(tmp_path), MADE, 20)
    images = Images()
    assert (latents(build(tmp_path, 20, images)) == expected(20)).all()
    assert len(images.shapes) == 3 + 2  # shards of 8 and 4 records
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_build_that_is_killed_goes_on_and_cleans_up(tmp_path):
    code = f"""
        import os, signal
        from array_record.python import array_record_module
        from dalle3_jax.data.caches import latent_cache, latent_writer
        from tests.data.caches.test_latent_cache import MADE, SOURCE, Images
        latent_cache.SHARD = MADE["shard"] = 8
        class Writer(array_record_module.ArrayRecordWriter):
            rows = 0
            def write(self, row):
                Writer.rows += 1
                if Writer.rows == 12:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().write(row)
        latent_writer.ArrayRecordWriter = Writer
        encoder = latent_writer.CacheEncoder(Images(), 3)
        latent_writer.start_cache({str(tmp_path)!r}, MADE, encoder)
        latent_writer.write_cache_shards({str(tmp_path)!r}, SOURCE, [(32, 32)], encoder, 20)
    """
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], cwd=root, timeout=300)
    assert done.returncode == -signal.SIGKILL
    assert list(tmp_path.glob(".*.tmp"))
    images = Images()
    assert (latents(build(tmp_path, 20, images)) == expected(20)).all()
    assert len(images.shapes) == 3 + 2
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_finished_cache_is_opened_shortened_and_grown_without_encoding_again(tmp_path):
    build(tmp_path, 12)
    again, grown = Images(), Images()
    assert len(build(tmp_path, 10, again)) == 10
    assert again.shapes == []
    assert (latents(build(tmp_path, 20, grown)) == expected(20)).all()
    assert len(grown.shapes) == 3 + 2  # the second shard was short


def test_processes_share_the_shards_out(tmp_path):
    asked = []
    for process in (1, 0):
        images = Images()
        encoder = latent_writer.CacheEncoder(images, 3)
        if process == 1:
            latent_writer.start_cache(str(tmp_path), MADE, encoder)
        latent_writer.write_cache_shards(str(tmp_path), SOURCE, [(32, 32)], encoder, 28, process=process, processes=2)
        asked.append(len(images.shapes))
    latent_writer.finish_cache(str(tmp_path), MADE, 28)
    assert asked == [3 + 2, 3 + 3]
    assert (latents(open_cache(str(tmp_path), MADE)) == expected(28)).all()


@pytest.mark.parametrize(
    "other", [{"vae": "w"}, {"source": "other"}, {"sizes": [[32, 64]]}, {"text": "t"}, {"format": 0}, {"shard": 9}]
)
def test_a_stale_cache_is_refused_with_what_differs(tmp_path, other):
    build(tmp_path, 4)
    [(name, value)] = other.items()
    said = rf"{name} is .* there and {json.dumps(value)}".replace('"', "'").replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(ValueError, match=said):
        open_cache(str(tmp_path), {**MADE, **other})
    with pytest.raises(ValueError, match=said):
        build(tmp_path, 4, made={**MADE, **other})


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(ValueError, match=r"holds thesis\.tex and is no cache"):
        build(tmp_path, 4)
    with pytest.raises(ValueError, match="holds no cache"):
        latent_cache.read_cache_metadata(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_more_records_than_a_cache_has_are_refused(tmp_path):
    build(tmp_path, 4)
    with pytest.raises(ValueError, match="holds 4 records, not 5"):
        open_cache(str(tmp_path), MADE, 5)


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_shard_is_refused_and_made_again(tmp_path, damage):
    build(tmp_path, 16)
    path = tmp_path / "latents-00001.array_record"
    path.write_bytes(path.read_bytes()[:300]) if damage == "cut" else path.unlink()
    with pytest.raises(ValueError, match=r"lacks latents-00001\.array_record or holds a part"):
        open_cache(str(tmp_path), MADE)
    images = Images()
    assert (latents(build(tmp_path, 16, images)) == expected(16)).all()
    assert len(images.shapes) == 3


def test_what_float16_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="record 0 is not finite in float16"):
        build(tmp_path, 4, lambda images: np.full((len(images), 4, 4, 1), 1e6))
    assert not list(tmp_path.glob("*.array_record"))


def test_records_go_to_their_buckets_and_bad_ones_are_left_out_by_reason(tmp_path):
    bad = make_bad_records.write_dataset(tmp_path / "tars", 60, 0.4, sizes=[(40, 80), (64, 64), (90, 45)])
    source, sizes, images = open_folder_source(str(tmp_path / "tars")), ((32, 32), (32, 64), (64, 32)), Images()
    cache = build(tmp_path / "cache", 60, images, source, sizes=sizes)
    assert {shape[1:3] for shape in images.shapes} == set(sizes)
    assert {shape[0] for shape in images.shapes} == {3}
    assert {index: reason for index, (reason, *_) in cache.bad_records.items()} == bad
    assert cache.manifest["bad"] == Counter(bad.values())
    for index in range(60):
        if index in bad:
            for rows in (cache, cache.source):
                with pytest.raises(BadRecord) as found:
                    rows[index]
                assert found.value.reason == bad[index]
            continue
        height, width = ((32, 64), (32, 32), (64, 32))[index % 3]
        original = [(40, 80), (64, 64), (90, 45)][index % 3]
        assert cache[index]["latents"].shape == (height // 8, width // 8, 3)
        assert cache[index]["sizes"].tolist() == [*original, 0, 0, height, width]
        assert cache.source.sizes(index, index + 1).tolist() == [[height, width]]


def test_a_background_is_part_of_what_a_cache_is_made_from_and_of_what_is_encoded(tmp_path):
    clear = Image.new("RGBA", (32, 32))
    clear.save(tmp_path / "a.png")
    made = {"source": "s", "vae": "v", "sizes": [(32, 32)]}
    assert latent_cache.cache_metadata(**made, background=[255, 255, 255]) == latent_cache.cache_metadata(**made)
    assert latent_cache.cache_metadata(**made, background=(0, 0, 9)) != latent_cache.cache_metadata(**made)
    record = open_folder_source(str(tmp_path))[0]
    for ground in ((255, 255, 255), (0, 0, 9)):
        assert (latent_writer.prepare_row(record, [(32, 32)], (), ground)["pixels"] == ground).all()
    data = {"source": str(tmp_path), "size": (32, 32), "background": (0, 0, 9)}
    batch = next(make_batches(data, tokenize=None, batch_size=1, seed=0))
    assert (batch["images"] == normalise_pixels(np.array((0, 0, 9), np.uint8))).all()


def test_too_many_bad_records_stop_a_build(tmp_path):
    make_bad_records.write_dataset(tmp_path / "tars", 1100, 0.2, sizes=[(8, 8)], reasons=("empty", "caption"))
    source, encoder = open_folder_source(str(tmp_path / "tars")), latent_writer.CacheEncoder(lambda images: images, 64)
    how = (str(tmp_path / "cache"), source, [(8, 8)], encoder, 1100)
    with pytest.raises(ValueError, match=r"of the first \d+ records cannot be used.*empty.*caption|caption.*empty"):
        latent_writer.write_cache_shards(*how, max_bad=0.15)
    latent_writer.write_cache_shards(*how, max_bad=0.25)


def test_features_are_those_of_each_version_and_of_no_caption(tmp_path):
    made = {**MADE, "text": "t", "text_length": 6, "versions": ["alt", "short"]}
    cache = build(tmp_path, 11, made=made, encode_texts=texts, versions=("alt", "short"))
    for index, entry in enumerate(cache):
        captions = SOURCE[index].captions
        for version, caption in (("alt", captions["alt"]), ("short", captions["short"]), ("", "")):
            features, mask = texts([caption])
            assert (entry[f"mask/{version}"] == mask[0]).all()
            assert entry[f"features/{version}"].shape == (6, WIDTH)
            assert (entry[f"features/{version}"] == features[0] * mask[0][:, None]).all()
        assert "features/descriptive" not in entry
        with pytest.raises(KeyError):
            entry["features/descriptive"]
    without = open_cache(str(tmp_path), MADE)
    assert set(without[3]) == {"latents", "sizes"}
    with pytest.raises(ValueError, match="text_length is 6 there and 7 here"):
        open_cache(str(tmp_path), {**made, "text_length": 7})


def test_batches_of_a_cache_are_those_of_its_records(tmp_path):
    made = {**MADE, "text": "t", "text_length": 6, "versions": ["alt", "short"]}
    cache = build(tmp_path, 11, made=made, encode_texts=texts, versions=("alt", "short"))
    data = {"size": (32, 32), "captions": {"alt": 1.0, "short": 1.0}, "dropout": 0.3, "text_length": 6, "threads": 1}
    said = []  # the captions of each batch, in order; batches are made ahead

    def tokenize(captions, length):
        said.append(captions)
        return np.zeros((len(captions), length), np.int32), texts(captions)[1]

    rows = make_batches(data, tokenize=tokenize, batch_size=4, seed=3, source=cache.source, latents=cache)
    known = {latents.tobytes(): index for index, latents in enumerate(expected(11))}
    for number in range(3):
        batch = next(rows)
        captions = said[number]
        assert batch.keys() == {"latents", "features", "mask", "sizes"}
        assert (batch["features"] == texts(captions)[0] * texts(captions)[1][..., None]).all()
        for row, caption in zip(batch["latents"], captions, strict=True):
            index = known[row.astype(np.float16).tobytes()]
            assert caption in ("", *SOURCE[index].captions.values())


def test_any_number_of_threads_may_read_more_files_than_are_open(tmp_path, monkeypatch):
    monkeypatch.setattr(latent_cache, "OPEN", 2)
    cache = build(tmp_path, 48)
    order = np.random.default_rng(0).permutation(480) % 48
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda index: cache[int(index)]["latents"], order))
    assert (np.stack(found) == expected(48)[order]).all()
    assert len(cache.readers) == 2


def test_a_cache_in_a_bucket_is_written_and_read_like_one_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    made = {**MADE, "text": "t", "text_length": 6, "versions": ["alt"]}
    cache = build("memory://caches/a", 10, made=made, encode_texts=texts, versions=("alt",))
    assert (latents(cache) == expected(10)).all()
    assert (
        cache[9]["features/alt"]
        == build(tmp_path / "b", 10, made=made, encode_texts=texts, versions=("alt",))[9]["features/alt"]
    ).all()
    with pytest.raises(ValueError, match="vae is 'v' there and 'w' here"):
        open_cache("memory://caches/a", {**made, "vae": "w"})
    fsspec.filesystem("memory").rm("/caches", recursive=True)
