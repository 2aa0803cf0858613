"""Bounds of estimates of x0: closed forms, and where DDIM keeps the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.convert.scheduler_options import SCHEDULERS
from dalle3_jax.diffusion import samplers, schedules
from dalle3_jax.diffusion.clipping import CLIPPED_SAMPLERS, THRESHOLDED_SAMPLERS, Clipping, build_clipping

SCHEDULE = schedules.build_schedule({"name": "cosine"})
KEYS = jax.random.split(jax.random.key(1), 2)
X = jax.random.normal(jax.random.key(0), (2, 3, 4, 2)) * jnp.array([0.2, 3.0])[:, None, None, None]


def test_fixed_bounds_cut_and_thresholds_scale_the_images_that_exceed_them():
    np.testing.assert_allclose(Clipping(0.5)(X), np.clip(X, -0.5, 0.5))
    small, large = Clipping(10.0, 0.9)(X)
    np.testing.assert_allclose(small, X[0], rtol=1e-6)  # below 1 nothing is scaled
    cut = np.quantile(np.abs(X[1]), 0.9)
    np.testing.assert_allclose(large, np.clip(X[1], -cut, cut) / cut, rtol=1e-5)
    assert np.abs(Clipping(1.2, 0.9)(X)[1]).max() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("option", "clipped"), [("clip_sample", CLIPPED_SAMPLERS), ("thresholding", THRESHOLDED_SAMPLERS)]
)
def test_the_samplers_that_clip_are_those_whose_class_has_the_option(option, clipped):
    classes = {scheduler.sampler for scheduler in SCHEDULERS.values() if option in scheduler.defaults}
    assert set(clipped) - {"dpmsolver++_sde"} == classes  # whose class is that of dpmsolver++
    assert ("dpmsolver++_sde" in clipped) == ("dpmsolver++" in classes)
    assert set(clipped) < samplers.SAMPLERS.keys()


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("clipping", [Clipping(0.25), Clipping(0.25, 0.5)])
def test_other_samplers_take_the_step_that_they_take_without_bounds(name, clipping):
    plain, bounded = samplers.find_step(name, "v"), samplers.find_step(name, "v", clipping)
    clips = name in (THRESHOLDED_SAMPLERS if clipping.quantile else CLIPPED_SAMPLERS)
    state = samplers.initial_state(X, samplers.past_outputs(samplers.SAMPLERS[name]))
    t, s = jnp.float32(0.4), jnp.float32(0.3)
    with jax.disable_jit():
        ends = [step(lambda x, t: 2 * x, SCHEDULE, state, t, t, s, KEYS).x for step in (plain, bounded)]
    assert bool((ends[0] != ends[1]).any()) == clips


BOUNDED = [(name, Clipping(0.25), 0.25) for name in CLIPPED_SAMPLERS]
BOUNDED += [(name, Clipping(1.2, 0.9), 1.0) for name in THRESHOLDED_SAMPLERS]


@pytest.mark.parametrize(("name", "clipping", "bound"), BOUNDED)
def test_a_step_to_the_clean_image_ends_within_the_bounds(name, clipping, bound):
    step = samplers.find_step(name, "v", clipping)
    state = samplers.initial_state(X, samplers.past_outputs(samplers.SAMPLERS[name]))
    t, s = jnp.float32(0.4), jnp.float32(0.0)
    end = jax.jit(lambda state: step(lambda x, t: 2 * x, SCHEDULE, state, t, t, s, KEYS))(state)
    assert np.abs(end.x).max() <= (1.04 if name != "lcm" else 2.0) * bound


def test_ddim_keeps_the_noise_of_the_estimate_before_it_was_cut():
    t, s, bound = jnp.float32(0.6), jnp.float32(0.3), 0.5
    state = samplers.initial_state(X)
    got = samplers.find_step("ddim", "eps", Clipping(bound))(lambda x, t: x, SCHEDULE, state, t, t, s, KEYS).x
    eps = (X - SCHEDULE.alpha(t) * X) / SCHEDULE.sigma(t)
    expected = SCHEDULE.alpha(s) * jnp.clip(X, -bound, bound) + SCHEDULE.sigma(s) * eps
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("fields", [{"bound": 0.0}, {"bound": float("inf")}, {"quantile": 1.5}, {"quantile": -0.1}])
def test_what_is_no_bound_is_refused(fields):
    with pytest.raises(ValueError, match="a bound above 0"):
        build_clipping(fields)


def test_a_field_that_clipping_lacks_is_named():
    with pytest.raises(ValueError, match="clipping has no field floor: it has bound, quantile"):
        build_clipping({"bound": 1.0, "floor": 0.1})
