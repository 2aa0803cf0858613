"""The continuous-time objective on Gaussian data, of which teacher and student are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from dalle3_jax.diffusion import samplers
from dalle3_jax.diffusion.prediction import x0_from_output
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear
from dalle3_jax.training.objectives.continuous_consistency import (
    continuous_consistency_loss,
    lognormal_times,
    normalise_tangent,
    time_rate,
)
from dalle3_jax.training.tasks import Task

KEY = jax.random.key(3)
STD = 0.6
SCHEDULES = (Cosine(), Cosine(time_scale=20.0), Cosine(shift=0.5), Cosine(steps=1000))
X0 = STD * jax.random.normal(jax.random.key(4), (64, 2, 2, 3))


def networks(schedule):
    """Both of data of std `w`: the "v" of the best denoiser, and that of the end of its path (`end` 1)."""

    def network(params, x_t, time):
        t = jnp.clip((time + 1) / 1000 if getattr(schedule, "steps", 0) else time / schedule.time_scale, 1e-4, 1)
        alpha, sigma = (rows[:, None, None, None] for rows in (schedule.alpha(t), schedule.sigma(t)))
        variance = alpha**2 * params["w"] ** 2 + sigma**2
        mean = alpha * params["w"] ** 2 / variance * x_t
        end = params["w"] / jnp.sqrt(variance) * x_t
        x0 = jnp.where(params["end"] > 0, end, mean)
        return (alpha * x_t - x0) / sigma

    return network


@functools.cache
def compiled(schedule, null, changes):
    loss_fn = continuous_consistency_loss(
        lambda weights, batch, key: Task(X0, networks(schedule), null),
        "unet",
        **{"schedule": schedule, "predict": "v", "warmup": 100, **dict(changes)},
    )
    return jax.jit(loss_fn)


def loss(schedule, student, teacher, *, step=10_000, null=None, **changes):
    frozen = {"run": {"step": jnp.int32(step)}, "teacher": teacher}
    return compiled(schedule, null, tuple(changes.items()))({"unet": student}, frozen, {}, KEY)


def weights(w, end):
    return {"w": jnp.float32(w), "end": jnp.float32(end)}


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_true_end_of_the_path_has_no_tangent(schedule):
    _, metrics = loss(schedule, weights(STD, 1), weights(STD, 0))
    assert float(metrics["tangent"]) < 2e-3
    for other in (weights(STD, 0), weights(0.7 * STD, 1)):
        assert float(loss(schedule, other, weights(STD, 0))[1]["tangent"]) > 0.02


def test_training_finds_the_end_of_the_teachers_path():
    gradient = jax.jit(jax.grad(lambda w: loss(Cosine(), weights(w, 1), weights(STD, 0))[0]))
    w = jnp.float32(1.0)
    for _ in range(40):
        w = w - 0.1 * gradient(w)
    np.testing.assert_allclose(w, STD, atol=0.02)


def test_without_the_grown_part_the_student_stays_at_its_teacher():
    same = weights(STD, 0)
    assert float(loss(Cosine(), same, same, step=0, warmup=10**9)[1]["tangent"]) < 1e-5
    grown = [float(loss(Cosine(), same, same, step=step)[1]["tangent"]) for step in (9, 49, 99, 999)]
    np.testing.assert_allclose(np.asarray(grown) / grown[-1], [0.1, 0.5, 1, 1], rtol=1e-3)


def test_guidance_moves_the_path():
    def null(params, x_t, time):
        return networks(Cosine())(params, x_t, time) + 1.0

    one, same, more = (
        loss(Cosine(), weights(STD, 1), weights(STD, 0), null=null, guidance_scales=(scale, scale))[1]["tangent"]
        for scale in (1.0, 1.0, 2.0)
    )
    assert float(one) == float(same) < 2e-3
    assert float(more) > 0.05


def test_scales_that_a_student_cannot_read_are_refused():
    with pytest.raises(ValueError, match="scales from 1 to 3 for a student that is not told which"):
        loss(Cosine(), weights(1, 1), weights(1, 0), guidance_scales=(1.0, 3.0))


SPREAD, NULL_STD, HIDDEN = 0.15, 0.8, 64
MIXED = Cosine(time_scale=1.0)


def denoise_mixture(x_t, t):
    """The mean of x0 where it is -1 or 1, give or take SPREAD."""
    alpha, sigma = (rows[:, None, None, None] for rows in (MIXED.alpha(t), MIXED.sigma(t)))
    variance = (alpha * SPREAD) ** 2 + sigma**2
    side = jnp.tanh(alpha * x_t / variance)
    return side + alpha * SPREAD**2 / variance * (x_t - alpha * side)


def denoise_null(x_t, t):
    alpha, sigma = (rows[:, None, None, None] for rows in (MIXED.alpha(t), MIXED.sigma(t)))
    return alpha * NULL_STD**2 / ((alpha * NULL_STD) ** 2 + sigma**2) * x_t


def v_of(denoise, x_t, t):
    alpha, sigma = (rows[:, None, None, None] for rows in (MIXED.alpha(t), MIXED.sigma(t)))
    return (alpha * x_t - denoise(x_t, t)) / sigma


def mixture_student(params, x_t, t, scale=None):
    """The teacher's v and, of a student, what a small network of x, time and guidance scale adds to it."""
    teacher = v_of(denoise_mixture, x_t, t)
    if scale is None:
        return teacher
    rows = jnp.stack([x_t.reshape(-1), *(f(jnp.pi * t / 2) for f in (jnp.sin, jnp.cos)), scale - 2], axis=-1)
    hidden = jnp.tanh(jnp.tanh(rows @ params["a"] + params["b"]) @ params["c"] + params["d"])
    return teacher + (hidden @ params["e"]).reshape(x_t.shape)


def test_a_student_samples_in_one_and_two_steps_what_its_guided_teacher_does_in_many():
    draw = np.random.default_rng(0).normal
    shapes = {"a": (4, HIDDEN), "b": (HIDDEN,), "c": (HIDDEN, HIDDEN), "d": (HIDDEN,), "e": (HIDDEN, 1)}
    params = {k: jnp.asarray(draw(size=s) / np.sqrt(s[0]) * (k != "e"), jnp.float32) for k, s in shapes.items()}
    adam = optax.adam(optax.cosine_decay_schedule(3e-3, 2_500))

    def make_task(weights, batch, key):
        side_key, noise_key = jax.random.split(key)
        side = jnp.where(jax.random.bernoulli(side_key, 0.5, (256, 1, 1, 1)), 1.0, -1.0)
        x0 = side + SPREAD * jax.random.normal(noise_key, side.shape)
        return Task(x0, mixture_student, lambda params, x_t, t: v_of(denoise_null, x_t, t))

    loss_fn = continuous_consistency_loss(
        make_task, "unet", schedule=MIXED, predict="v", guidance_scales=(1.0, 3.0), reads_scale=True, warmup=500
    )

    def step(carry, index):
        params, moments = carry
        frozen = {"teacher": params, "run": {"step": index}}
        gradient = jax.grad(lambda p: loss_fn({"unet": p}, frozen, {}, jax.random.fold_in(KEY, index))[0])(params)
        change, moments = adam.update(gradient, moments)
        return (optax.apply_updates(params, change), moments), None

    @jax.jit
    def train(params):
        return jax.lax.scan(step, (params, adam.init(params)), jnp.arange(2_500))[0][0]

    @functools.partial(jax.jit, static_argnums=(2, 3))
    def sample(params, scale, sampler, steps):
        keys = jax.random.split(jax.random.key(9), 512)
        x = samplers.noise(keys, (1, 1, 1))

        def denoise(x_t, t):
            if sampler == "consistency":
                output = mixture_student(params, x_t, t, jnp.full(len(x_t), scale))
                return x0_from_output("v", output, x_t, MIXED.alpha(t), MIXED.sigma(t))
            null = denoise_null(x_t, t)
            return null + scale * (denoise_mixture(x_t, t) - null)

        times = jnp.linspace(0.999, 0.0, steps + 1)
        return samplers.sample(samplers.SAMPLERS[sampler], denoise, MIXED, x, times, keys)[:, 0, 0, 0]

    trained = train(params)
    for scale in (1.0, 2.5):
        exact, blurred = sample(trained, scale, "ddim", 200), sample(trained, scale, "ddim", 2)
        one, two = (sample(trained, scale, "consistency", steps) for steps in (1, 2))
        assert jnp.mean(jnp.abs(one - exact)) < 0.4 * jnp.mean(jnp.abs(blurred - exact))  # image by image
        far, near = (jnp.mean(jnp.abs(jnp.sort(x) - jnp.sort(exact))) for x in (blurred, two))
        assert near < 0.4 * far  # as a distribution: the second step has noise of its own

    def apart(sampler, steps):
        return jnp.mean(jnp.abs(sample(trained, 2.5, sampler, steps) - sample(trained, 1.0, sampler, steps)))

    assert 0.5 < apart("consistency", 1) / apart("ddim", 200) < 2  # the scale is read


def test_no_gradient_reaches_teacher_or_target():
    def of_teacher(w):
        return loss(Cosine(), weights(0.5, 1), weights(w, 0))[0]

    # The loss is the squared norm of a bounded tangent whoever the teacher is; the student's gradient is along it.
    student = jax.grad(lambda w: loss(Cosine(), weights(w, 1), weights(STD, 0))[0])
    assert float(student(jnp.float32(0.9))) > 0 > float(student(jnp.float32(0.3)))
    assert np.isfinite(float(jax.grad(of_teacher)(jnp.float32(STD))))


@pytest.mark.parametrize("schedule", [Cosine(), ScaledLinear()], ids=str)
def test_times_are_lognormal_and_cover_every_stratum(schedule):
    def times_and_logsnr():
        t = lognormal_times(KEY, 4_000, schedule, 0.2, 1.1)
        return t, schedule.logsnr(t)

    t, logsnr = jax.jit(times_and_logsnr)()
    middle = np.sort(np.asarray(-logsnr / 2))[400:-400]
    np.testing.assert_allclose(np.median(middle), 0.2, atol=0.01)
    np.testing.assert_allclose(middle[[0, -1]], [0.2 - 1.1 * 1.2816, 0.2 + 1.1 * 1.2816], atol=0.02)
    assert (np.diff(np.asarray(t)) >= 0).all()


def test_tangents_of_any_size_become_one_of_at_most_one():
    tangent = jax.random.normal(KEY, (2, 4, 4, 3)) * jnp.asarray([1e6, 1e-3])[:, None, None, None]
    large, small = np.sqrt(np.mean(np.square(normalise_tangent(tangent)), axis=(1, 2, 3)))
    np.testing.assert_allclose(large, 1, rtol=1e-4)
    assert 0.005 < small < 0.02


@pytest.mark.parametrize(
    "schedule", [Cosine(s=0.0), Cosine(time_scale=20.0), Cosine(shift=0.3), ScaledLinear()], ids=str
)
def test_the_rate_of_the_networks_time_is_its_difference_quotient(schedule):
    t = jnp.asarray([0.2013, 0.5018, 0.9013])
    near = jnp.asarray([0.2011, 0.2015]), jnp.asarray([0.5016, 0.5020]), jnp.asarray([0.9011, 0.9015])
    for rate, pair in zip(time_rate(schedule, t), near, strict=True):
        turned = np.diff(np.arctan2(np.float64(schedule.sigma(pair)), np.float64(schedule.alpha(pair))))[0]
        np.testing.assert_allclose(rate, np.diff(np.float64(schedule.network_time(pair)))[0] / turned, rtol=0.02)


def test_other_predictions_are_refused():
    with pytest.raises(ValueError, match="predicts \"v\", not 'eps'"):
        loss(Cosine(), weights(1, 1), weights(1, 0), predict="eps")
