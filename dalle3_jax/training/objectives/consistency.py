"""Consistency distillation: the loss between estimates at two adjacent times on one step of a teacher."""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import consistency, prediction
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.steps import ddim_to
from dalle3_jax.training.objectives.diffusion import by_quarter
from dalle3_jax.training.tasks import MakeTask, Network
from dalle3_jax.typing import Array, Denoise, Key, LossFn, Params

__all__ = ["consistency_loss"]


def consistency_loss(
    make_task: MakeTask,
    component: str,
    *,
    schedule: Schedule,
    predict: str,
    top: float,
    parts: tuple[int, int],
    steps: int,
    teacher: bool = True,
    guidance_scale: float = 1.0,
) -> LossFn:
    """Distance between the component's estimate of x0 at t and its moving average's at the time before.

    Consistency distillation (arXiv 2303.01469 algorithm 2): `frozen["teacher"]` takes the step from t to the time
    before, guided where `guidance_scale` is not 1 (arXiv 2310.04378); without a teacher (algorithm 3) the step follows
    the noise that was put in. [0, top] is cut into parts[0] parts, doubled up to parts[1] over `steps` training steps.
    `frozen["run"]` holds the average `ema` and the `step`, as `make_step` gives them.
    """
    if predict not in prediction.CONSISTENT_PREDICTIONS:
        known = ", ".join(prediction.CONSISTENT_PREDICTIONS)
        raise ValueError(f"a consistency model must give back x at t = 0: use one of {known}, not {predict!r}")

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        time_key, noise_key, pose_key = jax.random.split(key, 3)
        task = make_task({**frozen, **params}, batch, pose_key)
        x0, run = task.x0, frozen["run"]

        def denoise(network: Network, weights: Params) -> Denoise:
            return prediction.denoiser(functools.partial(network, weights), schedule, predict)

        count = consistency.discretisation(run["step"], steps, *parts)
        t, s = consistency.adjacent_times(time_key, len(x0), count, top)
        eps = jax.random.normal(noise_key, x0.shape, x0.dtype)
        x_t = schedule.alpha(t)[:, None, None, None] * x0 + schedule.sigma(t)[:, None, None, None] * eps
        end = x0
        if teacher:
            end = denoise(task.network, frozen["teacher"])(x_t, t)
            if guidance_scale != 1 and task.null is not None:
                null = denoise(task.null, frozen["teacher"])(x_t, t)
                end = null + guidance_scale * (end - null)
        x_s = ddim_to(schedule, x_t, end, t, s)
        target = denoise(task.network, run["ema"][component])(x_s, s)
        estimate = denoise(task.network, params[component])(x_t, t)
        distance = consistency.pseudo_huber(estimate, jax.lax.stop_gradient(target))
        loss = jnp.mean(distance)
        error = jnp.mean(jnp.square(estimate - x0), axis=(1, 2, 3))
        return loss, {"loss": loss, "parts": count.astype(jnp.float32), **by_quarter(error, t)}

    return loss_fn
