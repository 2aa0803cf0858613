"""The head that reads latents from tokens: which token fills which square, and how its channels lie."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from dalle3_jax.models.latent_head import LatentHead
from tests.networks import normal, randomised

HEAD = LatentHead(grid=(2, 3), patch=2, channels=5)
TOKENS = normal(2, 6, 7)


def apply(params, tokens=TOKENS):
    return HEAD.apply({"params": params}, tokens)


def test_a_token_fills_its_square_and_no_other():
    params = randomised(HEAD, TOKENS)
    before = np.asarray(apply(params))
    assert before.shape == (2, 4, 6, 5)
    for token in range(6):
        changed = np.asarray(apply(params, TOKENS.at[:, token].add(1.0))) != before
        row, column = divmod(token, 3)
        inside = np.zeros((4, 6), bool)
        inside[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
        np.testing.assert_array_equal(changed.any(axis=(0, 3)), inside)


def test_a_square_is_the_shared_map_of_its_token_and_its_own_mean():
    params = randomised(HEAD, TOKENS)
    expected = TOKENS @ params["project"]["kernel"] + params["means"]
    square = apply(params)[:, 2:4, 2:4]  # the second row's second square: token 4
    np.testing.assert_allclose(square, expected[:, 4].reshape(2, 2, 2, 5), rtol=1e-5, atol=1e-5)


def test_a_new_head_expects_nothing():
    params = nn.unbox(jax.jit(HEAD.init)(jax.random.key(0), TOKENS)["params"])
    np.testing.assert_array_equal(apply(params), 0.0)


def test_other_numbers_of_tokens_are_refused():
    with pytest.raises(ValueError, match="5 tokens do not fill a grid of 2 x 3"):
        apply(randomised(HEAD, TOKENS), TOKENS[:, :5])
