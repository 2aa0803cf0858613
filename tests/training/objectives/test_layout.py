"""The loss of layouts: what is sure costs nothing, tints count where objects stand, and names at any place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.condition import Condition
from dalle3_jax.models.layout_head import LayoutLogits
from dalle3_jax.training.objectives.layout import (
    SHARE,
    Appearance,
    appearance_error,
    bound_share,
    layout_loss,
    named_share,
)

CELLS = np.array([[0, 1, 2, 3], [0, 0, 0, 0]])  # nothing, two concepts, a word; nothing at all
BATCH = {"cells": jnp.array(CELLS), "tints": jnp.array([[0, 1, 0, 1], [1, 1, 1, 1]]), "background": jnp.array([1, 0])}


def one_hot(values, count):
    return 50.0 * jax.nn.one_hot(values, count)


def loss_of(logits, batch=BATCH):
    def encode(weights, batch):
        return Condition(jnp.zeros((2, 4, 3)), jnp.ones((2, 4), bool), jnp.zeros((2, 3)))

    loss_fn = layout_loss(encode, lambda params, tokens, vector: logits)
    loss, metrics = loss_fn({"layout_head": {}}, {}, batch, jax.random.key(0))
    return float(loss), {name: float(value) for name, value in metrics.items()}


RIGHT = LayoutLogits(one_hot(CELLS, 4), one_hot(BATCH["tints"], 2), one_hot(BATCH["background"], 2))


def test_what_is_right_and_sure_costs_nothing():
    loss, metrics = loss_of(RIGHT)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert (metrics["named"], metrics["cells"], metrics["backgrounds"]) == (1.0, 1.0, 1.0)


def test_each_part_is_its_cross_entropy_in_the_measure_of_the_grid():
    unsure = LayoutLogits(*map(jnp.zeros_like, RIGHT))
    _, metrics = loss_of(unsure)
    assert metrics["loss_cells"] == pytest.approx(SHARE * np.log(4), rel=1e-5)
    assert metrics["loss_background"] == pytest.approx(np.log(2), rel=1e-5)
    # two of the eight cells show an object; the word and what is bare have no tint
    assert metrics["loss_tints"] == pytest.approx(SHARE / 4 * 2 / 2 * np.log(2), rel=1e-5)
    assert loss_of(unsure)[0] == pytest.approx(
        sum(metrics[f"loss_{part}"] for part in ("cells", "tints", "background"))
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


def test_what_things_look_like_is_added_to_the_labels():
    def encode(weights, batch):
        return Condition(jnp.zeros((2, 4, 3)), jnp.ones((2, 4), bool), jnp.zeros((2, 3)))

    x0, tokens = jax.random.normal(jax.random.key(1), (2, 4, 4, 3)), []
    appearance = Appearance(
        lambda weights, batch: x0, lambda params, each: tokens.append(each) or x0 + params, latents=3.0, objects=1.0
    )
    loss_fn = layout_loss(encode, lambda params, tokens, vector: RIGHT, appearance)
    loss, metrics = loss_fn({"layout_head": {}, "latent_head": 0.5}, {}, BATCH, jax.random.key(0))
    assert loss == pytest.approx(3.0 * 0.25, rel=1e-5)
    assert metrics["loss_latents"] == pytest.approx(0.75, rel=1e-5)
    assert tokens[0].shape == (2, 4, 3)


def test_cells_that_show_an_object_count_more_in_the_error_of_latents():
    x0 = jnp.zeros((1, 4, 4, 2))
    wrong = x0.at[0, 2:, :2].set(1.0)  # the four latents of the third cell of 2 x 2
    shows = jnp.array([[False, False, True, False]])
    assert appearance_error(wrong, x0, shows, 1.0) == pytest.approx(0.25)
    assert appearance_error(wrong, x0, shows, 5.0) == pytest.approx(5 / 8)
    assert appearance_error(wrong, x0, jnp.roll(shows, 1), 5.0) == pytest.approx(1 / 8)


def test_cells_are_squares_of_a_grid_of_any_shape():
    x0, shows = jnp.zeros((1, 4, 8, 1)), jnp.zeros((1, 8), bool)  # 2 x 4 cells of 2 x 2 latents
    for cell in range(8):
        row, column = divmod(cell, 4)
        wrong = x0.at[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].set(1.0)
        assert appearance_error(wrong, x0, shows.at[0, cell].set(True), 5.0) == pytest.approx(5 / 12)


@pytest.mark.parametrize(("size", "cells"), [((4, 8), 4), ((4, 6), 4), ((4, 4), 17), ((3, 12), 9)])
def test_cells_that_are_no_squares_are_refused(size, cells):
    x0 = jnp.zeros((1, *size, 1))
    with pytest.raises(ValueError, match=f"{cells} cells are no squares of {size[0]} x {size[1]} latents"):
        appearance_error(x0, x0, jnp.zeros((1, cells), bool), 1.0)
