"""The task of labels: what they say for sure, said less surely, and not said."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.layout_encoder import LayoutEncoder, labelled_layout
from dalle3_jax.training.layout_tasks import blur_layout, forget_layout, layout_to_image

NAMES = LayoutEncoder(
    4, 4, 4, (4, 4), concepts=("fox", "owl"), tints=("natural", "red"), backgrounds=("beach", "sea", "city")
)
WORD, ROWS = 3, 64
RNG = np.random.default_rng(0)
BATCH = {
    "cells": jnp.asarray(RNG.integers(0, 4, (ROWS, 16))),
    "tints": jnp.asarray(RNG.integers(0, 2, (ROWS, 16))),
    "patches": jnp.asarray(RNG.integers(0, 16, (ROWS, 16))),
    "letters": jnp.asarray(RNG.integers(0, 53, (ROWS, 16, 2))),
    "background": jnp.asarray(RNG.integers(0, 3, ROWS)),
}
LAYOUT = labelled_layout(BATCH, NAMES)
blur = jax.jit(lambda share, key: blur_layout(LAYOUT, NAMES.grid, share, key), static_argnums=0)
forget = jax.jit(lambda share, key: forget_layout(LAYOUT, share, key), static_argnums=0)


def test_labels_are_sure_of_what_they_say():
    for part, label in zip(LAYOUT, ("cells", "tints", "patches", "letters", "background"), strict=True):
        said = np.asarray(part.sum(-1)) > 0
        np.testing.assert_array_equal(np.asarray(part.argmax(-1))[said], np.asarray(BATCH[label])[said])
        assert set(np.unique(part)) == {0.0, 1.0}
    cells = np.asarray(BATCH["cells"])
    np.testing.assert_array_equal(LAYOUT.tints.sum(-1), (cells > 0) & (cells < WORD))
    np.testing.assert_array_equal(LAYOUT.patches.sum(-1), (cells > 0) & (cells < WORD))
    np.testing.assert_array_equal(LAYOUT.letters.sum(-1), (cells == WORD)[..., None].repeat(2, -1))


def test_a_blurred_share_tells_places_more_or_less_and_keeps_its_sums():
    for old, new in zip(LAYOUT, blur(0.0, jax.random.key(1)), strict=True):
        np.testing.assert_array_equal(old, new)
    blurred = blur(0.5, jax.random.key(1))
    changed = np.any(np.asarray(blurred.classes != LAYOUT.classes), axis=(1, 2))
    assert 0.25 < changed.mean() < 0.65  # a radius of nothing both ways leaves a chosen picture as it is
    np.testing.assert_allclose(blurred.classes.sum(-1), 1.0, rtol=1e-5)
    shows = blurred.classes[..., 1:-1].sum(-1)
    np.testing.assert_allclose(blurred.tints.sum(-1), shows, atol=1e-5)
    np.testing.assert_allclose(blurred.patches.sum(-1), shows, atol=1e-5)
    np.testing.assert_allclose(blurred.letters.sum(-1), blurred.classes[..., -1:].repeat(2, -1), atol=1e-5)
    np.testing.assert_array_equal(blurred.backgrounds, LAYOUT.backgrounds)


def test_a_cell_is_told_of_by_its_neighbours_on_both_axes():
    alone = jnp.zeros((ROWS, 16), int).at[:, 5].set(1)  # row 1, column 1
    layout = labelled_layout({**BATCH, "cells": alone}, NAMES)
    blurred = blur_layout(layout, NAMES.grid, 1.0, jax.random.key(2)).classes[..., 1].reshape(ROWS, 4, 4)
    reached = np.asarray(blurred > 0)
    assert reached[:, 1, 1].all()  # wherever else a thing may stand, where it stands it may
    heights, widths = reached.any(axis=2).sum(axis=1), reached.any(axis=1).sum(axis=1)
    assert {1, 3, 4} == set(heights) == set(widths)
    assert (heights != widths).any()


def test_a_forgotten_share_says_what_the_batch_says_on_the_average():
    forgotten = forget(0.3, jax.random.key(3))
    changed = np.any(np.asarray(forgotten.classes != LAYOUT.classes), axis=(1, 2))
    assert 0.15 < changed.mean() < 0.5
    np.testing.assert_array_equal(changed, np.any(np.asarray(forgotten.backgrounds != LAYOUT.backgrounds), axis=1))
    first = int(np.flatnonzero(changed)[0])
    np.testing.assert_allclose(forgotten.classes[first, 3], LAYOUT.classes.mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(forgotten.letters[first, 3], LAYOUT.letters.mean(axis=(0, 1)), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(forgotten.backgrounds[first], LAYOUT.backgrounds.mean(axis=0), rtol=1e-5)
    for old, new in zip(LAYOUT, forget(0.0, jax.random.key(3)), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(("blurred", "forgotten"), [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)])
def test_the_task_is_the_latents_and_the_network_on_what_is_said(blurred, forgotten):
    given = []

    def unet(params, x_t, t, condition, sizes):
        given.append((condition, sizes))
        return x_t

    make_task = layout_to_image(
        lambda weights, batch: "x0",
        lambda batch: labelled_layout(batch, NAMES),
        lambda params, layout: layout,
        unet,
        grid=NAMES.grid,
        blurred=blurred,
        forgotten=forgotten,
    )
    task = make_task({"layout_encoder": {}}, BATCH, jax.random.key(4))
    assert task.x0 == "x0"
    assert task.network({}, "x_t", "t") == "x_t"
    [(layout, sizes)] = given
    assert sizes is None
    same = np.array_equal(layout.classes, LAYOUT.classes)
    assert same == (blurred == forgotten == 0.0)
    assert np.array_equal(layout.backgrounds, LAYOUT.backgrounds) == (forgotten == 0.0)
