"""Inversion on Gaussian data, where the path is known, and on data whose paths bend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.inversion import invert
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.diffusion.spacing import sampling_times

STD = 0.5
IMAGES = STD * jax.random.normal(jax.random.key(0), (3, 4, 4, 2))


def gaussian(schedule):
    def denoise(x_t, t):
        alpha, sigma = (rows[:, None, None, None] for rows in (schedule.alpha(t), schedule.sigma(t)))
        return alpha * STD**2 / (alpha**2 * STD**2 + sigma**2) * x_t

    return denoise


def two_humps(x_t, t):
    """The best denoiser of values near -0.6 and 0.6, with a std of 0.2 about them: its paths bend."""
    alpha, sigma = (rows[:, None, None, None] for rows in (Cosine().alpha(t), Cosine().sigma(t)))
    variance = (0.2 * alpha) ** 2 + sigma**2
    return (0.04 * alpha * x_t + sigma**2 * 0.6 * jnp.tanh(0.6 * alpha * x_t / variance)) / variance


def round_trip(denoise, schedule, steps, corrections):
    times = sampling_times(schedule, steps)
    noise = invert(denoise, schedule, IMAGES, times, corrections)
    keys = jax.random.split(jax.random.key(1), len(IMAGES))
    return noise, samplers.sample(samplers.SAMPLERS["ddim"], denoise, schedule, noise, times, keys)


def error(images):
    return float(jnp.sqrt(jnp.mean(jnp.square(images - IMAGES))))


@pytest.mark.parametrize("schedule", [Cosine(), ScaledLinear()], ids=str)
def test_the_noise_is_that_of_the_exact_path(schedule):
    noise, back = jax.jit(lambda: round_trip(gaussian(schedule), schedule, 200, 2))()
    last = np.sqrt(float(schedule.alpha(jnp.float32(1))) ** 2 * STD**2 + float(schedule.sigma(jnp.float32(1))) ** 2)
    np.testing.assert_allclose(noise, last / STD * IMAGES, rtol=0.03, atol=0.02)
    assert error(back) < 1e-3


def test_corrections_make_the_round_trip_exact():
    errors = [error(jax.jit(lambda n=n: round_trip(two_humps, Cosine(), 50, n)[1])()) for n in (0, 2, 8)]
    assert errors[0] > 1e-2
    assert errors[1] < errors[0] / 8
    assert errors[2] < 3e-4


def test_more_steps_make_it_better():
    few, many = (error(jax.jit(lambda n=n: round_trip(two_humps, Cosine(), n, 0)[1])()) for n in (20, 80))
    assert many < few / 3
