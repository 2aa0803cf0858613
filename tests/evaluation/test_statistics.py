"""The intervals cover what they should, and shuffling measures what ignoring the prompt would score."""

import inspect
import math

import numpy as np
import pytest

from dalle3_jax.evaluation.statistics import bootstrap, paired_difference, shuffled_rate


def test_interval_of_a_known_binomial_has_its_quantiles() -> None:
    hits = np.arange(400) < 320
    rate = bootstrap(hits)
    deviation = math.sqrt(0.8 * 0.2 / 400)
    assert rate.value == 0.8
    assert rate.prompts == 400
    assert rate.low == pytest.approx(0.8 - 1.96 * deviation, abs=0.006)
    assert rate.high == pytest.approx(0.8 + 1.96 * deviation, abs=0.006)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    samples = np.random.default_rng(3).random((300, 100)) < 0.7
    rates = [bootstrap(sample, samples=400) for sample in samples]
    assert 0.90 <= np.mean([rate.low <= 0.7 <= rate.high for rate in rates]) <= 0.98


def test_interval_depends_on_the_seed_alone() -> None:
    hits = np.random.default_rng(0).random(50) < 0.5
    assert bootstrap(hits) == bootstrap(hits)
    assert bootstrap(hits, samples=10) != bootstrap(hits, samples=10, seed=1)


def test_no_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        bootstrap(np.zeros(0, bool))


def test_one_column_is_one_seed() -> None:
    hits = np.random.default_rng(0).random(50) < 0.5
    assert bootstrap(hits[:, None]) == bootstrap(hits) == bootstrap(hits.astype(float))


def test_seeds_that_agree_add_no_certainty() -> None:
    """Four equal pictures of a prompt are one piece of evidence, whatever a count of pictures would say."""
    hits = np.random.default_rng(0).random(100) < 0.5
    assert bootstrap(np.repeat(hits[:, None], 4, 1)).prompts == 100
    once, often = (bootstrap(each, samples=4000) for each in (hits, np.repeat(hits[:, None], 4, 1)))
    assert often.value == once.value
    assert (often.low, often.high) == pytest.approx((once.low, once.high), abs=0.011)


def test_interval_holds_the_spread_of_prompts_and_of_seeds() -> None:
    coins = bootstrap(np.random.default_rng(1).random((400, 4)) < 0.5)
    assert (coins.high - coins.low) / 3.92 == pytest.approx(0.5 / math.sqrt(1600), rel=0.08)


def test_more_than_two_axes_and_missing_results_are_refused() -> None:
    with pytest.raises(ValueError, match="row per prompt"):
        bootstrap(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="1 of 4 results"):
        bootstrap(np.array([[1.0, 0.0], [np.nan, 1.0]]))


def test_a_system_does_not_differ_from_itself() -> None:
    hits = np.random.default_rng(0).random((30, 3)) < 0.5
    assert paired_difference(hits, hits) == (0, 0, 0, 30)


def test_pairs_take_what_is_hard_for_both_out_of_the_difference() -> None:
    hard = np.random.default_rng(0).random((200, 1)) < 0.5
    worse = np.repeat(hard, 2, 1)
    better = worse.copy()
    better[:20] = True
    gap = paired_difference(better, worse)
    assert gap.value == pytest.approx(np.mean(better) - np.mean(worse))
    assert 0 < gap.low < gap.value < gap.high < 0.12
    assert paired_difference(worse, better).value == -gap.value
    assert bootstrap(better).low < bootstrap(worse).high


def test_interval_of_a_difference_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(5)
    chances = random.random((200, 60, 1)) * 0.8
    one, two = (random.random((200, 60, 3)) < chances + more for more in (0.2, 0.0))
    gaps = [paired_difference(a, b, samples=200) for a, b in zip(one, two, strict=True)]
    assert 0.90 <= np.mean([gap.low <= 0.2 <= gap.high for gap in gaps]) <= 0.98


def test_pairs_need_the_same_prompts() -> None:
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        inspect.unwrap(paired_difference)(np.zeros(2), np.zeros(3))  # jaxtyping would be first to complain


def test_shuffling_leaves_out_ones_own_prompt() -> None:
    distinct = list(range(40))
    assert shuffled_rate(lambda answer, truth: answer == truth, distinct, distinct)[:3] == (0, 0, 0)


def test_shuffling_matches_the_chance_of_equal_labels() -> None:
    labels = np.random.default_rng(1).integers(4, size=200).tolist()
    rate = shuffled_rate(lambda answer, truth: answer == truth, labels, labels)
    equal = np.mean([labels[i] == labels[j] for i in range(200) for j in range(200) if i != j])
    assert rate.value == pytest.approx(equal)
    assert rate.low < 0.25 < rate.high
    assert rate.high - rate.low < 0.1


def test_shuffling_of_an_answer_that_is_always_right_stays_right() -> None:
    rate = shuffled_rate(lambda answer, truth: True, [1, 2, 3], [1, 2, 3])
    assert rate[:3] == pytest.approx((1, 1, 1))
