"""What each stage minimises. A loss is built from apply functions and never names a network's class."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion import consistency, prediction
from dalle3_jax.diffusion import weighting as losses
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.training.tasks import Network, Pose, conditioned, normalised
from dalle3_jax.typing import Array, Denoise, Float, Key, LossFn, Params

__all__ = [
    "consistency_loss",
    "diffusion_loss",
    "expected_latents",
    "shifted",
    "stratified_times",
    "text_loss",
    "vae_loss",
]

Apply = Callable[..., Any]


def vae_loss(encode: Apply, decode: Apply, *, kl_weight: float = 1e-6, gradient_weight: float = 0.5) -> LossFn:
    """L1 of pixels and of their finite differences, and the KL term summed over an image's latent.

    encode(params, images) -> (mean, log variance); decode(params, latents) -> images in [-1, 1].
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        images = batch["images"]
        mean, logvar = encode(params["vae"], images)
        latents = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape, mean.dtype)
        error = (decode(params["vae"], latents) - images).astype(jnp.float32)
        l1 = jnp.mean(jnp.abs(error))
        edges = jnp.mean(jnp.abs(jnp.diff(error, axis=1))) + jnp.mean(jnp.abs(jnp.diff(error, axis=2)))
        kl = 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar, axis=(1, 2, 3)).mean()
        # pixels lie in [-1, 1], so the peak is 2
        psnr = 10.0 * jnp.mean(jnp.log10(4.0 / jnp.mean(jnp.square(error), axis=(1, 2, 3))))
        loss = l1 + gradient_weight * edges + kl_weight * kl
        return loss, {"l1": l1, "edges": edges, "kl": kl, "psnr": psnr}

    return loss_fn


def stratified_times(key: Key, count: int) -> Float[Array, " b"]:
    """One time in each of `count` equal parts of (0, 1): uniform, with less variance over the batch."""
    return (jnp.arange(count) + jax.random.uniform(key, (count,), minval=1e-4)) / count


def shifted(t: Float[Array, " b"], shift: float) -> Float[Array, " b"]:
    """Times moved towards noise, shift t / (1 + (shift - 1) t) (arXiv 2403.03206 eq. 23); 1 leaves them alone.

    Smooth latents keep their content visible deep into the noise: the text has a say near t = 1 only.
    """
    return shift * t / (1.0 + (shift - 1.0) * t)


def expected_latents(
    networks: Mapping[str, Apply], weights: Params, batch: Mapping[str, Array]
) -> Float[Array, "b h w c"]:
    """E[x0 | text] as the text side and `latent_head` have it, normalised like the UNet's latents."""
    return networks["latent_head"](weights["latent_head"], conditioned(networks, weights, batch).tokens)


def text_loss(networks: Mapping[str, Apply], *, shift: Sequence[float], scale: Sequence[float]) -> LossFn:
    """Squared error of the latents that `latent_head` reads from the text alone: what a denoiser owes at t = 1.

    networks: `text_encoder`, `xfnet`, `latent_head`, for quoted text `glyph_encoder` and, for batches of images,
    `encode`. `explained` is the share of the latents' second moment that the text accounts for.
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        x0 = normalised(networks, weights, batch, shift, scale)
        loss = jnp.mean(jnp.square(expected_latents(networks, weights, batch) - x0))
        return loss, {"explained": 1.0 - loss / jnp.mean(jnp.square(x0))}

    return loss_fn


def diffusion_loss(
    pose: Pose,
    component: str,
    *,
    schedule: Schedule,
    predict: str = "v",
    weighting: str = "uniform",
    time_shift: float = 1.0,
) -> LossFn:
    """Weighted squared error of the component's output at random times, on the problems that `pose` makes of batches.

    A `time_shift` above 1 trains more on noisy times (see `shifted`).
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        time_key, noise_key, pose_key = jax.random.split(key, 3)
        problem = pose(weights, batch, pose_key)
        x0 = problem.x0
        t = shifted(stratified_times(time_key, len(x0)), time_shift)
        eps = jax.random.normal(noise_key, x0.shape, x0.dtype)
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        x_t = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps
        shown = prediction.scaled_input(predict, x_t, alpha, sigma)
        output = problem.network(weights[component], shown, schedule.network_time(t))

        target = prediction.target(predict, x0, eps, alpha, sigma)
        squared = jnp.mean(jnp.square(output.astype(jnp.float32) - target), axis=(1, 2, 3))
        loss = jnp.mean(losses.weight(weighting, predict, schedule.logsnr(t)) * squared)
        return loss, {"loss": loss, **_by_quarter(squared, t)}

    return loss_fn


def consistency_loss(
    pose: Pose,
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
    """Distance between what the component sees at t and what its moving average sees at the time before.

    Consistency distillation (arXiv 2303.01469 algorithm 2): `frozen["teacher"]` takes the step from t to the time
    before, guided where `guidance_scale` is not 1 (arXiv 2310.04378); without a teacher (algorithm 3) the step follows
    the noise that was put in. [0, top] is cut into parts[0] parts, doubled up to parts[1] over `steps` training steps.
    `frozen["run"]` holds the average `ema` and the `step`, as `make_step` gives them.
    """
    if predict not in prediction.CONSISTENT:
        known = ", ".join(prediction.CONSISTENT)
        raise ValueError(f"a consistency model must give back x at t = 0: use one of {known}, not {predict!r}")

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        time_key, noise_key, pose_key = jax.random.split(key, 3)
        problem = pose({**frozen, **params}, batch, pose_key)
        x0, run = problem.x0, frozen["run"]

        def denoise(network: Network, weights: Params) -> Denoise:
            return prediction.denoiser(functools.partial(network, weights), schedule, predict)

        count = consistency.discretisation(run["step"], steps, *parts)
        t, s = consistency.neighbours(time_key, len(x0), count, top)
        eps = jax.random.normal(noise_key, x0.shape, x0.dtype)
        x_t = schedule.alpha(t)[:, None, None, None] * x0 + schedule.sigma(t)[:, None, None, None] * eps
        end = x0
        if teacher:
            end = denoise(problem.network, frozen["teacher"])(x_t, t)
            if guidance_scale != 1 and problem.null is not None:
                null = denoise(problem.null, frozen["teacher"])(x_t, t)
                end = null + guidance_scale * (end - null)
        x_s = consistency.towards(schedule, x_t, end, t, s)
        target = denoise(problem.network, run["ema"][component])(x_s, s)
        found = denoise(problem.network, params[component])(x_t, t)
        distance = consistency.pseudo_huber(found, jax.lax.stop_gradient(target))
        loss = jnp.mean(distance)
        error = jnp.mean(jnp.square(found - x0), axis=(1, 2, 3))
        return loss, {"loss": loss, "parts": count.astype(jnp.float32), **_by_quarter(error, t)}

    return loss_fn


def _by_quarter(squared: Float[Array, " b"], t: Float[Array, " b"]) -> dict[str, Array]:
    """Mean unweighted error in the four quarters of time, q1 the least noisy; 0 where no row fell."""
    inside = jnp.floor(4.0 * t)[None, :] == jnp.arange(4.0)[:, None]
    means = jnp.sum(inside * squared, axis=1) / jnp.maximum(jnp.sum(inside, axis=1), 1)
    return {f"mse_q{quarter + 1}": means[quarter] for quarter in range(4)}
