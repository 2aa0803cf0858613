"""Named draws: the same for ever, uniform, and independent of each other."""

from collections import Counter

import numpy as np
import pytest

from dalle3_jax.data.draws import choose, uniform, weighted_choice


def test_draws_are_the_same_for_ever():
    # Changing these numbers changes every picture and caption that a seed ever made.
    assert uniform("first", 0, 1) == 0.3259967844196814
    assert uniform("first", 0, "kind") == 0.6200980366095507


def test_draws_are_uniform_and_uncorrelated():
    values = np.array([[uniform(0, i, name) for name in ("a", "b")] for i in range(20_000)])
    assert (values >= 0).all()
    assert (values < 1).all()
    counts = np.histogram(values[:, 0], 20, (0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees of freedom, p = 0.001
    assert abs(np.corrcoef(values.T)[0, 1]) < 0.03
    assert abs(np.corrcoef(values[1:, 0], values[:-1, 0])[0, 1]) < 0.03


def test_integers_and_strings_of_a_key_are_told_apart():
    assert len({uniform(1, 23), uniform(12, 3), uniform("1", 23), uniform(1, "23")}) == 4


def test_choices_follow_their_weights():
    drawn = Counter(weighted_choice("abc", (0.2, 0.0, 0.6), i) for i in range(8_000))
    assert drawn["b"] == 0
    assert drawn["a"] / 8_000 == pytest.approx(0.25, abs=0.02)
    assert set(Counter(choose("abcd", i) for i in range(200))) == set("abcd")
