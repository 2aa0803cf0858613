"""Consistency models: their times, their coefficients, and what their training compares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import consistency, prediction, samplers, schedules, steps

SCHEDULE = schedules.Cosine()
KEY = jax.random.key(3)


def images(seed: int, count: int = 4):
    return jax.random.normal(jax.random.key(seed), (count, 3, 2, 2))


def test_times_fall_evenly_from_the_top():
    assert consistency.consistency_times(0.985, 1) == (0.985,)
    np.testing.assert_allclose(consistency.consistency_times(0.8, 4), (0.8, 0.6, 0.4, 0.2))
    with pytest.raises(ValueError, match="0 consistency steps"):
        consistency.consistency_times(1.0, 0)


@pytest.mark.parametrize(("times", "told"), [((0.5,), "start at the top, 0.985"), ((), "start at the top")])
def test_a_schedule_that_does_not_start_at_the_top_is_refused(times, told):
    with pytest.raises(ValueError, match=told):
        consistency.check_consistency_times(times, 0.985)


@pytest.mark.parametrize("times", [(0.985, 0.985), (0.985, 0.4, 0.6), (0.985, 0.0)])
def test_a_schedule_that_does_not_fall_is_refused(times):
    with pytest.raises(ValueError, match="fall at every step"):
        consistency.check_consistency_times(times, 0.985)


def test_the_parts_double_at_even_intervals_and_stop_at_the_last():
    parts = [int(consistency.discretisation(jnp.int32(step), 400, 8, 64)) for step in (0, 99, 100, 200, 300, 399, 999)]
    assert parts == [8, 8, 16, 32, 64, 64, 64]
    assert int(consistency.discretisation(jnp.int32(5), 10, 6, 6)) == 6


def test_neighbours_lie_one_part_apart_and_cover_all_of_them():
    t, s = consistency.adjacent_times(KEY, 64, jnp.int32(8), 0.8)
    np.testing.assert_allclose(t - s, 0.1, atol=1e-6)
    assert sorted({round(float(time), 4) for time in s}) == [round(0.1 * i, 4) for i in range(8)]
    assert float(s.min()) == 0.0
    np.testing.assert_allclose(t.max(), 0.8, rtol=1e-6)


def test_a_step_with_the_true_image_keeps_the_noise():
    x0, eps = images(0), images(1)
    t, s = jnp.array([0.9, 0.7, 0.5, 0.3]), jnp.array([0.8, 0.4, 0.0, 0.1])

    def noised(time):
        return SCHEDULE.alpha(time)[:, None, None, None] * x0 + SCHEDULE.sigma(time)[:, None, None, None] * eps

    found = steps.ddim_to(SCHEDULE, noised(t), x0, t, s)
    np.testing.assert_allclose(found, noised(s), atol=1e-5)
    np.testing.assert_allclose(found[2], x0[2], atol=1e-6)


def test_pseudo_huber_is_smooth_at_zero_and_the_distance_far_off():
    a = jnp.zeros((3, 2, 2, 1))
    b = jnp.stack([jnp.zeros((2, 2, 1)), jnp.full((2, 2, 1), 1e-4), jnp.full((2, 2, 1), -3.0)])
    found = consistency.pseudo_huber(a, b, c=0.01)
    np.testing.assert_allclose(found, [0.0, 1e-8 / 0.02, 3.0 - 0.01], rtol=1e-2, atol=1e-12)
    slope = jax.grad(lambda x: consistency.pseudo_huber(a + x, a).sum())(0.0)
    assert float(slope) == 0.0


@pytest.mark.parametrize("name", prediction.CONSISTENT_PREDICTIONS)
def test_a_consistency_model_gives_back_what_it_is_given_at_time_zero(name):
    x = images(4)
    denoise = prediction.denoiser(lambda x_t, t: 100 * x_t + 7, SCHEDULE, name)
    np.testing.assert_allclose(denoise(x, jnp.zeros(4)), x, atol=1e-5)


def test_the_sampler_noises_each_estimate_afresh_to_the_next_time():
    seen = []

    def denoise(x_t, t):
        seen.append((x_t, t))
        return jnp.full_like(x_t, 0.5)

    keys = jax.random.split(KEY, 4)
    state = samplers.initial_state(images(5))
    t, s = jnp.float32(0.9), jnp.float32(0.4)
    after = samplers.consistency(denoise, SCHEDULE, state, t, t, s, keys)
    fresh = samplers.noise(keys, (3, 2, 2))
    np.testing.assert_allclose(after.x, SCHEDULE.alpha(s) * 0.5 + SCHEDULE.sigma(s) * fresh, atol=1e-6)
    np.testing.assert_array_equal(seen[0][0], state.x)
    last = samplers.consistency(denoise, SCHEDULE, after, t, s, jnp.float32(0.0), keys)
    np.testing.assert_allclose(last.x, 0.5, atol=1e-6)


def test_temperature_multiplies_the_fresh_noise():
    keys, t, s = jax.random.split(KEY, 4), jnp.float32(0.9), jnp.float32(0.4)
    state = samplers.initial_state(images(5))

    def after(temperature):
        denoise = lambda x_t, t: jnp.zeros_like(x_t)  # noqa: E731
        return samplers.consistency(denoise, SCHEDULE, state, t, t, s, keys, temperature).x

    np.testing.assert_allclose(after(0.5), 0.5 * after(1.0), atol=1e-6)
    np.testing.assert_array_equal(after(0.0), 0.0)


def test_clamping_keeps_every_estimate_within_the_pixels_range():
    x = 5 * images(6)
    free, kept = (
        prediction.denoiser(lambda x_t, t: 3 * x_t, SCHEDULE, "x0_skip", clamp=clamp)(x, jnp.full(4, 0.5))
        for clamp in (False, True)
    )
    np.testing.assert_allclose(kept, np.clip(free, -1, 1))
    assert np.abs(free).max() > 1
