"""The latent cache: whole, resumable, and never mistaken for another's."""

import numpy as np
import pytest

from dalle3_jax.data import caches
from dalle3_jax.data.sources import ScenesSource
from dalle3_jax.data.transforms import decode, unit

SOURCE = ScenesSource(height=32, width=32)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(caches, "SHARD", 8)


class Encoder:
    """Means over blocks of 8 pixels, counting what it is asked for."""

    def __init__(self):
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        return images.reshape(len(images), 4, 8, 4, 8, 3).mean((2, 4))


def build(folder, count, encode, key="vae"):
    return caches.build(folder, SOURCE, encode, count, 3, key)


def expected(count):
    return Encoder()(np.stack([unit(decode(SOURCE[i].image)) for i in range(count)])).astype(np.float16)


def test_a_cache_holds_the_latents_of_every_record(tmp_path):
    encode, told = Encoder(), []
    cache = caches.build(tmp_path, SOURCE, encode, 20, 3, "vae", told.append)
    assert len(cache) == 20
    assert (np.stack([cache[i] for i in range(20)]) == expected(20)).all()
    assert set(encode.batches) == {3}  # one shape, one compilation
    assert told == [8, 16, 20]
    with pytest.raises(IndexError):
        cache[20]


def test_a_build_goes_on_where_it_was_killed(tmp_path):
    class Killed(Encoder):
        def __call__(self, images):
            if len(self.batches) == 4:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, 20, Killed())
    with pytest.raises(ValueError, match="lacks 2 of 3 shards"):
        caches.open_cache(tmp_path, SOURCE, "vae", 20)
    encode = Encoder()
    cache = build(tmp_path, 20, encode)
    assert len(encode.batches) == 3 + 2  # shards of 8 and 4 records
    assert (np.stack(list(cache)) == expected(20)).all()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_finished_cache_is_opened_and_grown_without_encoding_again(tmp_path):
    build(tmp_path, 16, Encoder())
    again, grown = Encoder(), Encoder()
    assert len(build(tmp_path, 12, again)) == 12
    assert again.batches == []
    assert (np.stack(list(build(tmp_path, 20, grown))) == expected(20)).all()
    assert len(grown.batches) == 2


def test_another_vae_or_source_has_another_cache(tmp_path):
    build(tmp_path, 4, Encoder())
    for source, key in ((SOURCE, "other"), (ScenesSource(height=32, width=32, seed=1), "vae")):
        with pytest.raises(ValueError, match="build the cache first"):
            caches.open_cache(tmp_path, source, key, 4)


def test_a_cut_shard_is_made_again(tmp_path):
    build(tmp_path, 16, Encoder())
    path = sorted(tmp_path.rglob("*.npy"))[1]
    path.write_bytes(path.read_bytes()[:300])
    encode = Encoder()
    assert (np.stack(list(build(tmp_path, 16, encode))) == expected(16)).all()
    assert len(encode.batches) == 3


def test_latents_that_float16_cannot_hold_are_refused(tmp_path):
    with pytest.raises(ValueError, match="records 0 to 3 are not finite"):
        build(tmp_path, 4, lambda images: np.full((len(images), 4, 4, 1), 1e6))
    assert not list(tmp_path.rglob("*.npy"))
