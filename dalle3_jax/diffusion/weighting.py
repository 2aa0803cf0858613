"""Weights of the per-sample loss over noise levels."""

import jax.numpy as jnp

from dalle3_jax.diffusion.prediction import SIGMA_DATA, SKIPPED_STD
from dalle3_jax.typing import Array, Float

__all__ = ["loss_weight"]


WEIGHTINGS = ("uniform", "min_snr")


def loss_weight(weighting: str, prediction: str, logsnr: Float[Array, " b"], gamma: float = 5.0) -> Float[Array, " b"]:
    """What multiplies the mean squared error of the prediction's own target: 1 if "uniform", or "min_snr".

    Min-SNR (arXiv 2303.09556 section 3.4) weighs the squared error of x0 by min(snr, gamma), whatever the network
    predicts; the squared error of eps is snr times that of x0, of v snr + 1 times, of "edm" snr + 1 / SIGMA_DATA^2
    times, of "x0_skip" 1 + snr SKIPPED^2 times. Finite at logsnr = +-inf.
    """
    if weighting == "uniform":
        return jnp.ones_like(logsnr)
    if weighting != "min_snr":
        raise ValueError(f"unknown weighting {weighting!r}: choose uniform or min_snr")
    snr = jnp.exp(logsnr)
    if prediction == "eps":
        return jnp.minimum(1, gamma / snr)
    if prediction == "v":
        return jnp.minimum(snr, gamma) / (snr + 1)
    if prediction == "edm":
        return jnp.minimum(snr, gamma) / (snr + 1 / SIGMA_DATA**2)
    if prediction == "x0_skip":
        return jnp.minimum(snr, gamma) / (1 + snr * SKIPPED_STD**2)
    if prediction == "x0":
        return jnp.minimum(snr, gamma)
    raise ValueError(f"unknown prediction {prediction!r}: choose eps, v, x0, edm or x0_skip")
