"""Samplers against the exact probability flow of a Gaussian, and the loop's promises: chunks, keys, ends."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.diffusion.spacing import Spacing, sampling_times

MEAN, DEVIATION = 0.7, 0.4
STEPS = 100
SCHEDULES = [Cosine(), ScaledLinear(), ScaledLinear(zero_terminal_snr=True)]
ENDS = [Cosine(), ScaledLinear(zero_terminal_snr=True)]  # some signal at the first time, and none


def gaussian(schedule):
    """The exact Denoise of independent pixels from N(MEAN, DEVIATION^2)."""

    def denoise(x_t, t):
        alpha, sigma = (f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
        return MEAN + alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2) * (x_t - alpha * MEAN)

    return denoise


def flow(schedule, x, t, s):
    """Where the exact probability flow carries x from t to s."""
    mean_t, mean_s = schedule.alpha(t) * MEAN, schedule.alpha(s) * MEAN
    deviation_t, deviation_s = (
        jnp.sqrt(schedule.alpha(time) ** 2 * DEVIATION**2 + schedule.sigma(time) ** 2) for time in (t, s)
    )
    return mean_s + deviation_s * (x - mean_t) / deviation_t


def initial_state(name, x):
    return samplers.initial_state(x, samplers.past_outputs(SAMPLERS[name]))


@functools.partial(jax.jit, static_argnums=(0, 1))
def advanced(name, schedule, state, times, keys, first, count):
    """Some steps on the Gaussian, as one program for any first and count."""
    return samplers.advance(SAMPLERS[name], gaussian(schedule), schedule, state, times, keys, first, count)


def start(images=2, seed=0):
    keys = jax.random.split(jax.random.key(seed), images)
    return samplers.noise(keys, (3, 4, 2)), keys


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpmsolver++", 2), ("unipc", 3), ("pndm", 2)])
@pytest.mark.parametrize("schedule", [Cosine(), ScaledLinear()], ids=str)
def test_error_falls_at_the_order_of_the_sampler(schedule, name, order):
    with jax.enable_x64(True):
        x, keys = start(1)
        x = x.astype(jnp.float64)
        first, last, errors = jnp.asarray(0.9), jnp.asarray(0.1), []
        for steps in (80, 160, 320):
            points = jnp.pad(jnp.linspace(first, last, steps + 1), (0, 320 - steps))
            x_s = advanced(name, schedule, initial_state(name, x), points, keys, 0, steps).x
            errors.append(float(jnp.abs(x_s - flow(schedule, x, first, last)).max()))
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(slopes, order, atol=0.3)


@pytest.mark.parametrize("name", ["ddim", "heun", "dpmsolver++", "unipc", "pndm"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("spacing", ["uniform", "logsnr", "karras"])
def test_the_whole_loop_reaches_the_exact_image(schedule, name, spacing):
    x, keys = start()
    points = sampling_times(schedule, STEPS, Spacing(spacing), name)
    x0 = advanced(name, schedule, initial_state(name, x), points, keys, 0, STEPS).x
    np.testing.assert_allclose(x0, flow(schedule, x, points[0], points[-1]), atol=0.08)


@pytest.mark.parametrize("name", ["ddpm", "dpmsolver++_sde"])
def test_ancestral_sampling_reaches_the_distribution(name):
    keys = jax.random.split(jax.random.key(1), 64)
    x, points = samplers.noise(keys, (8, 8, 4)), sampling_times(Cosine(), 300)
    x0 = samplers.sample(SAMPLERS[name], gaussian(Cosine()), Cosine(), x, points, keys)
    np.testing.assert_allclose([x0.mean(), x0.std()], [MEAN, DEVIATION], atol=0.015)


@pytest.mark.parametrize("name", ["euler", "euler_ancestral"])
def test_eulers_methods_are_those_of_k_diffusion(name):
    x, keys = start()
    t, s = jnp.asarray(0.7), jnp.asarray(0.4)
    schedule, fresh = ScaledLinear(), np.asarray(samplers.noise(keys, x.shape[1:]))
    step = SAMPLERS[name](gaussian(schedule), schedule, samplers.initial_state(x), t, t, s, keys)
    here, there = (float(schedule.sigma(time) / schedule.alpha(time)) for time in (t, s))
    y = np.asarray(x) / float(schedule.alpha(t))
    slope = (y - np.asarray(gaussian(schedule)(x, jnp.full(2, t)))) / here
    up = (there**2 * (here**2 - there**2) / here**2) ** 0.5 if name == "euler_ancestral" else 0.0
    down = (there**2 - up**2) ** 0.5
    expected = (y + slope * (down - here) + up * fresh) * float(schedule.alpha(s))
    np.testing.assert_allclose(step.x, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("zero_snr", "evaluated"), [(False, [1.0, 0.7, 0.7, 0.4, 0.4]), (True, [1.0, 0.7, 0.4, 0.4])], ids=str
)
def test_heun_evaluates_twice_but_into_the_clean_end_and_from_no_signal(zero_snr, evaluated):
    schedule = ScaledLinear(zero_terminal_snr=zero_snr)
    seen = []

    def spy(x_t, t):
        jax.debug.callback(lambda time: seen.append(float(time)), t[0])
        return gaussian(schedule)(x_t, t)

    x, keys = start()
    jax.jit(samplers.sample, static_argnums=(0, 1, 2))(
        SAMPLERS["heun"], spy, schedule, x, jnp.asarray([1.0, 0.7, 0.4, 0.0]), keys
    )
    jax.effects_barrier()
    np.testing.assert_allclose(sorted(seen, reverse=True), evaluated)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_fresh_noise_has_the_posterior_deviation_and_replaces_old_noise(eta):
    keys = jax.random.split(jax.random.key(2), 16)
    t, s = jnp.asarray(0.6), jnp.asarray(0.4)
    x = samplers.initial_state(jnp.ones((16, 16, 16, 4)))
    x_s = samplers.ddim(lambda x, t: jnp.zeros_like(x), Cosine(), x, t, t, s, keys, eta=eta).x
    alpha_t, sigma_t, alpha_s, sigma_s = (f(time) for time in (t, s) for f in (Cosine().alpha, Cosine().sigma))
    expected = eta * sigma_s / sigma_t * jnp.sqrt(1 - alpha_t**2 / alpha_s**2)
    np.testing.assert_allclose(x_s.std(), expected, rtol=0.02)
    np.testing.assert_allclose(x_s.mean(), jnp.sqrt(sigma_s**2 - expected**2) / sigma_t, atol=0.01)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", ENDS, ids=str)
def test_chunks_equal_the_whole_loop_bit_for_bit(schedule, name):
    x, keys = start()
    points = sampling_times(schedule, STEPS)
    whole = advanced(name, schedule, initial_state(name, x), points, keys, 0, STEPS)
    state, first = initial_state(name, x), 0
    for count in (1, 1, 30, 68):
        state = advanced(name, schedule, state, points, keys, first, count)
        first += count
    np.testing.assert_array_equal(state.x, whole.x)
    np.testing.assert_array_equal(state.x0, whole.x0)


def test_chunks_of_a_fixed_size_equal_the_whole_loop_bit_for_bit():
    # Sizes known to the compiler, as one that simplifies loops of one step would like them.
    x, keys = start()
    schedule = ScaledLinear(zero_terminal_snr=True)
    points = sampling_times(schedule, 4)
    fixed = jax.jit(
        lambda state, points, first, count: samplers.advance(
            SAMPLERS["ddpm"], gaussian(schedule), schedule, state, points, keys, first, count
        ),
        static_argnums=3,
    )
    state = samplers.initial_state(x)
    for first in range(4):
        state = fixed(state, points, first, 1)
    np.testing.assert_array_equal(state.x, fixed(samplers.initial_state(x), points, 0, 4).x)


def test_sample_is_advance_over_all_times():
    x, keys = start()
    points = sampling_times(Cosine(), STEPS)
    x0 = samplers.sample(SAMPLERS["ddpm"], gaussian(Cosine()), Cosine(), x, points, keys)
    expected = advanced("ddpm", Cosine(), samplers.initial_state(x), points, keys, 0, STEPS).x
    np.testing.assert_allclose(x0, expected, atol=1e-5)


def test_an_image_repeats_whatever_stands_beside_it():
    keys, others = jax.random.split(jax.random.key(3), 2), jax.random.split(jax.random.key(4), 2)
    points = sampling_times(Cosine(), STEPS)

    def run(keys):
        x = samplers.noise(keys, (3, 4, 2))
        return advanced("ddpm", Cosine(), samplers.initial_state(x), points, keys, 0, STEPS).x

    images = run(keys)
    np.testing.assert_array_equal(run(others.at[1].set(keys[1]))[1], images[1])
    np.testing.assert_array_equal(run(keys[::-1])[::-1], images)
    np.testing.assert_allclose(run(keys[1:2])[0], images[1], atol=1e-5)
    assert not np.allclose(images[0], images[1])


def test_every_step_has_fresh_noise():
    fresh = []

    def spy(denoise, schedule, state, t_prev, t, s, keys):
        fresh.append(samplers.noise(keys, (2, 2, 1)))
        return state

    x, keys = start()
    points = sampling_times(Cosine(), 3)
    with jax.disable_jit():
        samplers.advance(spy, gaussian(Cosine()), Cosine(), samplers.initial_state(x), points, keys, 0, 3)
    flat = np.stack(fresh).reshape(6, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(6)).max() < 0.999
    assert len(np.unique(flat.round(5))) == flat.size


def test_steps_see_their_own_times():
    seen = []

    def spy(denoise, schedule, state, t_prev, t, s, keys):
        seen.append((float(t_prev), float(t), float(s)))
        return state

    x, keys = start()
    points = jnp.asarray([1.0, 0.75, 0.5, 0.0])
    with jax.disable_jit():
        samplers.advance(spy, gaussian(Cosine()), Cosine(), samplers.initial_state(x), points, keys, 0, 3)
    assert seen == [(1.0, 1.0, 0.75), (1.0, 0.75, 0.5), (0.75, 0.5, 0.0)]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", ENDS, ids=str)
@pytest.mark.parametrize("steps", [1, 2])
def test_few_steps_are_finite_and_end_in_the_last_estimate(schedule, name, steps):
    x, keys = start()
    points = jnp.pad(sampling_times(schedule, steps), (0, STEPS - steps))
    state = advanced(name, schedule, initial_state(name, x), points, keys, 0, steps)
    assert jnp.isfinite(state.x).all()
    np.testing.assert_allclose(state.x, state.x0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_evaluates_between_the_times_of_its_steps_says_so(name):
    seen, points = set(), jnp.asarray([0.9, 0.7, 0.4, 0.1])

    def spy(x_t, t):
        jax.debug.callback(lambda time: seen.add(round(float(time), 6)), t[0])
        return x_t

    x, keys = start()
    state = initial_state(name, x)
    step = jax.jit(lambda state, i: samplers.advance(SAMPLERS[name], spy, Cosine(), state, points, keys, i, 1))
    for index in range(3):
        seen.clear()
        state = step(state, index)
        jax.effects_barrier()
        here, end = round(float(points[index]), 6), round(float(points[index + 1]), 6)
        assert seen
        assert all(end <= time <= here for time in seen)
        assert samplers.evaluates_between(name) or seen == {here}
        assert not samplers.evaluates_between(name) or index or len(seen) > 1
