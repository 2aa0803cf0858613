"""Schedules against their formulas in numpy float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import schedules
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear

SCHEDULES = [
    Cosine(),
    Cosine().shifted(64 / 256),
    ScaledLinear(),
    ScaledLinear(zero_terminal_snr=True),
    ScaledLinear().shifted(0.5),
]
TIMES = np.linspace(0, 1, 1001)
INSIDE = jnp.asarray(TIMES[1:-1])


def cosine_alpha_bar(t):
    return np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2


def stable_diffusion_alpha_bar():
    return np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_variance_is_preserved(schedule):
    t = jnp.asarray(TIMES)
    np.testing.assert_allclose(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, 1, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_noise_grows_from_none_at_0_to_nearly_all_at_1(schedule):
    t = jnp.asarray(TIMES)
    assert (schedule.alpha(t)[0], schedule.sigma(t)[0]) == (1, 0)
    assert schedule.alpha(t)[-1] < 0.07
    assert schedule.sigma(t)[-1] > 0.99
    assert np.all(np.diff(schedule.logsnr(t)) < 0)
    assert np.all(np.isfinite(schedule.logsnr(t)[1:]))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_logsnr_is_that_of_alpha_and_sigma(schedule):
    alpha, sigma = schedule.alpha(INSIDE), schedule.sigma(INSIDE)
    np.testing.assert_allclose(schedule.logsnr(INSIDE), np.log(alpha**2 / sigma**2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_t_of_logsnr_is_the_inverse(schedule):
    np.testing.assert_allclose(schedule.t_of_logsnr(schedule.logsnr(INSIDE)), INSIDE, atol=2e-6)
    np.testing.assert_array_equal(schedule.t_of_logsnr(jnp.asarray([jnp.inf, -jnp.inf])), [0, 1])


def test_cosine_follows_its_formula_with_all_digits_at_both_ends():
    t = np.float64(np.float32([1e-5, 1e-3, 0.1, 0.5, 0.9, 0.999]))
    now = jnp.asarray(t)
    np.testing.assert_allclose(Cosine().alpha(now), np.sqrt(cosine_alpha_bar(t)), rtol=3e-5)
    np.testing.assert_allclose(Cosine().sigma(now), np.sqrt(1 - cosine_alpha_bar(t)), rtol=1e-6)


def test_cosine_ends_where_beta_below_0_999_ends():
    expected = np.log(0.001 * cosine_alpha_bar(0.999))
    np.testing.assert_allclose(Cosine().logsnr(jnp.asarray(1.0)), expected, atol=1e-3)


def test_scaled_linear_meets_its_table():
    t = (jnp.arange(1000) + 1) / 1000
    np.testing.assert_allclose(ScaledLinear().alpha(t) ** 2, stable_diffusion_alpha_bar(), rtol=1e-5)
    np.testing.assert_allclose(ScaledLinear().sigma(t) ** 2, 1 - stable_diffusion_alpha_bar(), rtol=1e-5)


def test_network_time_is_the_index_exactly():
    t = jnp.asarray(TIMES)
    np.testing.assert_array_equal(ScaledLinear().network_time(t), np.maximum(np.arange(-1, 1000), 0))
    np.testing.assert_array_equal(ScaledLinear().network_time(t[::-1]), np.maximum(np.arange(999, -2, -1), 0))
    np.testing.assert_allclose(ScaledLinear().network_time(jnp.asarray([0.4005])), 399.5, rtol=1e-6)
    np.testing.assert_allclose(Cosine().network_time(t), 1000 * TIMES, rtol=1e-6)
    places = (jnp.arange(1024) + 1) / 1024
    np.testing.assert_array_equal(Cosine(steps=1024).network_time(places), np.arange(1024))


def test_zero_terminal_snr_keeps_the_first_entry_and_empties_the_last():
    plain = np.sqrt(stable_diffusion_alpha_bar())
    expected = (plain - plain[-1]) * plain[0] / (plain[0] - plain[-1])
    schedule, t = ScaledLinear(zero_terminal_snr=True), (jnp.arange(1000) + 1) / 1000
    np.testing.assert_allclose(schedule.alpha(t), expected, rtol=1e-4, atol=1e-7)
    assert (schedule.alpha(t)[-1], schedule.sigma(t)[-1]) == (0, 1)
    np.testing.assert_allclose(schedule.logsnr(t)[-1], np.log(2.0**-24), rtol=1e-6)


@pytest.mark.parametrize("schedule", [Cosine(), ScaledLinear()], ids=str)
def test_shift_adds_twice_its_logarithm_to_logsnr(schedule):
    once, twice = schedule.shifted(64 / 256), schedule.shifted(0.5).shifted(0.5)
    np.testing.assert_allclose(once.logsnr(INSIDE) - schedule.logsnr(INSIDE), 2 * np.log(1 / 4), atol=1e-5)
    assert once == twice


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_every_shape_of_t_and_jit_agree(schedule):
    t = jnp.asarray([[0.0, 0.3], [0.7, 1.0]])

    def everything(t):
        return [function(t) for function in (schedule.alpha, schedule.sigma, schedule.logsnr, schedule.network_time)]

    for compiled, eager, one in zip(jax.jit(everything)(t), everything(t), everything(t[1, 0]), strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(eager[1, 0], one, rtol=2e-6, atol=1e-6)


def test_build_makes_what_a_release_names():
    assert schedules.build_schedule({"name": "cosine"}) == Cosine()
    assert schedules.build_schedule({"name": "scaled_linear", "beta_end": 0.02}) == ScaledLinear(beta_end=0.02)
    assert hash(ScaledLinear(beta_end=0.02)) == hash(
        schedules.build_schedule({"name": "scaled_linear", "beta_end": 0.02})
    )


def test_build_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"'linear'.*cosine, scaled_linear"):
        schedules.build_schedule({"name": "linear"})
    with pytest.raises(ValueError, match=r"beta_begin, betas.*beta_start, beta_end"):
        schedules.build_schedule({"name": "scaled_linear", "betas": 1, "beta_begin": 0.1})


def test_a_cosine_schedule_tells_networks_times_of_its_scale():
    np.testing.assert_array_equal(Cosine().network_time(INSIDE), 1000 * INSIDE)
    np.testing.assert_allclose(Cosine(time_scale=20.0).network_time(INSIDE), 20 * INSIDE, rtol=1e-6)
    rates = [schedule.network_rate() for schedule in (Cosine(), Cosine(time_scale=20.0), Cosine(steps=50))]
    assert rates == [1000.0, 20.0, 50.0]
