"""Sources with sidecars: records gain versions of captions, and training draws them as the blend says."""

from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.data.batches import make_batches
from dalle3_jax.data.caches import latent_cache, latent_writer, sidecars
from dalle3_jax.data.caches.sidecars import CaptionedSource, Sidecars, add_sidecars
from dalle3_jax.data.sources.scenes import ScenesSource
from tests.data.caches.test_sidecars import SOURCE, build, expected, made_of


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(sidecars, "CHUNK", 8)


def test_records_gain_the_versions_of_all_sidecars_and_keep_the_rest(tmp_path):
    mine, yours = tmp_path / "mine", tmp_path / "yours"
    build(mine, 12)
    build(yours, 20, made=made_of(version="yours"))
    source = add_sidecars(SOURCE, [str(mine), str(yours)])
    assert isinstance(source, CaptionedSource)
    record = source[3]
    assert record.captions == {**SOURCE[3].captions, "mine": expected(3)[1], "yours": expected(3)[1]}
    assert (record.image == SOURCE[3].image).all()
    assert (len(source), source.sizes(0, 3)) == (len(SOURCE), None)
    assert source.fingerprint.startswith(f"{SOURCE.fingerprint}+mine/")
    assert source.fingerprint != add_sidecars(SOURCE, [str(mine)]).fingerprint != SOURCE.fingerprint
    assert add_sidecars(SOURCE, ()) is SOURCE
    source.check_count(12)
    with pytest.raises(ValueError, match=r"mine has captions of the first 12 records.*data\.records=12"):
        source.check_count(13)
    with pytest.raises(ValueError, match="names the version 'mine' twice"):
        add_sidecars(SOURCE, [str(mine), str(mine)])
    with pytest.raises(
        ValueError, match="holds captions of scenes/first/train/5, and the data is scenes/first/train/0"
    ):
        add_sidecars(ScenesSource(), [str(mine)])


def test_a_line_of_another_record_or_a_caption_that_is_another_is_refused(tmp_path):
    build(tmp_path, 8)
    found = Sidecars.open(str(tmp_path))
    with pytest.raises(ValueError, match=r"record 2 is 'first-train-6-2', and in .* it is 'first-train-5-2'"):
        CaptionedSource(replace(SOURCE, seed=6), (found,))[2]
    short = Sidecars(found.folder, {**found.manifest, "version": "short"})
    with pytest.raises(ValueError, match="has a caption 'short' already"):
        CaptionedSource(SOURCE, (short,))[2]


def read_all(data, count, batch_size=4, **how):
    """The captions of so many batches of one process, in order."""
    said = []

    def tokenize(texts, length):
        said.append(list(texts))
        return np.zeros((len(texts), length), np.int32), np.ones((len(texts), length), bool)

    rows = make_batches(data, tokenize=tokenize, batch_size=batch_size, seed=0, **how)
    for _ in range(count):
        next(rows)
    return [text for batch in said[:count] for text in batch]


def test_training_reads_the_new_version_as_often_as_the_blend_says(tmp_path):
    build(tmp_path, 16)
    data = {"seed": 5, "size": (32, 32), "dropout": 0.0, "records": 16, "prefetch": 0, "threads": 1}
    data |= {"captions": {"mine": 0.75, "alt": 0.25}, "sidecars": [str(tmp_path)]}
    said = read_all(data, 100)
    new, old = {expected(index)[1] for index in range(16)}, {SOURCE[index].captions["alt"] for index in range(16)}
    assert set(said) <= new | old
    assert 0.68 < np.mean([text in new for text in said]) < 0.82
    assert new <= set(said)
    shared = [read_all(data, 10, process_index=index, process_count=2) for index in (0, 1)]
    whole = np.reshape(read_all(data, 10, batch_size=8), (10, 8))
    for index, part in enumerate(shared):
        assert (np.reshape(part, (10, 4)) == whole[:, 4 * index :][:, :4]).all()
    with pytest.raises(ValueError, match=r"data\.records=16"):
        read_all({**data, "records": 0}, 1)
    with pytest.raises(ValueError, match=r"data\.captions asks for \['mine'\]"):
        read_all({**data, "sidecars": []}, 1)
    with pytest.raises(ValueError, match=r"data\.sidecars is 'x'.*name the folders"):
        read_all({**data, "sidecars": "x"}, 1)


def test_a_cache_of_latents_learns_captions_that_were_made_later(tmp_path):
    build(tmp_path / "captions", 8)
    made = latent_cache.cache_metadata(source=SOURCE.fingerprint, vae="v", sizes=[(32, 32)])
    encoder = latent_writer.CacheEncoder(lambda images: images[:, ::8, ::8], 4)
    latent_writer.start_cache(str(tmp_path / "cache"), made, encoder)
    latent_writer.write_cache_shards(str(tmp_path / "cache"), SOURCE, [(32, 32)], encoder, 8)
    latent_writer.finish_cache(str(tmp_path / "cache"), made, 8)
    cache = latent_cache.open_cache(str(tmp_path / "cache"), made)
    data = {"size": (32, 32), "dropout": 0.0, "captions": {"mine": 1.0}, "prefetch": 0, "threads": 1}
    data |= {"sidecars": [str(tmp_path / "captions")]}
    said = read_all(data, 2, source=cache.source, latents=cache)
    assert set(said) == {expected(index)[1] for index in range(8)}
