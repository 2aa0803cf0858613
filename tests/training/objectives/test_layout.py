"""The loss of layouts: what is sure costs nothing, tints count where objects stand, and names at any place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.layout_head import LayoutLogits
from dalle3_jax.training.objectives.layout import SHARE, bound_share, layout_loss, named_share

CELLS = np.array([[0, 1, 2, 3], [0, 0, 0, 0]])  # nothing, two concepts, a word; nothing at all
BATCH = {
    "cells": jnp.array(CELLS),
    "tints": jnp.array([[0, 1, 0, 1], [1, 1, 1, 1]]),
    "patches": jnp.array([[0, 2, 1, 0], [0, 0, 0, 0]]),
    "letters": jnp.array([[[0, 0]] * 3 + [[2, 0]], [[1, 1]] * 4]),
    "background": jnp.array([1, 0]),
}


def one_hot(values, count):
    return 50.0 * jax.nn.one_hot(values, count)


def loss_of(logits, batch=BATCH):
    def encode(weights, batch):
        return Condition(jnp.zeros((2, 4, 3)), jnp.ones((2, 4), bool), jnp.zeros((2, 3)))

    loss_fn = layout_loss(encode, lambda params, tokens, vector: logits)
    loss, metrics = loss_fn({"layout_head": {}}, {}, batch, jax.random.key(0))
    return float(loss), {name: float(value) for name, value in metrics.items()}


RIGHT = LayoutLogits(
    one_hot(CELLS, 4),
    one_hot(BATCH["tints"], 2),
    one_hot(BATCH["patches"], 3),
    one_hot(BATCH["letters"], 5),
    one_hot(BATCH["background"], 2),
)


def test_what_is_right_and_sure_costs_nothing():
    loss, metrics = loss_of(RIGHT)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert (metrics["named"], metrics["cells"], metrics["letters"], metrics["backgrounds"]) == (1.0, 1.0, 1.0, 1.0)


def test_each_part_is_its_cross_entropy_in_the_measure_of_the_grid():
    unsure = LayoutLogits(*map(jnp.zeros_like, RIGHT))
    _, metrics = loss_of(unsure)
    assert metrics["loss_cells"] == pytest.approx(SHARE * np.log(4), rel=1e-5)
    assert metrics["loss_background"] == pytest.approx(np.log(2), rel=1e-5)
    # two of the eight cells show an object; the word and what is bare have no tint, and a word alone has letters
    assert metrics["loss_tints"] == pytest.approx(SHARE / 4 * 2 / 2 * np.log(2), rel=1e-5)
    assert metrics["loss_patches"] == pytest.approx(SHARE / 4 * 2 / 2 * np.log(3), rel=1e-5)
    assert metrics["loss_letters"] == pytest.approx(SHARE / 4 * 2 / 2 * np.log(5), rel=1e-5)
    assert loss_of(unsure)[0] == pytest.approx(
        sum(metrics[f"loss_{part}"] for part in ("cells", "tints", "patches", "letters", "background"))
    )


def test_a_name_counts_wherever_it_is_thought_to_stand():
    elsewhere = one_hot(np.array([[1, 0, 0, 0], [1, 0, 0, 0]]), 4)
    assert named_share(elsewhere, jnp.asarray(CELLS)) == 1.0  # of the picture that shows objects
    another = CELLS.copy()
    another[another == 1] = 0
    assert named_share(elsewhere, jnp.asarray(another)) == 0.0
    assert named_share(elsewhere, jnp.zeros_like(CELLS)) == 0.0


def test_a_text_side_that_takes_one_name_for_all_places_binds_half_of_two():
    cells = jnp.array([[0, 1, 2, 3], [1, 1, 0, 0]])  # one concept in the second picture: nothing to bind there
    assert bound_share(one_hot(cells, 4), cells) == 1.0
    assert bound_share(one_hot(jnp.full_like(cells, 2), 4), cells) == 0.5
    assert bound_share(one_hot(jnp.array([[0, 2, 1, 3], [1, 1, 0, 0]]), 4), cells) == 0.0
    # that an object stands there at all is another question, so neither what is bare nor a word has a say
    assert bound_share(one_hot(cells, 4).at[..., 0].set(99.0).at[..., 3].set(99.0), cells) == 1.0
    assert bound_share(one_hot(cells, 4)[1:], cells[1:]) == 0.0


def test_cells_that_are_known_are_not_learnt():
    seen = []

    def recall(weights, batch, known):
        seen.append(known)
        return Condition(jnp.zeros((64, 16, 3)), known, jnp.zeros((64, 3)))

    batch = {"cells": jnp.ones((64, 16), int), "tints": jnp.ones((64, 16), int), "patches": jnp.ones((64, 16), int)}
    batch |= {"letters": jnp.zeros((64, 16, 2), int), "background": jnp.zeros(64, int)}
    unsure = LayoutLogits(*(jnp.zeros((64, 16, *shape)) for shape in ((4,), (2,), (3,), (2, 5))), jnp.zeros((64, 2)))
    loss_fn = layout_loss(lambda *_: pytest.fail("the text alone is not read"), lambda *_: unsure, recall)
    _, metrics = loss_fn({"layout_head": {}}, {}, batch, jax.random.key(0))
    [known] = map(np.asarray, seen)
    share = known.mean(axis=1)
    assert 16 < (share == 0).sum() < 48  # none of half of them, and some or nearly all of the others
    assert share.max() > 0.8
    left = 1 - known.mean()
    assert metrics["loss_cells"] == pytest.approx(SHARE * np.log(4) * left, rel=1e-4)
    assert metrics["loss_tints"] == pytest.approx(SHARE * np.log(2) * left, rel=1e-4)
    assert metrics["loss_patches"] == pytest.approx(SHARE * np.log(3) * left, rel=1e-4)
