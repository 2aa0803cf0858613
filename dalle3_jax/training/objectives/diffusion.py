"""The diffusion loss, and the times at which it is taken."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import prediction
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.weighting import loss_weight
from dalle3_jax.training.tasks import MakeTask
from dalle3_jax.typing import Array, Float, Key, LossFn, Params

__all__ = ["diffusion_loss", "shift_times", "stratified_times"]


def stratified_times(key: Key, count: int) -> Float[Array, " b"]:
    """One time in each of `count` equal parts of (0, 1): uniform, with less variance over the batch."""
    return (jnp.arange(count) + jax.random.uniform(key, (count,), jnp.float32, minval=1e-4)) / count


def shift_times(t: Float[Array, " b"], shift: float) -> Float[Array, " b"]:
    """Times moved towards noise, shift t / (1 + (shift - 1) t) (arXiv 2403.03206 eq. 23); 1 leaves them alone.

    Smooth latents keep their content visible deep into the noise: the text has a say near t = 1 only.
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


def diffusion_loss(
    make_task: MakeTask,
    component: str,
    *,
    schedule: Schedule,
    predict: str = "v",
    weighting: str = "uniform",
    time_shift: float = 1.0,
) -> LossFn:
    """Weighted squared error of the component's output at random times, on the tasks that `make_task` makes of
    batches.

    A `time_shift` above 1 trains more on noisy times (see `shift_times`).
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        time_key, noise_key, task_key = jax.random.split(key, 3)
        task = make_task(weights, batch, task_key)
        x0 = task.x0
        t = shift_times(stratified_times(time_key, len(x0)), time_shift)
        eps = jax.random.normal(noise_key, x0.shape, x0.dtype)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_t = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps
        shown = prediction.scaled_input(predict, x_t, alpha, sigma)
        output = task.network(weights[component], shown, schedule.network_time(t))

        target = prediction.prediction_target(predict, x0, eps, alpha, sigma)
        squared = jnp.mean(jnp.square(output.astype(jnp.float32) - target), axis=(1, 2, 3))
        loss = jnp.mean(loss_weight(weighting, predict, schedule.logsnr(t)) * squared)
        return loss, {"loss": loss, **by_quarter(squared, t)}

    return loss_fn


def by_quarter(squared: Float[Array, " b"], t: Float[Array, " b"]) -> dict[str, Array]:
    """Mean unweighted error in the four quarters of time, q1 the least noisy; 0 where no row fell."""
    inside = jnp.floor(4.0 * t)[None, :] == jnp.arange(4.0)[:, None]
    means = jnp.sum(inside * squared, axis=1) / jnp.maximum(jnp.sum(inside, axis=1), 1)
    return {f"mse_q{quarter + 1}": means[quarter] for quarter in range(4)}
