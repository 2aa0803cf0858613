"""JAX's own switches change no sample and no loss: 64 bits, and promotion of ranks and of types that is an error."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import guidance, samplers
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.diffusion.spacing import SPACINGS, Spacing, initial_noise_std, sampling_times
from dalle3_jax.training.objectives import diffusion as objective
from tests.models.test_axes import NETWORKS

SCHEDULES = {"cosine": Cosine(shift=0.5), "table": ScaledLinear(steps=100)}
STEPS = ("ddim", "ddpm", "heun", "dpmsolver++", "dpmsolver++_sde", "unipc", "consistency")


@contextlib.contextmanager
def strict():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def sample(name, schedule):
    """Two guided steps of a sampler from noise of its own."""
    keys = jax.vmap(jax.random.key)(np.arange(2, dtype=np.uint32))
    both = guidance.classifier_free(lambda x, t: 0.5 * x - 0.1 * t[:, None, None, None], 2.0, schedule, (0.1, 0.9), 0.7)
    times = sampling_times(schedule, 2, sampler=name)
    x = samplers.noise(keys, (2, 3, 1))
    return samplers.sample(samplers.SAMPLERS[name], both, schedule, x, times, keys)


@functools.cache
def plain_sample(name, kind):
    return np.asarray(sample(name, SCHEDULES[kind]))


# All samplers on one schedule, and one of them on the other: what differs there is the schedule's own functions.
@pytest.mark.parametrize(("name", "kind"), [*((name, "table") for name in STEPS), ("ddpm", "cosine")])
def test_64_bits_draw_the_same_samples(name, kind):
    with jax.enable_x64(True):
        wide = sample(name, SCHEDULES[kind])
    assert wide.dtype == jnp.float32
    np.testing.assert_allclose(wide, plain_sample(name, kind), atol=1e-5)


@pytest.mark.parametrize("name", STEPS)
def test_samplers_promote_neither_ranks_nor_types(name):
    with strict():
        np.testing.assert_array_equal(sample(name, SCHEDULES["table"]), plain_sample(name, "table"))


@pytest.mark.parametrize("kind", SPACINGS)
@pytest.mark.parametrize("switch", [lambda: jax.enable_x64(True), strict])
def test_times_and_schedules_are_of_32_bits_whatever_is_switched(kind, switch):
    for schedule in SCHEDULES.values():
        usual = sampling_times(schedule, 4, Spacing(kind), "euler")
        with switch():
            times = sampling_times(schedule, 4, Spacing(kind), "euler")
            assert times.dtype == jnp.float32
            np.testing.assert_allclose(times, usual, atol=1e-6)
            assert schedule.t_of_logsnr(schedule.logsnr(times[1:3])).dtype == jnp.float32
            assert jnp.asarray(initial_noise_std(schedule, 4, Spacing(kind), "euler"), jnp.float32) > 0


def test_64_bits_draw_the_same_times_and_noise_of_training():
    key = jax.random.key(3)
    usual = objective.stratified_times(key, 8)
    with jax.enable_x64(True):
        wide = objective.stratified_times(key, 8)
    assert wide.dtype == usual.dtype == jnp.float32
    np.testing.assert_allclose(wide, usual, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_promote_no_ranks(name):
    module, arguments = NETWORKS[name]
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(module.init, jax.random.key(0), *arguments)


def test_a_pipeline_promotes_no_ranks_and_draws_the_same_in_64_bits(pipeline):
    request = pipeline.request("a cat", seed=1, steps=1)

    def latents():
        condition = pipeline.encode(["a cat"])
        return pipeline.sample_latents(condition, condition, [request])

    usual = latents()
    with jax.enable_x64(True):
        wide = latents()
    np.testing.assert_allclose(wide, usual, atol=1e-4 * float(jnp.std(usual)))
    with jax.numpy_rank_promotion("raise"):
        pipeline.codec.decode(latents())
