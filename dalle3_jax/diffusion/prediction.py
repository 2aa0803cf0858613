"""What a network predicts of x_t = alpha x0 + sigma eps.

The noise "eps", the image "x0", or "v" = alpha eps - sigma x0 (arXiv 2202.00512 section 4).
"""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["check", "denoiser", "eps_of", "target", "x0_of"]

Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]
T = TypeVar("T")


def target(prediction: str, x0: Images, eps: Images, alpha: Rows, sigma: Rows) -> Images:
    """What the network should put out for x_t = alpha x0 + sigma eps."""
    alpha, sigma = _columns(alpha), _columns(sigma)
    return _choose(prediction, eps=lambda: eps, v=lambda: alpha * eps - sigma * x0, x0=lambda: x0)


def x0_of(prediction: str, output: Images, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """The image that an output means; "eps" divides by alpha (see `check`)."""
    alpha, sigma = _columns(alpha), _columns(sigma)
    return _choose(
        prediction,
        eps=lambda: (x_t - sigma * output) / alpha,
        v=lambda: alpha * x_t - sigma * output,
        x0=lambda: output,
    )


def eps_of(prediction: str, output: Images, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """The noise that an output means; "x0" divides by sigma, which is 0 at t = 0."""
    alpha, sigma = _columns(alpha), _columns(sigma)
    return _choose(
        prediction,
        eps=lambda: output,
        v=lambda: sigma * x_t + alpha * output,
        x0=lambda: (x_t - alpha * output) / sigma,
    )


def check(schedule: Schedule, prediction: str) -> None:
    """Raise ValueError for an unknown prediction, and for "eps" where alpha(1) = 0: x_t holds nothing but eps."""
    _choose(prediction, eps=lambda: None, v=lambda: None, x0=lambda: None)
    if prediction == "eps" and schedule.zero_terminal_snr:
        raise ValueError('prediction "eps" cannot start from a schedule with zero_terminal_snr: use "v" or "x0"')


def denoiser(network: Callable[[Images, Rows], Images], schedule: Schedule, prediction: str) -> Denoise:
    """Turn network(x_t, network time) -> output into a Denoise; raises what `check` raises."""
    check(schedule, prediction)

    def denoise(x_t: Images, t: Rows) -> Images:
        output = network(x_t, schedule.network_time(t)).astype(x_t.dtype)
        return x0_of(prediction, output, x_t, schedule.alpha(t), schedule.sigma(t))

    return denoise


def _choose(prediction: str, **rows: Callable[[], T]) -> T:
    if prediction not in rows:
        raise ValueError(f"unknown prediction {prediction!r}: choose one of {', '.join(rows)}")
    return rows[prediction]()


def _columns(rows: Rows) -> Float[Array, "b 1 1 1"]:
    return jnp.reshape(rows, (-1, 1, 1, 1))
