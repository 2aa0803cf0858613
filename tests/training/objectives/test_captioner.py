"""The captioner's losses against closed forms: what is shifted, what is counted, what the contrast compares."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.training.objectives.captioner import captioner_loss, image_text_loss, next_token_targets
from dalle3_jax.typing import Array

IDS = jnp.asarray([[5, 6, 1, 0], [7, 1, 0, 0]])
MASK = jnp.asarray([[True, True, True, False], [True, True, False, False]])


class Seen(NamedTuple):
    images: Array
    texts: Array
    scale: Array
    logits: Array


def test_each_token_is_to_be_said_after_the_one_before_it():
    given, known, wanted, counts = next_token_targets(IDS, MASK, 9)
    np.testing.assert_array_equal(given, [[9, 5, 6, 1], [9, 7, 1, 0]])
    np.testing.assert_array_equal(known, [[1, 1, 1, 1], [1, 1, 1, 0]])
    np.testing.assert_array_equal(wanted, IDS)
    np.testing.assert_array_equal(counts, MASK)


def test_a_text_that_has_begun_loses_its_last_token():
    given, known, wanted, counts = next_token_targets(IDS, MASK, None)
    np.testing.assert_array_equal(given, IDS[:, :-1])
    np.testing.assert_array_equal(known, MASK[:, :-1])
    np.testing.assert_array_equal(wanted, IDS[:, 1:])
    np.testing.assert_array_equal(counts, MASK[:, 1:])


def test_the_contrast_is_the_mean_of_both_directions():
    images, texts = jnp.eye(3)[:2], jnp.asarray([[0.8, 0.6, 0.0], [0.0, 0.6, 0.8]])
    products = 5.0 * np.asarray(images @ texts.T)
    loss, agreement = image_text_loss(images, texts, jnp.float32(5.0))

    def picked(rows):
        return float(np.mean([row[i] - np.log(np.exp(row).sum()) for i, row in enumerate(rows)]))

    np.testing.assert_allclose(loss, -(picked(products) + picked(products.T)) / 2, rtol=1e-5)
    assert agreement == 0.5 or agreement == 1.0
    bounded, _ = image_text_loss(images, texts, jnp.float32(1e6))
    np.testing.assert_allclose(bounded, image_text_loss(images, texts, jnp.float32(100.0))[0])


def test_the_loss_weighs_both_and_leaves_padding_out():
    logits = jax.random.normal(jax.random.key(0), (2, 4, 10))
    seen = Seen(jnp.eye(2), jnp.eye(2), jnp.float32(1.0), logits)
    asked = []

    def captioner(params, *args):
        asked.append((params, args))
        return seen

    batch = {"ids": IDS, "mask": MASK, "images": jnp.zeros((2, 8, 8, 3))}
    loss_fn = captioner_loss(captioner, start_id=9, contrastive=3.0, caption=0.5)
    loss, metrics = loss_fn({"captioner": "p"}, {}, batch, jax.random.key(0))
    each = -np.asarray(jax.nn.log_softmax(logits))[np.arange(2)[:, None], np.arange(4), np.asarray(IDS)]
    spoken, apart = each[np.asarray(MASK)].mean(), np.log(1 + np.exp(-1.0))
    np.testing.assert_allclose(metrics["caption"], spoken, rtol=1e-5)
    np.testing.assert_allclose(metrics["contrastive"], apart, rtol=1e-5)
    np.testing.assert_allclose(loss, 3.0 * apart + 0.5 * spoken, rtol=1e-5)
    assert metrics["agreement"] == 1.0
    right = (np.asarray(logits.argmax(-1)) == np.asarray(IDS))[np.asarray(MASK)].mean()
    np.testing.assert_allclose(metrics["tokens"], right, rtol=1e-5)
    [(params, args)] = asked
    assert params == "p"
    np.testing.assert_array_equal(args[0][:, 0], [9, 9])
