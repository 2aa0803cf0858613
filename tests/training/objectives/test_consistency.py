"""The objective of consistency models against closed forms, with functions in place of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import schedules
from dalle3_jax.training.objectives.consistency import consistency_loss
from dalle3_jax.training.tasks import Task

KEY = jax.random.key(1)
SCHEDULE = schedules.Cosine()
X0 = jax.random.normal(jax.random.key(2), (8, 4, 4, 2))
SETTINGS = {"schedule": SCHEDULE, "predict": "v", "top": 0.9, "parts": (4, 16), "steps": 100}


def columns(rows):
    return rows[:, None, None, None]


def knowing(params, x_t, t):
    """The v of a denoiser that sees X0 scaled by its parameter at whatever time."""
    t = t / 1000
    alpha, sigma = columns(SCHEDULE.alpha(t)), columns(SCHEDULE.sigma(t))
    return (alpha * x_t - params["w"] * X0) / jnp.maximum(sigma, 1e-6)


def loss(student, target, *, network=knowing, teacher=None, step=0, null=None, **changes):
    frozen = {"run": {"ema": {"unet": {"w": target}}, "step": jnp.int32(step)}}
    if teacher is not None:
        frozen["teacher"] = {"w": teacher}
    loss_fn = consistency_loss(
        lambda weights, batch, key: Task(X0, network, null),
        "unet",
        **{**SETTINGS, "teacher": teacher is not None, **changes},
    )
    return loss_fn({"unet": {"w": student}}, frozen, {}, KEY)


def test_a_student_that_agrees_with_its_average_has_no_loss_but_where_the_data_is_the_target():
    value, metrics = loss(1.0, 1.0)
    np.testing.assert_allclose(value, 0.0, atol=1e-4)
    assert float(metrics["parts"]) == 4.0


def test_the_target_is_the_average_not_the_student():
    value, _ = loss(1.0, 1.5)
    # The first of four parts has the clean image as its target, whoever looks at it.
    rms = np.sqrt(np.mean(np.square(X0), axis=(1, 2, 3)))
    assert float(value) > 0.3 * rms.mean()


def test_no_gradient_flows_into_the_target():
    gradient = jax.grad(lambda target: loss(1.0, target)[0])(1.5)
    assert float(gradient) == 0.0


def test_the_teacher_decides_where_the_step_leads():
    def passing(params, x_t, t):
        """v of a denoiser that takes x_t for the clean image, so that the loss shows where the target stands."""
        t = t / 1000
        return (columns(SCHEDULE.alpha(t)) * x_t - params["w"] * x_t) / jnp.maximum(columns(SCHEDULE.sigma(t)), 1e-6)

    own, other = (loss(1.0, 1.0, network=passing, teacher=teacher)[0] for teacher in (1.0, 3.0))
    assert abs(float(own) - float(other)) > 0.1


def test_guidance_moves_the_teacher_away_from_the_null_condition():
    def nothing(params, x_t, t):
        return knowing({"w": 0.0}, x_t, t)

    def seen(scale):
        found = []

        def network(params, x_t, t):
            found.append(x_t)
            return knowing(params, x_t, t)

        loss(1.0, 1.0, network=network, teacher=1.0, null=nothing, guidance_scale=scale)
        return found[1]  # what the average is shown

    alone, twice = seen(1.0), seen(2.0)
    # Teacher's image: X0 alone, 0 + 2 (X0 - 0) guided; what differs is alpha_s - sigma_s alpha_t / sigma_t times X0.
    ratio = np.asarray((twice - alone) / X0)
    assert np.allclose(ratio, ratio[:, :1, :1, :1], atol=2e-2)
    assert (ratio > 0).all()


def test_the_parts_follow_the_step():
    assert [float(loss(1.0, 1.0, step=step)[1]["parts"]) for step in (0, 34, 99)] == [4.0, 8.0, 16.0]


def test_a_prediction_without_the_boundary_condition_is_refused():
    with pytest.raises(ValueError, match="give back x at t = 0"):
        loss(1.0, 1.0, predict="eps")
