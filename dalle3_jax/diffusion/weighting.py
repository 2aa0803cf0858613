"""Weights of the per-sample loss over noise levels."""

import jax.numpy as jnp

from dalle3_jax.diffusion.prediction import find_prediction
from dalle3_jax.typing import Array, Float

__all__ = ["WEIGHTINGS", "loss_weight"]


WEIGHTINGS = ("uniform", "min_snr")
"""How the losses at different times are weighted."""


def loss_weight(weighting: str, prediction: str, logsnr: Float[Array, " b"], gamma: float = 5.0) -> Float[Array, " b"]:
    """Weights of the mean squared error of the prediction's own target: 1 if "uniform", or "min_snr".

    Min-SNR (arXiv 2303.09556 section 3.4) weighs the squared error of x0 by min(snr, gamma), whatever the network
    predicts; each `Prediction` knows what that makes of the error of its own target. Finite at logsnr = +-inf.
    """
    if weighting == "uniform":
        return jnp.ones_like(logsnr)
    if weighting != "min_snr":
        raise ValueError(f"unknown weighting {weighting!r}: choose uniform or min_snr")
    return find_prediction(prediction).snr_weight(jnp.exp(logsnr), gamma)
