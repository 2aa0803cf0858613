"""What inpainting UNets learn from: the masks, and what of an image they are shown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.training.edit_tasks import mask_cells, paint_into_masks
from dalle3_jax.training.random_masks import draw_boxes, draw_strokes, random_masks

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def masks() -> np.ndarray:
    return np.asarray(random_masks(KEY, 2000, 24, 40, 0.25))[..., 0]


def test_masks_are_whole_in_their_share_and_partial_in_the_rest(masks):
    assert masks.shape == (2000, 24, 40)
    assert set(np.unique(masks)) == {0.0, 1.0}
    shares = masks.mean(axis=(1, 2))
    assert abs((shares == 1).mean() - 0.25) < 0.03
    assert shares.min() > 0
    partial = shares[shares < 1]
    assert partial.min() < 0.05
    assert partial.max() > 0.6
    assert 0.1 < partial.mean() < 0.4


def test_no_mask_is_another(masks):
    partial = masks[masks.mean(axis=(1, 2)) < 1]
    assert len({mask.tobytes() for mask in partial}) > 0.99 * len(partial)


def test_every_place_is_masked_about_as_often(masks):
    partial = masks[masks.mean(axis=(1, 2)) < 1].mean(axis=0)
    quarters = [partial[i : i + 12, j : j + 20].mean() for i in (0, 12) for j in (0, 20)]
    assert max(quarters) < 1.15 * min(quarters)


def test_one_box_is_a_box():
    keys = jax.random.split(KEY, 300)
    boxes = np.asarray(jax.vmap(lambda key: draw_boxes(key, 30, 20))(keys))
    rows, columns = boxes.any(axis=2), boxes.any(axis=1)
    filled = np.einsum("br,bc->brc", rows, columns)
    single = (filled == (boxes > 0)).all(axis=(1, 2))
    assert 0.3 < single.mean() < 0.6  # a third are one box; of several, some lie in one another


def test_a_stroke_is_a_few_thick_lines():
    keys = jax.random.split(KEY, 50)
    strokes = np.asarray(jax.vmap(lambda key: draw_strokes(key, 40, 40))(keys)) > 0
    columns = np.abs(np.diff(strokes, axis=2)).sum(axis=2) + strokes[:, :, 0] + strokes[:, :, -1]
    crossings = columns[strokes.any(axis=2)] / 2  # runs of a row that the stroke passes
    assert 1 <= crossings.mean() < 1.8
    assert 0.05 < strokes.mean() < 0.5
    assert (strokes.sum(axis=(1, 2)) > 2).all()


def test_a_cell_is_edited_where_any_of_its_pixels_is():
    mask = jnp.zeros((1, 8, 16, 1)).at[0, 7, 4].set(1)
    np.testing.assert_array_equal(mask_cells(mask, 4)[0, :, :, 0], [[0, 0, 0, 0], [0, 1, 0, 0]])


def encode_means(weights, batch):
    """Latents of 4 pixels a cell, two channels."""
    images = batch["images"]
    b, height, width, _ = images.shape
    cells = images.reshape(b, height // 4, 4, width // 4, 4, 3).mean(axis=(2, 4))
    return cells[..., :2]


def shown_inputs(whole: float):
    """x0 and the input that a UNet is given for zeros as noisy latents."""
    rng = np.random.default_rng(0)
    batch = {"images": jnp.asarray(rng.uniform(0.5, 1, (32, 8, 8, 3)), jnp.float32), "sizes": jnp.full((32, 6), 7.0)}
    seen = []

    def unet(params, x_t, t, condition, sizes):
        seen.append((params, condition, sizes))
        return x_t

    task = paint_into_masks(encode_means, lambda weights, batch: "a caption", unet, whole=whole)({}, batch, KEY)
    shown = task.network("weights", jnp.zeros_like(task.x0), jnp.zeros(32))
    [(params, condition, sizes)] = seen
    assert (params, condition, float(sizes[0, 0])) == ("weights", "a caption", 7.0)
    return np.asarray(task.x0), np.asarray(shown)


def test_a_unet_is_shown_noisy_latents_then_the_mask_then_what_is_around_it():
    x0, shown = shown_inputs(0.0)
    assert shown.shape == (32, 2, 2, 5)
    np.testing.assert_array_equal(shown[..., :2], 0)
    mask, around = shown[..., 2], shown[..., 3:]
    assert set(np.unique(mask)) == {0.0, 1.0}
    np.testing.assert_allclose(around[mask == 0], x0[mask == 0], atol=1e-6)
    assert (around[mask == 1] < x0[mask == 1]).all()  # grey, 0, where it is to be painted


def test_under_a_mask_of_the_whole_image_nothing_is_shown_of_it():
    """What is left is text to image."""
    _, shown = shown_inputs(1.0)
    np.testing.assert_array_equal(shown[..., 2], 1)
    np.testing.assert_array_equal(shown[..., 3:], 0)
