"""Probabilities of what a picture shows: of several independent candidates, against all their combinations."""

from itertools import product

import numpy as np
import pytest

from dalle3_jax.reading.scene_probabilities import any_probability, count_probability, softmax

CHANCES = np.array([0.1, 0.5, 0.9, 0.3])


def chance_of_number(test) -> float:
    """The probability that the number of those that are there passes a test, summed over all combinations."""
    rows = [np.array(row) for row in product((0, 1), repeat=len(CHANCES)) if test(sum(row))]
    return float(sum(np.prod(np.where(row, CHANCES, 1 - CHANCES)) for row in rows))


@pytest.mark.parametrize("count", range(7))
def test_numbers_are_those_of_all_combinations(count):
    assert count_probability(CHANCES, count) == pytest.approx(chance_of_number(lambda n: n == count))
    assert count_probability(CHANCES, count, more=True) == pytest.approx(chance_of_number(lambda n: n >= count))


def test_any_is_at_least_one_and_nothing_holds_none():
    assert any_probability(CHANCES) == pytest.approx(chance_of_number(lambda n: n >= 1))
    assert any_probability(np.zeros(0)) == 0.0
    assert count_probability(np.zeros(0), 0) == 1.0


def test_softmax_sums_to_one_and_bears_large_logits():
    found = softmax(np.array([[1e4, 1e4 - np.log(3.0)], [-1e4, 0.0]]))
    np.testing.assert_allclose(found, [[0.75, 0.25], [0.0, 1.0]], atol=1e-9)
