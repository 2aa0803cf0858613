"""The intervals cover what they should, and shuffling measures what ignoring the prompt would score."""

import math

import numpy as np
import pytest

from dalle3_jax.evaluation.statistics import bootstrap, shuffled


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


def test_shuffling_leaves_out_ones_own_prompt() -> None:
    distinct = list(range(40))
    assert shuffled(lambda answer, truth: answer == truth, distinct, distinct)[:3] == (0, 0, 0)


def test_shuffling_matches_the_chance_of_equal_labels() -> None:
    labels = np.random.default_rng(1).integers(4, size=200).tolist()
    rate = shuffled(lambda answer, truth: answer == truth, labels, labels)
    equal = np.mean([labels[i] == labels[j] for i in range(200) for j in range(200) if i != j])
    assert rate.value == pytest.approx(equal)
    assert rate.low < 0.25 < rate.high
    assert rate.high - rate.low < 0.1


def test_shuffling_of_an_answer_that_is_always_right_stays_right() -> None:
    rate = shuffled(lambda answer, truth: True, [1, 2, 3], [1, 2, 3])
    assert rate[:3] == pytest.approx((1, 1, 1))
