"""PNDM against the sums that diffusers publishes for its PNDMScheduler, and what it promises beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.prediction import denoiser
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.diffusion.spacing import Spacing, sampling_times
from tests.diffusion.test_samplers import gaussian, start

KEYS = jax.random.split(jax.random.key(0), 4)


def network(x, time):
    """The model of diffusers' own tests of schedulers."""
    time = time[:, None, None, None]
    return x * time / (time + 1)


def published_input():
    """Their sample: 4 images of 8 x 8 pixels in 3 channels, counted through."""
    values = np.arange(4 * 3 * 8 * 8, dtype=np.float32).reshape(3, 8, 8, 4) / (4 * 3 * 8 * 8)
    return jnp.asarray(values.transpose(3, 1, 2, 0))


@pytest.mark.parametrize(
    ("prediction", "beta_start", "clean", "total", "mean"),
    [
        ("eps", 0.0001, False, 198.1318, 0.2580),
        ("v", 0.0001, False, 67.3986, 0.0878),
        ("eps", 0.01, True, 230.0399, 0.2995),
        ("eps", 0.01, False, 186.9482, 0.2434),
    ],
)
def test_the_published_sums_of_whole_loops(prediction, beta_start, clean, total, mean):
    """Those of tests/schedulers/test_scheduler_pndm.py: 10 steps, of which three are of Runge and Kutta."""
    schedule = ScaledLinear(beta_start=beta_start, beta_end=0.02, power=1)
    times = sampling_times(schedule, 10, Spacing("leading", clean=clean), "pndm_prk")
    step = samplers.find_step("pndm_prk", prediction)
    x = samplers.sample(step, denoiser(network, schedule, prediction), schedule, published_input(), times, KEYS)
    assert abs(float(jnp.abs(x).sum()) - total) < 1e-2
    assert abs(float(jnp.abs(x).mean()) - mean) < 1e-3


@pytest.mark.parametrize(("name", "evaluations"), [("pndm", 5), ("pndm_prk", 10)])
def test_evaluations_of_a_loop_of_four_steps(name, evaluations):
    """One a step, one more in the first; or four in each of the first three but for the clean end."""
    times, seen = jnp.linspace(1.0, 0.0, 5), []

    def spy(x, t):
        jax.debug.callback(lambda t: seen.append(float(t[0])), t)
        return x / 2

    x, keys = start()
    samplers.sample(samplers.SAMPLERS[name], spy, Cosine(), x, times, keys).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == evaluations + 3 * (name == "pndm_prk")


def test_v_and_eps_are_combined_as_other_numbers():
    schedule, (x, keys) = ScaledLinear(), start()
    times = sampling_times(schedule, 6, Spacing("leading", offset=1, clean=False), "pndm")
    ours = [
        samplers.sample(samplers.find_step("pndm", kind), gaussian(schedule), schedule, x, times, keys)
        for kind in ("eps", "v", "x0")
    ]
    assert jnp.abs(ours[0] - ours[1]).max() > 1e-4
    np.testing.assert_array_equal(ours[0], ours[2])
    assert samplers.find_step("ddim", "v") is samplers.SAMPLERS["ddim"]
