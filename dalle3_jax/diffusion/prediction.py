"""Prediction types: what a network's output means for x_t = alpha x0 + sigma eps, one record each.

The noise "eps", the image "x0", "v" = alpha eps - sigma x0 (arXiv 2202.00512 section 4), or F in
x0 = c_skip x_t + c_out F(c_in x_t). The coefficients of "edm" keep input and target at unit variance for data of the
standard deviation SIGMA_DATA (arXiv 2206.00364 table 1, written for variance-preserving x_t). Those of "x0_skip" pass
x_t on only where its noise is about SKIPPED_STD or less, so that F is x0 nearly everywhere: a network that folds pixels
into few channels cannot cancel their noise, and need not. "v", "edm" and "x0_skip" give back x_t itself at t = 0: the
boundary condition of consistency models (arXiv 2303.01469 eq. 5).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = [
    "CONSISTENT_PREDICTIONS",
    "PREDICTIONS",
    "SIGMA_DATA",
    "SKIPPED_STD",
    "Prediction",
    "check_prediction",
    "denoiser",
    "find_prediction",
    "prediction_target",
    "scaled_input",
    "x0_from_output",
]

Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]
Columns = Float[Array, "b 1 1 1"]

SIGMA_DATA = 0.5
"""The standard deviation of pixels in [-1, 1] that "edm" assumes, as OpenAI's consistency decoder does."""

SKIPPED_STD = 0.02
"""The standard deviation of noise (over alpha) up to which "x0_skip" passes x_t on."""


@dataclass(frozen=True)
class Prediction:
    """A prediction type: its maths, with alpha and sigma as columns (b 1 1 1), and which schedules and models it suits.

    `snr_weight` is the min-SNR weight (see `weighting`): min(snr, gamma) over the squared error of the target for each
    squared error of x0, which is snr for eps and snr + 1 for v. Without a `c_in` the network is given x_t itself.
    """

    target: Callable[[Images, Images, Columns, Columns], Images]
    """(x0, eps, alpha, sigma) -> the output that a perfect network gives."""
    x0: Callable[[Images, Images, Columns, Columns], Images]
    """(output, x_t, alpha, sigma) -> the image."""
    snr_weight: Callable[[Rows, float], Rows]
    """(snr, gamma) -> the weight, finite for an snr of 0 and of infinity."""
    c_in: Callable[[Columns, Columns], Columns] | None = None
    """(alpha, sigma) -> the factor of x_t."""
    consistent: bool = False
    """Whether a consistency model may predict it: x0 is x_t at t = 0, and finite at t = 1."""
    divides_by_alpha: bool = False
    """Whether x0 divides by alpha, which is 0 at t = 1 of schedules with zero_terminal_snr."""


def _skip_prediction(skip_std: float, out_std: float, snr_weight: Callable[[Rows, float], Rows]) -> Prediction:
    """F of x0 = c_skip x_t + c_out F(c_in x_t); its target divides by sigma, which is 0 at t = 0."""

    def coefficients(alpha: Columns, sigma: Columns) -> tuple[Columns, Columns]:
        spread = jnp.hypot(sigma, alpha * skip_std)
        return alpha * (skip_std / spread) ** 2, sigma * out_std / spread

    def target(x0: Images, eps: Images, alpha: Columns, sigma: Columns) -> Images:
        c_skip, c_out = coefficients(alpha, sigma)
        return (x0 - c_skip * (alpha * x0 + sigma * eps)) / c_out

    def x0(output: Images, x_t: Images, alpha: Columns, sigma: Columns) -> Images:
        c_skip, c_out = coefficients(alpha, sigma)
        return c_skip * x_t + c_out * output

    def c_in(alpha: Columns, sigma: Columns) -> Columns:
        return 1 / jnp.hypot(sigma, alpha * SIGMA_DATA)

    return Prediction(target, x0, snr_weight, c_in, consistent=True)


PREDICTIONS: Mapping[str, Prediction] = {
    "eps": Prediction(
        target=lambda x0, eps, alpha, sigma: eps,
        x0=lambda output, x_t, alpha, sigma: (x_t - sigma * output) / alpha,
        snr_weight=lambda snr, gamma: jnp.minimum(1, gamma / snr),
        divides_by_alpha=True,
    ),
    "v": Prediction(
        target=lambda x0, eps, alpha, sigma: alpha * eps - sigma * x0,
        x0=lambda output, x_t, alpha, sigma: alpha * x_t - sigma * output,
        snr_weight=lambda snr, gamma: jnp.minimum(snr, gamma) / (snr + 1),
        consistent=True,
    ),
    "x0": Prediction(
        target=lambda x0, eps, alpha, sigma: x0,
        x0=lambda output, x_t, alpha, sigma: output,
        snr_weight=lambda snr, gamma: jnp.minimum(snr, gamma),
    ),
    "edm": _skip_prediction(
        skip_std=SIGMA_DATA,
        out_std=SIGMA_DATA,
        snr_weight=lambda snr, gamma: jnp.minimum(snr, gamma) / (snr + 1 / SIGMA_DATA**2),
    ),
    "x0_skip": _skip_prediction(
        skip_std=SKIPPED_STD,
        out_std=1.0,
        snr_weight=lambda snr, gamma: jnp.minimum(snr, gamma) / (1 + snr * SKIPPED_STD**2),
    ),
}
"""Every prediction type by its name in configs and releases; a new one is a row here and nothing elsewhere."""
PREDICTIONS = MappingProxyType(PREDICTIONS)  # programs are kept by names and sources: nothing joins while one runs

CONSISTENT_PREDICTIONS = tuple(name for name, record in PREDICTIONS.items() if record.consistent)
"""The names of those that hold the boundary condition of consistency models."""


def find_prediction(prediction: str) -> Prediction:
    """The record of this name; ValueError for an unknown one."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"unknown prediction {prediction!r}: choose one of {', '.join(PREDICTIONS)}")
    return PREDICTIONS[prediction]


def prediction_target(prediction: str, x0: Images, eps: Images, alpha: Rows, sigma: Rows) -> Images:
    """The network's target for x_t = alpha x0 + sigma eps; F divides by sigma, which is 0 at t = 0."""
    return find_prediction(prediction).target(x0, eps, _columns(alpha), _columns(sigma))


def x0_from_output(prediction: str, output: Images, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """The estimate of x0 that an output stands for; "eps" divides by alpha (see `check_prediction`)."""
    return find_prediction(prediction).x0(output, x_t, _columns(alpha), _columns(sigma))


def scaled_input(prediction: str, x_t: Images, alpha: Rows, sigma: Rows) -> Images:
    """The network's input: c_in x_t for "edm" and "x0_skip", x_t itself for the others."""
    c_in = find_prediction(prediction).c_in
    return x_t if c_in is None else c_in(_columns(alpha), _columns(sigma)) * x_t


def check_prediction(schedule: Schedule, prediction: str) -> None:
    """Raise ValueError for an unknown prediction, and for "eps" where alpha(1) = 0: x_t holds nothing but eps."""
    if find_prediction(prediction).divides_by_alpha and schedule.zero_terminal_snr:
        raise ValueError(
            f'prediction "{prediction}" cannot start from a schedule with zero_terminal_snr: use "v" or "x0"'
        )


def denoiser(
    network: Callable[[Images, Rows], Images], schedule: Schedule, prediction: str, clamp: bool = False
) -> Denoise:
    """Turn network(x_t, network time) -> output into a Denoise; raises what `check_prediction` raises.

    `clamp` keeps the estimates of x0 within [-1, 1].
    """
    check_prediction(schedule, prediction)

    def denoise(x_t: Images, t: Rows) -> Images:
        alpha, sigma = schedule.alpha(t), schedule.sigma(t)
        output = network(scaled_input(prediction, x_t, alpha, sigma), schedule.network_time(t)).astype(x_t.dtype)
        x0 = x0_from_output(prediction, output, x_t, alpha, sigma)
        return jnp.clip(x0, -1, 1) if clamp else x0

    return denoise


def _columns(rows: Rows) -> Columns:
    return jnp.reshape(rows, (-1, 1, 1, 1))
