"""Scenes that choose their frame: what lies side by side is wide, what is stacked tall, one in ten is anyhow."""

import numpy as np
import pytest

from dalle3_jax.data.batches import make_batches, open_source
from dalle3_jax.data.scenes import FIRST, sample_scene
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image

FRAMES = ((32, 32), (24, 40), (40, 24))
SOURCE = ScenesSource(length=400, frames=FRAMES)
SUITS = {
    "left of": (24, 40),
    "right of": (24, 40),
    "above": (40, 24),
    "below": (40, 24),
    "two": (24, 40),
    "centre": (32, 32),
}


def test_a_frame_suits_its_scene_nine_times_in_ten():
    layouts = [sample_scene(FIRST, 0, index).layout for index in range(400)]
    right = [SOURCE.size(index) == SUITS[layout] for index, layout in enumerate(layouts) if layout in SUITS]
    assert len(right) > 150
    assert 0.88 < np.mean(right) < 1.0


def test_records_are_drawn_in_their_frames_and_sizes_say_so():
    known = SOURCE.sizes(0, 20)
    assert known is not None
    for index in range(20):
        record = SOURCE[index]
        assert (record.height, record.width) == tuple(known[index])
        assert decode_image(record.image).shape[:2] == tuple(known[index])
    assert len(set(map(tuple, known.tolist()))) == 3
    assert ScenesSource(length=5).sizes(0, 5) is None
    assert SOURCE.fingerprint != ScenesSource(length=400).fingerprint


def test_buckets_hold_the_scenes_of_their_shape():
    data = {"size": (32, 32), "frames": FRAMES, "buckets": FRAMES, "records": 60, "threads": 1, "prefetch": 0}
    stream = make_batches(data, tokenize=None, batch_size=4, seed=0)
    seen = {next(stream)["images"].shape[1:3] for _ in range(12)}
    assert seen == set(FRAMES)
    assert open_source(data).frames == FRAMES


def test_only_the_first_records_are_read():
    def numbered(texts, length):
        return np.array([[hash(text) % 1000] for text in texts]), np.ones((len(texts), 1), bool)

    data = {"size": (16, 16), "records": 6, "captions": {"descriptive": 1.0}, "dropout": 0.0, "threads": 1}
    stream = make_batches(data, tokenize=numbered, batch_size=3, seed=0)
    seen = [
        tuple(sorted(int(i) for i in np.concatenate([next(stream)["ids"] for _ in range(2)])[:, 0])) for _ in range(3)
    ]
    assert len(set(seen)) == 1  # every epoch shows the same six
    with pytest.raises(ValueError, match=r"data\.records is 9, and there are only 5"):
        make_batches({**data, "records": 9}, tokenize=None, batch_size=3, seed=0, source=ScenesSource(length=5))
    with pytest.raises(ValueError, match="records is -1"):
        make_batches({**data, "records": -1}, tokenize=None, batch_size=3, seed=0)
