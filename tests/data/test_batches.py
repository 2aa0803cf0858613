"""Batches: resumable, shared out exactly, and drawn by the configured probabilities."""

import json
from collections import Counter

import numpy as np
import pytest

from dalle3_jax.data.batches import make_batches
from dalle3_jax.data.scenes import FIRST, make_record, world_of
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import normalise_pixels

SMALL = {"size": (32, 32), "text_length": 24, "seed": 3}


def letters(texts, length):
    """A tokenizer of letters."""
    rows = np.array([list(text.encode()[:length].ljust(length, b"\0")) for text in texts], np.int32)
    return rows, rows > 0


def take(count, *, state=None, data=SMALL, tokenize=letters, batch_size=4, seed=0, **shard):
    iterator = make_batches(data, tokenize=tokenize, batch_size=batch_size, seed=seed, **shard)
    if state:
        iterator.set_state(state)
    return [next(iterator) for _ in range(count)]


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_a_batch_has_the_promised_arrays():
    (batch,) = take(1)
    assert {name: (array.shape, array.dtype.name) for name, array in batch.items()} == {
        "images": ((4, 32, 32, 3), "float32"),
        "ids": ((4, 24), "int32"),
        "mask": ((4, 24), "bool"),
        "sizes": ((4, 6), "float32"),
    }
    expected = np.stack(
        [normalise_pixels(np.asarray(make_record(FIRST, 3, index, 32, 32).image)) for index in range(4)]
    )
    assert (batch["images"] == expected).all()
    assert batch["sizes"].tolist() == [[32, 32, 0, 0, 32, 32]] * 4


def test_a_part_of_a_world_makes_the_batches():
    part = {"words": 0, "kinds": {"one": 1.0, "two": 2.0}}
    (batch,) = take(1, data={**SMALL, "world": "whole", "part": part})
    world = world_of({**part, "of": "whole"})
    assert (
        batch["images"]
        == np.stack([normalise_pixels(np.asarray(make_record(world, 3, i, 32, 32).image)) for i in range(4)])
    ).all()


def test_unit_maps_pixels_onto_minus_one_to_one():
    assert normalise_pixels(np.array([0, 255], np.uint8)).tolist() == [-1, 1]


def test_a_resumed_run_sees_what_an_uninterrupted_one_does():
    whole = take(9)
    iterator = make_batches(SMALL, tokenize=letters, batch_size=4, seed=0)
    for _ in range(4):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))  # as a checkpoint keeps it
    resumed = take(5, state=state)
    assert all(same(a, b) for a, b in zip(whole[4:], resumed, strict=True))
    assert not same(whole[0], whole[4])


@pytest.mark.parametrize(
    "latents", [None, [np.full((2, 2, 1), i, np.float16) for i in range(20)]], ids=["pictures", "latents"]
)
def test_two_processes_share_the_batch_of_one(latents):
    one = take(6, batch_size=8, latents=latents)
    halves = [take(6, process_index=i, process_count=2, latents=latents) for i in range(2)]
    for whole, *parts in zip(one, *halves, strict=True):
        assert same(whole, {name: np.concatenate([part[name] for part in parts]) for name in whole})


def test_threads_and_prefetch_change_nothing():
    alone = take(6, data={**SMALL, "threads": 1, "prefetch": 1})
    assert all(same(a, b) for a, b in zip(alone, take(6, data={**SMALL, "threads": 8, "prefetch": 16}), strict=True))


def test_crops_are_windows_of_the_picture_at_every_offset():
    data = {**SMALL, "size": (32, 48), "crop": 24}
    tops, lefts = set(), set()
    for number, batch in enumerate(take(40, data=data)):
        for row, (image, size) in enumerate(zip(batch["images"], batch["sizes"], strict=True)):
            whole = np.asarray(make_record(FIRST, 3, 4 * number + row, 32, 48).image)
            top, left = map(int, size[2:4])
            assert size.tolist() == [32, 48, top, left, 24, 24]
            assert (image == normalise_pixels(whole[top : top + 24, left : left + 24])).all()
            tops.add(top)
            lefts.add(left)
    assert tops == set(range(9))
    assert lefts == set(range(25))


def test_without_a_tokenizer_there_is_no_text():
    (batch,) = take(1, tokenize=None)
    assert set(batch) == {"images"}


def test_glyphs_are_read_from_the_caption_that_was_drawn():
    data = {**SMALL, "text_length": 200, "glyph_length": 7, "dropout": 0.5}
    batch, other = take(1, data=data, batch_size=32)[0], take(1, data=data, batch_size=32, glyphs=letters)[0]
    assert set(other) - set(batch) == {"glyph_ids", "glyph_mask"}
    assert other["glyph_ids"].shape == other["glyph_mask"].shape == (32, 7)
    assert other["glyph_mask"].dtype == bool
    assert (other["glyph_ids"] == other["ids"][:, :7]).all()
    empty = ~other["mask"].any(1)
    assert 5 < empty.sum() < 27
    assert (empty == ~other["glyph_mask"].any(1)).all()


def test_captions_are_drawn_by_their_probabilities():
    data = {**SMALL, "text_length": 200, "dropout": 0.25, "captions": {"descriptive": 0.6, "short": 0.3, "alt": 0.0}}
    ids = np.concatenate([batch["ids"] for batch in take(60, data=data, batch_size=20)])
    drawn = Counter()
    for index, row in enumerate(ids):
        text = bytes(row[row > 0].tolist()).decode()
        versions = make_record(FIRST, 3, index, 32, 32).captions
        drawn[next((version for version, said in versions.items() if said == text), text)] += 1
    shares = {version: number / 1_200 for version, number in drawn.items()}
    assert shares == pytest.approx({"": 0.25, "descriptive": 0.5, "short": 0.25}, abs=0.04)


def test_each_epoch_is_another_order_of_all_records_with_other_captions():
    latents = [np.full((1, 1, 1), i, np.float16) for i in range(12)]
    rows = [
        (int(z.item()), tuple(ids))
        for b in take(9, latents=latents)
        for z, ids in zip(b["latents"], b["ids"], strict=True)
    ]
    epochs = [rows[:12], rows[12:24], rows[24:]]
    assert all(sorted(index for index, _ in epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(index for index, _ in epoch) for epoch in epochs}) == 3
    assert any(dict(epochs[0])[index] != dict(epochs[1])[index] for index in range(12))


def test_latents_meet_the_captions_of_their_own_records():
    latents = [np.full((1, 1, 1), i, np.float16) for i in range(12)]
    data = {**SMALL, "dropout": 0.0, "captions": {"short": 1.0}}
    for batch in take(6, data=data, latents=latents):
        for index, ids in zip(batch["latents"].ravel(), batch["ids"], strict=True):
            text = make_record(FIRST, 3, int(index), 32, 32).captions["short"]
            assert (ids == letters([text], 24)[0][0]).all()


def test_seeds_give_other_captions_of_the_same_pictures():
    a, b = take(5), take(5, seed=1)
    assert all((x["images"] == y["images"]).all() for x, y in zip(a, b, strict=True))
    changed = np.concatenate([(x["ids"] != y["ids"]).any(1) for x, y in zip(a, b, strict=True)])
    assert 3 <= changed.sum() <= 17


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, r"unknown data settings \['colour'\]"),
        ({"crop": 64, "dropout": 2.0}, "data.crop is 64.*data.dropout is 2.0"),
        ({"glyph_length": -1}, "data.glyph_length is -1"),
        ({"size": (30, 32)}, "multiples of 8"),
        ({"buckets": ((32, 32), (32, 32))}, "data.buckets is .*each of them once"),
        ({"buckets": ((32, 36),)}, "data.buckets is .*multiples of 8"),
        ({"buckets": ((64, 64), (16, 64)), "crop": 32}, "data.crop is 32"),
        ({"max_bad": 1.5}, "data.max_bad is 1.5"),
        ({"size": ()}, r"data.size is \(\): height and width"),
        ({"size": 128, "captions": "descriptive"}, "data.size is 128.*data.captions is 'descriptive'"),
        ({"part": "x", "world": ["first"], "dropout": "x"}, "data.world is .*data.part is 'x'.*data.dropout is 'x'"),
        ({"prefetch": -3, "threads": 1.5, "crop": 8.5}, "data.crop is 8.5.*data.threads is 1.5.*data.prefetch is -3"),
        ({"captions": {"short": 0.0}}, "nor all be zero"),
        ({"captions": {"long": 1.0}}, r"asks for \['long'\].*descriptive.*--config.data.captions=\"{'alt': 1.0}\""),
        ({"background": (0, 0, 256)}, r"data.background is \(0, 0, 256\): a colour is"),
        ({"background": "white"}, "data.background is 'white': a colour is"),
        ({"source": "/nowhere"}, "data.source '/nowhere' is empty or not there"),
        ({"world": "whole"}, "do not fit 32x32.*words = 0"),
        ({"part": {"words": 0, "kinds": ["row"]}}, "no 'row' among its kinds"),
    ],
)
def test_settings_that_make_no_sense_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        take(1, data={**SMALL, **changes})


def test_a_written_dataset_makes_the_batches_of_its_source(tmp_path):
    from dalle3_jax.data.scenes.tfds_builder import write_dataset

    write_dataset(tmp_path, ScenesSource(seed=3, height=32, width=32), 8)
    pictures = {bytes(image.tobytes()) for batch in take(2) for image in batch["images"]}
    read = take(4, data={**SMALL, "source": str(tmp_path)})
    assert {bytes(image.tobytes()) for batch in read[:2] for image in batch["images"]} == pictures
    assert {bytes(image.tobytes()) for batch in read[2:] for image in batch["images"]} == pictures
    (larger,) = take(1, data={**SMALL, "source": str(tmp_path), "size": (64, 64)})
    assert larger["images"].shape == (4, 64, 64, 3)
    assert larger["sizes"].tolist() == [[32, 32, 0, 0, 64, 64]] * 4


def test_a_process_outside_the_run_is_refused():
    with pytest.raises(ValueError, match="process 2 of 2"):
        take(1, process_index=2, process_count=2)
