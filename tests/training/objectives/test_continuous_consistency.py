"""The continuous-time objective on Gaussian data, of which teacher and student are known in closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
        loss(Cosine(), weights(STD, 1), weights(STD, 0), null=null, guidance_scale=scale)[1]["tangent"]
        for scale in (1.0, 1.0, 2.0)
    )
    assert float(one) == float(same) < 2e-3
    assert float(more) > 0.05


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
