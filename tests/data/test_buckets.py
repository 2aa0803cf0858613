"""Aspect-ratio buckets: which picture goes where, in what proportion, in an order that nobody needs to be told."""

import json
from collections import Counter

import numpy as np
import pytest

from dalle3_jax.data import batches as pipeline
from dalle3_jax.data.bad_records import BadRecordCounter
from dalle3_jax.data.buckets import nearest_bucket, nearest_buckets, resize_and_crop
from dalle3_jax.data.order import SequentialOrder, ShuffledOrder, splitmix64
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.settings import DEFAULTS
from dalle3_jax.data.sources.folder import FolderSource

BUCKETS = ((32, 32), (32, 56), (56, 32))


class Pictures(FolderSource):
    """Records of given heights and widths, the first pixel of each its number; some of them bad."""

    def __init__(self, shapes, bad=None):
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "bad", bad or {})

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        if index in self.bad:
            raise BadRecord(self.bad[index], str(index), "so it is")
        height, width = self.shapes[index]
        pixels = np.full((height, width, 3), index % 250, np.uint8)
        return Record(str(index), pixels, height, width, {"alt": str(index)})

    def sizes(self, first, last):
        return np.array(self.shapes[first:last], np.int32)


def letters(texts, length):
    rows = np.array([list(text.encode()[:length].ljust(length, b"\0")) for text in texts], np.int32)
    return rows, rows > 0


SETTINGS = {"size": (32, 32), "captions": {"alt": 1.0}, "dropout": 0.0, "text_length": 4, "source": "pictures"}


@pytest.fixture
def batches(monkeypatch):
    """`pipeline.batches` of a source that is given."""

    def made(source, batch_size=4, data=None, **shard):
        monkeypatch.setattr(pipeline, "open_source", lambda settings: source)
        settings = {**SETTINGS, "buckets": BUCKETS, **(data or {})}
        return pipeline.make_batches(settings, tokenize=letters, batch_size=batch_size, seed=5, **shard)

    return made


def mixture(count=60):
    """Two thirds square, a sixth wide and a sixth tall."""
    return [((40, 40), (40, 40), (30, 54), (40, 40), (40, 40), (90, 50))[i % 6] for i in range(count)]


def test_the_nearest_ratio_by_its_logarithm_wins_and_of_equals_the_largest():
    assert [nearest_bucket(*size, BUCKETS) for size in ((500, 510), (100, 170), (170, 100), (300, 1000))] == [
        0,
        1,
        2,
        1,
    ]
    assert nearest_bucket(10, 10, ((32, 32), (64, 64))) == 1
    assert nearest_bucket(100, 200, ((64, 64), (64, 256))) == 1  # equally far: the larger one
    sizes = np.random.default_rng(0).integers(1, 500, (300, 2))
    assert nearest_buckets(sizes, BUCKETS).tolist() == [nearest_bucket(h, w, BUCKETS) for h, w in sizes.tolist()]


def test_a_picture_covers_its_bucket_and_is_cropped_where_it_is_told():
    pixels = np.zeros((40, 100, 3), np.uint8)
    pixels[:, 50:] = 200
    whole, top, left = resize_and_crop(pixels, (20, 20), 0.5, 0.0)
    assert (whole.shape, top, left) == ((20, 20, 3), 0, 0)
    assert whole.max() == 0
    right, _, left = resize_and_crop(pixels, (20, 20), 0.5, 1.0)
    assert left == 30
    assert right.min() == 200
    assert resize_and_crop(pixels, (40, 100))[0] is pixels
    wide, *_ = resize_and_crop(np.zeros((3, 5, 3), np.uint8), (32, 56))
    assert wide.shape == (32, 56, 3)


def test_a_batch_has_one_bucket_and_says_what_became_of_each_picture(batches):
    shapes = mixture()
    stream, seen = batches(Pictures(shapes)), set()
    for batch in (next(stream) for _ in range(30)):
        _, height, width, _ = batch["images"].shape
        seen.add((height, width))
        sizes = batch["sizes"].astype(int).tolist()
        for row, (h, w, top, left, target_h, target_w) in zip(batch["images"], sizes, strict=True):
            index = round((row[0, 0, 0] + 1) * 127.5)
            assert (h, w) == shapes[index]
            assert (target_h, target_w) == (height, width) == BUCKETS[nearest_bucket(h, w, BUCKETS)]
            scale = max(height / h, width / w)
            assert 0 <= top <= round(h * scale) - height
            assert 0 <= left <= round(w * scale) - width
    assert seen == set(BUCKETS)


def test_each_record_is_seen_equally_often_and_each_bucket_in_proportion(batches):
    stream, counts, buckets = batches(Pictures(mixture())), Counter(), Counter()
    for batch in (next(stream) for _ in range(150)):  # ten epochs
        buckets[batch["images"].shape[1:3]] += 1
        counts.update(round((value + 1) * 127.5) for value in batch["images"][:, 0, 0, 0].tolist())
    assert set(counts) == set(range(60))
    assert set(counts.values()) <= {9, 10, 11}
    assert buckets == {(32, 32): 100, (32, 56): 25, (56, 32): 25}
    members = [np.arange(7), np.arange(7, 20), np.arange(20, 23)]  # none of them a multiple of the batch
    order, seen = ShuffledOrder(members, 8, 3), Counter()
    seen.update(order(position).record for position in range(23 * 40))
    assert set(seen) == set(range(23))
    assert max(seen.values()) - min(seen.values()) <= 1 + 8 // 3
    turns = [order.bucket_and_turn(number) for number in range(115)]
    for bucket in range(3):
        assert [turn for found, turn in turns if found == bucket] == list(range(sum(b == bucket for b, _ in turns)))


def test_orders_are_shuffled_anew_and_depend_on_the_seed():
    members = [np.arange(40), np.arange(40, 60)]
    rows = [[tuple(ShuffledOrder(members, 4, seed)(position)) for position in range(120)] for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]
    laid = [[ShuffledOrder(members, 4, 0).bucket_and_turn(n)[0] for n in range(15 * c, 15 * c + 15)] for c in range(3)]
    assert len({tuple(cycle) for cycle in laid}) == 3
    assert all(sum(cycle) == 5 for cycle in laid)


def test_the_hash_of_the_order_is_the_published_one():
    with np.errstate(over="ignore"):
        expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]  # splitmix64 of seed 0: its first two outputs
    assert splitmix64(np.arange(2, dtype=np.uint64)).tolist() != expected  # a key of nothing is a key too
    assert len(set(splitmix64(np.arange(1000, dtype=np.uint64), 1).tolist())) == 1000
    assert (
        splitmix64(np.arange(9, dtype=np.uint64), 1).tolist() != splitmix64(np.arange(9, dtype=np.uint64), 2).tolist()
    )


def test_all_processes_have_the_bucket_and_together_the_batch_of_one(batches):
    one = batches(Pictures(mixture()), batch_size=8)
    four = [batches(Pictures(mixture()), batch_size=2, process_index=i, process_count=4) for i in range(4)]
    for _ in range(12):
        whole, parts = next(one), [next(part) for part in four]
        assert all((whole[name] == np.concatenate([part[name] for part in parts])).all() for name in whole)


def test_a_resumed_stream_goes_on_on_any_number_of_processes(batches):
    one = batches(Pictures(mixture()), batch_size=8)
    for _ in range(7):
        next(one)
    state = json.loads(json.dumps(one.get_state()))
    assert state == {"batches": 7}
    two = [batches(Pictures(mixture()), batch_size=4, process_index=i, process_count=2) for i in range(2)]
    for part in two:
        part.set_state(state)
    for _ in range(5):
        whole, parts = next(one), [next(part) for part in two]
        assert all((whole[name] == np.concatenate([part[name] for part in parts])).all() for name in whole)
    assert two[0].get_state() == {"batches": 12}


def test_scenes_are_drawn_at_the_size_of_each_batch():
    data = {"size": (32, 32), "buckets": BUCKETS, "text_length": 8}
    stream = pipeline.make_batches(data, tokenize=letters, batch_size=2, seed=0)
    shapes = [next(stream)["images"].shape[1:3] for _ in range(24)]
    assert set(shapes) == set(BUCKETS)
    assert SequentialOrder(1, 4, 0)(11) == (0, 0, 11)
    assert [tuple(example()["images"].shape[1:3]) for example in stream.examples] == list(BUCKETS)


def test_bad_records_are_replaced_within_their_bucket_and_counted_once_each(batches):
    shapes, bad = mixture(), {0: "truncated", 7: "animated", 8: "truncated", 31: "bomb"}
    stream = batches(Pictures(shapes, bad), data={"max_bad": 0.2})
    again = batches(Pictures(shapes, bad), data={"max_bad": 0.2, "threads": 8})
    for _ in range(45):  # three epochs
        batch, other = next(stream), next(again)
        assert all((batch[name] == other[name]).all() for name in batch)
        indices = [round((value + 1) * 127.5) for value in batch["images"][:, 0, 0, 0].tolist()]
        assert not set(indices) & set(bad)
    assert stream.bad == {"truncated": 2, "animated": 1, "bomb": 1}


def test_too_many_bad_records_stop_the_run_with_their_reasons(batches):
    shapes = [(40, 40)] * 5000
    bad = {index: "caption" if index % 40 else "json" for index in range(0, 5000, 20)}
    few = batches(Pictures(shapes, bad), batch_size=50, data={"max_bad": 0.06})
    for _ in range(60):
        next(few)
    many = batches(Pictures(shapes, bad), batch_size=50, data={"max_bad": 0.03})
    with pytest.raises(ValueError, match=r"more than data.max_bad=0.03 allows: .*caption.*such as bad record '\d+'"):
        [next(many) for _ in range(60)]
    # Which is said first is a race of threads: that one row found none to use, or that all of the first were bad.
    with pytest.raises(ValueError, match=r"100 records in a row cannot be used|of the first .* records cannot be used"):
        next(batches(Pictures(shapes, dict.fromkeys(range(5000), "empty")), data={"captions": {"alt": 1.0}}))


@pytest.mark.parametrize(
    ("most", "good", "bad", "records", "stops"),
    [
        (0.01, 0, 2, None, False),  # chance: 1e-4
        (0.01, 0, 3, None, True),
        (0.01, 30, 3, None, False),
        (0.01, 30, 5, None, True),
        (0.0, 500, 1, None, True),
        (1.0, 0, 9, None, False),
        (0.5, 0, 14, None, False),
        (0.5, 0, 15, None, True),
        (0.01, 985, 15, None, True),  # of a thousand the share counts
        (0.01, 990, 10, None, False),
        (0.01, 5000, 10, 20, True),  # a source of 20 records, each read many times
        (0.01, 5000, 1, 20, False),
    ],
)
def test_the_share_of_bad_records_is_judged_from_the_first_one_on(most, good, bad, records, stops):
    ledger = BadRecordCounter(most, records)
    for index in range(bad):
        for _ in range(2):
            ledger.count_bad(index, BadRecord("json", str(index), "x"))
    for _ in range(good):
        ledger.count_good()
    rows = min(good + bad, records or good + bad)
    if not stops:
        return ledger.check_share()
    with pytest.raises(ValueError, match=rf"{bad} of the first {rows} records .*{bad} json \(such as bad record '0'"):
        ledger.check_share()


def test_bad_records_are_counted_by_reason_and_the_first_of_each_are_named(batches):
    ledger = BadRecordCounter(1.0)
    assert ledger.describe() == ""
    for index, reason in enumerate(["json", "shape", "json", "json", "json"]):
        ledger.count_bad(index, BadRecord(reason, f"key {index}", "x"))
    assert ledger.describe() == "4 json (such as 'key 0', 'key 2', 'key 3'), 1 shape ('key 1')"
    stream = batches(Pictures([(32, 32)] * 4, {2: "empty"}), data={"buckets": (), "max_bad": 0.5})
    [next(stream) for _ in range(3)]
    assert stream.describe_bad() == "1 empty ('2')"


def test_the_defaults_of_the_settings_are_those_of_configs():
    from configs import common

    section, defaults = common.get_config().data.to_dict(), dict(DEFAULTS)
    assert (section.pop("tokenizer"), defaults.pop("split")) == ("scenes", "train")  # one key that the other lacks
    assert section == defaults
