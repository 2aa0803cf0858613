"""The size head: padding plays no part, every token may; its loss against a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.training.objectives.size_head import size_head_loss
from tests.networks import apply, normal, randomised, spoiled

HEAD = SizeHead(((8, 8), (8, 16), (16, 8)), width=6, hidden=5)
FEATURES, MASK = normal(2, 4, 6), jnp.arange(4)[None] < jnp.array([4, 2])[:, None]


@functools.cache
def random_params():
    return randomised(HEAD, FEATURES, MASK)


def logits(features=FEATURES, mask=MASK):
    return apply(HEAD, random_params(), features, mask)


def test_there_is_a_logit_for_each_size():
    assert logits().shape == (2, 3)
    assert logits(FEATURES.astype(jnp.bfloat16)).dtype == jnp.float32


def test_padding_plays_no_part_and_every_token_may():
    np.testing.assert_allclose(logits(spoiled(FEATURES, MASK)), logits(), atol=1e-6)
    for place in range(4):
        changed = FEATURES.at[0, place].set(normal(8, 6, seed=place + 5).sum(0) * 3)
        assert jnp.abs(logits(changed) - logits())[0].max() > 1e-4 or place > 0


def test_the_loss_is_the_cross_entropy_on_frozen_features():
    networks = {
        "text_encoder": lambda p, ids, mask: p * FEATURES,
        "size_head": lambda p, f, m: HEAD.apply({"params": p}, f, m),
    }
    batch = {"ids": jnp.zeros((2, 4), int), "mask": MASK, "bucket": jnp.array([2, 0])}
    loss_fn = jax.jit(size_head_loss(networks))
    loss, metrics = loss_fn(
        {"size_head": random_params()}, {"text_encoder": jnp.float32(1.0)}, batch, jax.random.key(0)
    )
    each = jax.nn.log_softmax(logits())
    np.testing.assert_allclose(loss, -(each[0, 2] + each[1, 0]) / 2, rtol=1e-5)
    assert metrics["right"] == np.mean(np.asarray(logits().argmax(-1)) == [2, 0])
