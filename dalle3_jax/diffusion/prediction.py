"""What a network predicts of x_t = alpha x0 + sigma eps.

The noise "eps", the image "x0", "v" = alpha eps - sigma x0 (arXiv 2202.00512 section 4), or F in
x0 = c_skip x_t + c_out F(c_in x_t). The coefficients of "edm" keep input and target at unit variance for data of the
deviation SIGMA_DATA (arXiv 2206.00364 table 1, written for variance-preserving x_t). Those of "x0_skip" pass x_t on
only where its noise is about SKIPPED or less, so that F is x0 nearly everywhere: a network that folds pixels into few
channels cannot cancel their noise, and need not. "v", "edm" and "x0_skip" give back x_t itself at t = 0: the boundary
condition of consistency models (arXiv 2303.01469 eq. 5).
"""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = [
    "CONSISTENT_PREDICTIONS",
    "SIGMA_DATA",
    "check_prediction",
    "denoiser",
    "eps_from_output",
    "prediction_target",
    "scaled_input",
    "x0_from_output",
]

Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]
T = TypeVar("T")

SIGMA_DATA = 0.5
"""The deviation of pixels in [-1, 1] that "edm" takes for granted, as OpenAI's consistency decoder does."""

SKIPPED_STD = 0.02
"""The deviation of noise (over alpha) up to which "x0_skip" passes x_t on."""

CONSISTENT_PREDICTIONS = ("v", "edm", "x0_skip")
"""The predictions that hold the boundary condition."""


def prediction_target(prediction: str, x0: Images, eps: Images, alpha: Rows, sigma: Rows) -> Images:
    """What the network should put out for x_t = alpha x0 + sigma eps; F divides by sigma, which is 0 at t = 0."""
    alpha, sigma = _columns(alpha), _columns(sigma)

    def within() -> Images:
        c_skip, c_out, _ = _coefficients(prediction, alpha, sigma)
        return (x0 - c_skip * (alpha * x0 + sigma * eps)) / c_out

    return _select_by_prediction(
        prediction,
        eps=lambda: eps,
        v=lambda: alpha * eps - sigma * x0,
        x0=lambda: x0,
        edm=within,
        x0_skip=within,
    )


def x0_from_output(prediction: str, output: Images, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """The image that an output means; "eps" divides by alpha (see `check`)."""
    alpha, sigma = _columns(alpha), _columns(sigma)

    def within() -> Images:
        c_skip, c_out, _ = _coefficients(prediction, alpha, sigma)
        return c_skip * x_t + c_out * output

    return _select_by_prediction(
        prediction,
        eps=lambda: (x_t - sigma * output) / alpha,
        v=lambda: alpha * x_t - sigma * output,
        x0=lambda: output,
        edm=within,
        x0_skip=within,
    )


def eps_from_output(prediction: str, output: Images, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """The noise that an output means; those with x0 in them divide by sigma, which is 0 at t = 0."""
    columns = _columns(alpha), _columns(sigma)

    def from_x0() -> Images:
        return (x_t - columns[0] * x0_from_output(prediction, output, x_t, alpha, sigma)) / columns[1]

    return _select_by_prediction(
        prediction,
        eps=lambda: output,
        v=lambda: columns[1] * x_t + columns[0] * output,
        x0=from_x0,
        edm=from_x0,
        x0_skip=from_x0,
    )


def scaled_input(prediction: str, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """What the network is shown of x_t: c_in x_t for "edm" and "x0_skip", x_t itself for the others."""

    def scaled() -> Images:
        return _coefficients(prediction, _columns(alpha), _columns(sigma))[2] * x_t

    return _select_by_prediction(prediction, eps=lambda: x_t, v=lambda: x_t, x0=lambda: x_t, edm=scaled, x0_skip=scaled)


def check_prediction(schedule: Schedule, prediction: str) -> None:
    """Raise ValueError for an unknown prediction, and for "eps" where alpha(1) = 0: x_t holds nothing but eps."""
    _select_by_prediction(prediction, **dict.fromkeys(("eps", "v", "x0", "edm", "x0_skip"), lambda: None))
    if prediction == "eps" and schedule.zero_terminal_snr:
        raise ValueError('prediction "eps" cannot start from a schedule with zero_terminal_snr: use "v" or "x0"')


def denoiser(
    network: Callable[[Images, Rows], Images], schedule: Schedule, prediction: str, clamp: bool = False
) -> Denoise:
    """Turn network(x_t, network time) -> output into a Denoise; raises what `check` raises.

    `clamp` keeps the images it gives within [-1, 1].
    """
    check_prediction(schedule, prediction)

    def denoise(x_t: Images, t: Rows) -> Images:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        output = network(scaled_input(prediction, x_t, alpha, sigma), schedule.network_time(t)).astype(x_t.dtype)
        x0 = x0_from_output(prediction, output, x_t, alpha, sigma)
        return jnp.clip(x0, -1, 1) if clamp else x0

    return denoise


def _coefficients(
    prediction: str, alpha: Float[Array, "b 1 1 1"], sigma: Float[Array, "b 1 1 1"]
) -> tuple[Float[Array, "b 1 1 1"], Float[Array, "b 1 1 1"], Float[Array, "b 1 1 1"]]:
    """c_skip, c_out and c_in."""
    skipped, size = (SIGMA_DATA, SIGMA_DATA) if prediction == "edm" else (SKIPPED_STD, 1.0)
    spread = jnp.hypot(sigma, alpha * skipped)
    return alpha * (skipped / spread) ** 2, sigma * size / spread, 1 / jnp.hypot(sigma, alpha * SIGMA_DATA)


def _select_by_prediction(prediction: str, **rows: Callable[[], T]) -> T:
    if prediction not in rows:
        raise ValueError(f"unknown prediction {prediction!r}: choose one of {', '.join(rows)}")
    return rows[prediction]()


def _columns(rows: Rows) -> Float[Array, "b 1 1 1"]:
    return jnp.reshape(rows, (-1, 1, 1, 1))
