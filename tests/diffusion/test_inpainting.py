"""Inpainting with every sampler, and the index rule of image to image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.inpainting import inpaint
from dalle3_jax.diffusion.schedules import Cosine
from dalle3_jax.diffusion.spacing import sampling_times
from dalle3_jax.diffusion.strength import steps_of_strength

SCHEDULE = Cosine()
ORIGINAL = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
NOISE = jax.random.normal(jax.random.key(1), ORIGINAL.shape)
MASK = jnp.zeros((2, 4, 6, 1)).at[0, :, 3:].set(1.0).at[1, 1:3, 1:3].set(0.5)
KEYS = jax.random.split(jax.random.key(2), 2)


def painter(x_t, t):
    """A model that draws 5 wherever it may, whatever it sees."""
    return jnp.full_like(x_t, 5.0)


def drawn(sampler, denoise, steps=6):
    times = sampling_times(SCHEDULE, steps)
    return samplers.sample(samplers.SAMPLERS[sampler], denoise, SCHEDULE, NOISE, times, KEYS)


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_the_original_stays_outside_the_mask_and_the_model_draws_inside(sampler):
    result = jax.jit(lambda: drawn(sampler, inpaint(painter, SCHEDULE, ORIGINAL, MASK, NOISE)))()
    np.testing.assert_allclose(result, jnp.where(MASK > 0, MASK * 5 + (1 - MASK) * ORIGINAL, ORIGINAL), atol=2e-5)


def test_the_model_sees_the_original_at_the_time_it_is_asked_about():
    seen = []

    def watching(x_t, t):
        seen.append((x_t, t))
        return x_t

    x_t, t = jnp.full_like(ORIGINAL, 9.0), jnp.asarray([0.3, 0.8])
    inpaint(watching, SCHEDULE, ORIGINAL, MASK, NOISE)(x_t, t)
    [(shown, asked)] = seen
    alpha, sigma = (rows[:, None, None, None] for rows in (SCHEDULE.alpha(t), SCHEDULE.sigma(t)))
    np.testing.assert_array_equal(asked, t)
    np.testing.assert_allclose(shown, MASK * 9 + (1 - MASK) * (alpha * ORIGINAL + sigma * NOISE), rtol=1e-5)


def test_a_full_mask_is_the_model_alone():
    whole = jax.jit(
        lambda: drawn("ddim", inpaint(lambda x, t: jnp.tanh(x), SCHEDULE, ORIGINAL, jnp.ones_like(MASK), NOISE))
    )()
    np.testing.assert_allclose(whole, jax.jit(lambda: drawn("ddim", lambda x, t: jnp.tanh(x)))(), atol=1e-6)


def test_strength_takes_the_steps_that_diffusers_takes():
    taken = [steps_of_strength(steps, strength) for steps, strength in ((50, 0.8), (50, 1.0), (30, 0.05), (4, 0.3))]
    assert taken == [40, 50, 1, 1]


@pytest.mark.parametrize(
    ("strength", "said"), [(0.0, "nothing changes"), (1.01, "nothing is kept"), (0.05, "at least 0.1")]
)
def test_strengths_that_do_nothing_are_refused(strength, said):
    with pytest.raises(ValueError, match=said):
        steps_of_strength(10, strength)
