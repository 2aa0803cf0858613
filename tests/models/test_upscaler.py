"""The upscaler: the low-resolution image on x's grid, the noise level, folded pixels, and its locality."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.upscaler import apply_upscaler, join_low_resolution, low_resolution_channels
from dalle3_jax.models.vae import depth_to_space, space_to_depth
from tests.networks import abstract, condition, normal, randomised

LOCAL = UNet(
    (Level(8, 1), Level(12, 1, depth=1, heads=2, self_attend=False)),
    in_channels=6,
    out_channels=3,
    level_entries=0,
    middle_self_attend=False,
    patch=2,
    norm="rms",
)
T, LEVEL, CONDITION = jnp.array([3.0, 700.0]), jnp.array([20.0, 200.0]), condition()
X, LOW = normal(2, 16, 24, 3), normal(2, 8, 12, 3, seed=1)


@functools.cache
def random_params():
    return randomised(LOCAL, join_low_resolution(X, LOW), T, CONDITION, None, LEVEL)


@functools.partial(jax.jit, static_argnums=0)
def run(module, params, x, t, low, level, rows):
    return apply_upscaler(module, params, x, t, low, level, rows)


def forward(x=X, t=T, low=LOW, level=LEVEL, rows=CONDITION):
    return run(LOCAL, random_params(), x, t, low, level, rows)


def test_the_low_image_stands_beside_x_at_the_same_place():
    finer = join_low_resolution(jnp.zeros((1, 8, 12, 3)), LOW[:1, :4, :6])
    np.testing.assert_array_equal(finer[..., :3], 0)
    np.testing.assert_array_equal(finer[:, ::2, ::2, 3:], LOW[:1, :4, :6])
    np.testing.assert_array_equal(finer[:, 1::2, 1::2, 3:], LOW[:1, :4, :6])
    same = join_low_resolution(jnp.zeros((2, 8, 12, 4)), LOW)
    np.testing.assert_array_equal(same[..., 4:], LOW)
    coarser = join_low_resolution(jnp.zeros((2, 4, 6, 4)), LOW)
    np.testing.assert_array_equal(depth_to_space(coarser[..., 4:], 2), LOW)


@pytest.mark.parametrize(
    ("factor", "cells", "channels"), [(2, 1, 3), (4, 1, 3), (4, 4, 3), (4, 8, 12), (2, 8, 48), (2, 4, 12)]
)
def test_channels_of_the_low_image_are_those_that_it_is_given(factor, cells, channels):
    x = jnp.zeros((1, factor * 8 // cells, factor * 16 // cells, 5))
    assert join_low_resolution(x, jnp.zeros((1, 8, 16, 3))).shape[-1] - 5 == channels
    assert low_resolution_channels(factor, cells) == channels


@pytest.mark.parametrize("size", [(8, 13), (9, 12), (12, 12), (3, 4)])
def test_sides_that_do_not_fit_are_named(size):
    with pytest.raises(ValueError, match=f"low-resolution image of {size[0]} x {size[1]}"):
        join_low_resolution(jnp.zeros((1, 16, 24, 3)), jnp.zeros((1, *size, 3)))
    with pytest.raises(ValueError, match="one must divide the other"):
        low_resolution_channels(4, 6)


@pytest.mark.parametrize(
    "change",
    [
        {"x": X + 1},
        {"t": T + 40},
        {"low": LOW + 1},
        {"level": LEVEL + 40},
        {"rows": CONDITION._replace(tokens=CONDITION.tokens + 1)},
        {"rows": CONDITION._replace(vector=CONDITION.vector + 1)},
    ],
    ids=["x", "t", "low", "level", "tokens", "vector"],
)
def test_every_input_matters(change):
    assert jnp.abs(forward(**change) - forward()).max(axis=(1, 2, 3)).min() > 1e-3


def test_the_time_and_the_noise_level_are_two_things():
    assert jnp.abs(forward(t=LEVEL, level=T) - forward()).max() > 1e-2


def test_the_noise_level_is_required():
    with pytest.raises(ValueError, match="pass noise_level"):
        abstract(LOCAL, join_low_resolution(X, LOW), T, CONDITION)
    assert "level_embedding" not in abstract(LOCAL.clone(level_entries=None), jnp.zeros((2, 8, 8, 6)), T, CONDITION)


def test_a_table_has_one_entry_for_each_level_and_adds_it_to_the_time():
    table = LOCAL.clone(level_entries=1000)
    params = {**random_params(), "level_table": {"embedding": normal(1000, 32, seed=3)}}
    del params["level_embedding"]
    out = run(table, params, X, T, LOW, LEVEL, CONDITION)
    near = run(table, params, X, T, LOW, LEVEL + 0.4, CONDITION)
    np.testing.assert_array_equal(near, out)
    moved = {**params, "level_table": {"embedding": jnp.roll(params["level_table"]["embedding"], 3, axis=0)}}
    np.testing.assert_array_equal(run(table, moved, X, T, LOW, LEVEL + 3, CONDITION), out)
    assert jnp.abs(run(table, params, X, T, LOW, LEVEL + 1, CONDITION) - out).max() > 1e-3


def test_patch_is_the_network_of_folded_images():
    joined = space_to_depth(join_low_resolution(X, LOW), 2)
    unfolded = LOCAL.clone(patch=1, in_channels=24, out_channels=12)
    out = jax.jit(unfolded.apply)({"params": random_params()}, joined, T, CONDITION, None, LEVEL)
    np.testing.assert_allclose(depth_to_space(out, 2), forward(), atol=1e-5)


@pytest.mark.parametrize("change", [{}, {"norm": "group", "groups": 4}, {"middle_self_attend": True}])
def test_without_statistics_and_self_attention_far_pixels_do_not_matter(change):
    """A change of the last columns, beyond what the convolutions reach, and of the width itself."""
    module, rows = LOCAL.clone(**change), condition(1)
    x, low = normal(1, 8, 160, 3), normal(1, 4, 80, 3, seed=1)
    params = randomised(module, join_low_resolution(x, low), T[:1], rows, None, LEVEL[:1])
    whole = run(module, params, x, T[:1], low, LEVEL[:1], rows)
    cut = run(module, params, x[:, :, :128], T[:1], low[:, :, :64], LEVEL[:1], rows)
    same = bool(jnp.abs(whole[:, :, :48] - cut[:, :, :48]).max() < 1e-5)
    assert same == (not change)
