"""The head that reads a layout from tokens: which token speaks for which cell, and how many classes there are."""

import jax
import numpy as np
import pytest

from dalle3_jax.models.layout_head import LayoutHead
from tests.networks import normal, randomised

HEAD = LayoutHead((2, 3), ("fox", "owl"), ("natural", "red", "blue"), ("beach",))
TOKENS, VECTOR = normal(2, 6, 7), normal(2, 4)


def test_a_token_speaks_for_its_cell_alone_and_the_vector_for_the_background():
    params = randomised(HEAD, TOKENS, VECTOR)
    read = jax.jit(lambda tokens, vector: HEAD.apply({"params": params}, tokens, vector))
    before = read(TOKENS, VECTOR)
    # nothing, two concepts, a word; 4 x 4 patches; the letters of two halves, or none
    assert [part.shape for part in before] == [(2, 6, 4), (2, 6, 3), (2, 6, 16), (2, 6, 2, 53), (2, 1)]
    after = read(TOKENS.at[:, 4].add(1.0), VECTOR)
    for old, new in zip(before[:4], after[:4], strict=True):
        changed = np.asarray(old != new).reshape(2, 6, -1)
        np.testing.assert_array_equal(np.any(changed, axis=(0, 2)), np.arange(6) == 4)
    np.testing.assert_array_equal(before.backgrounds, after.backgrounds)
    assert (read(TOKENS, VECTOR + 1.0).backgrounds != before.backgrounds).all()


def test_other_numbers_of_tokens_are_refused():
    with pytest.raises(ValueError, match="5 tokens do not fill a grid of 2 x 3"):
        HEAD.apply({"params": randomised(HEAD, TOKENS, VECTOR)}, TOKENS[:, :5], VECTOR)
