"""The blend of captions: its probabilities, one draw a record and an epoch, the same on any number of hosts."""

from collections import Counter

import numpy as np
import pytest

from configs import common
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.rows import sample_caption_version
from scripts.blend import NumberedCaptions, collect_rows

RECORD = Record("k", b"", 8, 8, {"descriptive": "d", "alt": "a", "short": "s"})
SETTINGS = {"captions": {"descriptive": 0.95, "alt": 0.05}, "dropout": 0.1}
COUNT = 100_000


def test_the_default_is_the_papers():
    assert {k: v for k, v in common.get_config().data.captions.items() if v} == {"descriptive": 0.95, "alt": 0.05}


@pytest.fixture(scope="module")
def draws():
    return [sample_caption_version(RECORD, SETTINGS, (0, 0, index)) for index in range(COUNT)]


def test_versions_are_drawn_as_often_as_the_config_says(draws):
    counts = Counter(draws)
    for version, chance in (("", 0.1), ("descriptive", 0.9 * 0.95), ("alt", 0.9 * 0.05)):
        deviation = np.sqrt(COUNT * chance * (1 - chance))
        assert abs(counts[version] - COUNT * chance) < 4.5 * deviation, version
    assert set(counts) == {"", "descriptive", "alt"}


def test_a_draw_hangs_on_seed_epoch_and_record_alone(draws):
    assert draws[:50] == [sample_caption_version(RECORD, SETTINGS, (0, 0, index)) for index in range(50)]
    for other in ((1, 0), (0, 1)):
        again = [sample_caption_version(RECORD, SETTINGS, (*other, index)) for index in range(COUNT // 5)]
        agree = np.mean([a == b for a, b in zip(again, draws, strict=False)])
        chances = np.array([0.1, 0.9 * 0.95, 0.9 * 0.05])
        assert abs(agree - np.sum(chances**2)) < 0.015  # as two independent draws do


def test_more_dropout_changes_no_version(draws):
    more = [sample_caption_version(RECORD, {**SETTINGS, "dropout": 0.5}, (0, 0, index)) for index in range(2_000)]
    assert all(a in ("", b) for a, b in zip(more, draws, strict=False))
    assert abs(np.mean([a == "" for a in more]) - 0.5) < 0.05


def test_a_version_that_a_record_lacks_is_no_caption():
    with pytest.raises(BadRecord, match="no caption 'long', only alt, descriptive, short"):
        sample_caption_version(RECORD, {"captions": {"long": 1.0}, "dropout": 0.0}, (0, 0, 0))


def test_hosts_share_out_the_rows_that_one_would_see():
    rows = collect_rows(3_000, 1)
    np.testing.assert_array_equal(rows, collect_rows(3_000, 2))
    assert not np.array_equal(rows, collect_rows(3_000, 1, seed=1))
    kept = rows[rows[:, 1] >= 0, 1]
    assert len(np.unique(kept)) == len(kept)  # no record twice in an epoch
    assert len(NumberedCaptions()) > len(rows)
