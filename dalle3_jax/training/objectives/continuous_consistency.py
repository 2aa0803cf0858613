"""Continuous-time consistency distillation (sCM, arXiv 2410.11081): the student's tangent along the teacher's path.

A variance-preserving schedule is TrigFlow up to the name of its time: with the angle theta = atan2(sigma, alpha),
x = cos(theta) x0 + sin(theta) eps, and the teacher's velocity dx/dtheta is the "v" that it predicts. The student's
f(x, theta) = cos(theta) x - sin(theta) F(x, theta) is the x0 of its own "v", which is x at theta = 0.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.nn.attention import plain_attention
from dalle3_jax.training.objectives.diffusion import by_quarter
from dalle3_jax.training.tasks import MakeTask, Network
from dalle3_jax.typing import Array, Float, Key, LossFn, Params

__all__ = ["continuous_consistency_loss", "lognormal_times", "normalise_tangent"]

Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]

LAST_TIME = 0.9999
"""Beyond it the angle of a cosine schedule stands still, and its inverse has no derivative."""


def lognormal_times(key: Key, count: int, schedule: Schedule, mean: float, std: float) -> Rows:
    """Times of `count` images at which log(sigma / alpha) is normal, one in each of `count` equal strata of its
    distribution (arXiv 2410.11081 section 4.1)."""
    uniform = (
        jnp.arange(count) + jax.random.uniform(key, (count,), jnp.float32, minval=1e-3, maxval=1.0 - 1e-3)
    ) / count
    return jnp.minimum(schedule.t_of_logsnr(-2 * (mean + std * jax.scipy.special.ndtri(uniform))), LAST_TIME)


def normalise_tangent(tangent: Images, bound: float = 0.1) -> Images:
    """The tangent over its root mean square in an image plus `bound`, so that no image rules the batch (section 4.2).

    The paper divides by the norm; the root mean square is that of any number of values.
    """
    size = jnp.sqrt(jnp.mean(jnp.square(tangent), axis=(1, 2, 3), keepdims=True))
    return tangent / (size + bound)


def continuous_consistency_loss(
    make_task: MakeTask,
    component: str,
    *,
    schedule: Schedule,
    predict: str,
    guidance_scales: tuple[float, float] = (1.0, 1.0),
    reads_scale: bool = False,
    mean: float = 0.0,
    std: float = 1.6,
    warmup: int = 1_000,
) -> LossFn:
    """Squared distance of the student's F to itself moved along the tangent of its f on the teacher's path.

    arXiv 2410.11081 algorithm 1 with data of unit variance; its gradient is that of the continuous limit of
    consistency distillation. `frozen["teacher"]` gives the path, guided by a scale that is drawn for each image between
    the two of `guidance_scales`; a student that `reads_scale` is given it after the time. The part of the tangent that
    can be unstable grows from nothing over `warmup` steps (`frozen["run"]` holds the `step`). The tangent is the
    derivative of the student in x and in time, one `jax.jvp`, under which attention takes no fused kernel.

    Times are those of `lognormal_times`. The paper's adaptive weighting, by the variance of the loss at each time, is
    left out: with normalised tangents the loss is about 1 at every time, and the student of the tests, weighted by the
    variance within the batch, ended as near to its teacher at a scale of 1 and 2.8 times as far from it at 2.5.
    Raises ValueError for predictions other than "v", and for several scales that the student does not read.
    """
    lowest, highest = guidance_scales
    if predict != "v":
        raise ValueError(f'continuous-time consistency needs a model that predicts "v", not {predict!r}')
    if lowest != highest and not reads_scale:
        raise ValueError(
            f"guidance scales from {lowest:g} to {highest:g} for a student that is not told which: give its network "
            "guidance_width, or twice the same scale"
        )

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        time_key, noise_key, task_key, scale_key = jax.random.split(key, 4)
        task = make_task({**frozen, **params}, batch, task_key)
        x0 = task.x0
        t = lognormal_times(time_key, len(x0), schedule, mean, std)
        alpha, sigma = (rows[:, None, None, None] for rows in (schedule.alpha(t), schedule.sigma(t)))
        x_t = alpha * x0 + sigma * jax.random.normal(noise_key, x0.shape, x0.dtype)
        time = schedule.network_time(t)

        scale = jax.random.uniform(scale_key, (len(x0),), jnp.float32, lowest, highest)
        given = (scale,) if reads_scale else ()
        null = None if highest == lowest == 1 else task.null
        velocity = guided_velocity(task.network, null, frozen["teacher"], x_t, time, scale)
        grown = jnp.minimum(1.0, (frozen["run"]["step"] + 1) / max(warmup, 1))
        student = jax.lax.stop_gradient(params[component])
        with plain_attention():
            output, derivative = jax.jvp(
                lambda x, time: task.network(student, x, time, *given).astype(jnp.float32),
                (x_t, time),
                (alpha * sigma * velocity, schedule.alpha(t) * schedule.sigma(t) * time_rate(schedule, t)),
            )
        # cos(theta) df / dtheta; its first part keeps F near the teacher's, its second makes f the same along the path.
        tangent = -jnp.square(alpha) * (output - velocity) - grown * (alpha * sigma * x_t + derivative)
        target = jax.lax.stop_gradient(output + normalise_tangent(tangent))
        estimate = task.network(params[component], x_t, time, *given).astype(jnp.float32)
        loss = jnp.mean(jnp.square(estimate - target))
        error = jnp.mean(jnp.square(alpha * x_t - sigma * output - x0), axis=(1, 2, 3))
        size = jnp.sqrt(jnp.mean(jnp.square(tangent)))
        return loss, {"loss": loss, "tangent": size, **by_quarter(error, t)}

    return loss_fn


def guided_velocity(
    network: Network, null: Network | None, teacher: Params, x_t: Images, time: Rows, scale: Rows
) -> Images:
    """The teacher's "v", moved away from that of the null condition (arXiv 2207.12598) where there is one."""
    velocity = network(teacher, x_t, time).astype(jnp.float32)
    if null is None:
        return velocity
    other = null(teacher, x_t, time).astype(jnp.float32)
    return other + scale[:, None, None, None] * (velocity - other)


def time_rate(schedule: Schedule, t: Rows) -> Rows:
    """The derivative of the time that networks are told in the angle atan2(sigma, alpha)."""

    def angle(t: Rows) -> Rows:
        return jnp.arctan2(schedule.sigma(t), schedule.alpha(t))

    _, slope = jax.jvp(angle, (t,), (jnp.ones_like(t),))
    return schedule.network_rate() / slope
