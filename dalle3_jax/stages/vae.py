"""The stage `vae`: the autoencoder, and the statistics of its latents."""

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import numpy as np

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.pipeline import programs
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.vae import vae_loss
from dalle3_jax.typing import Array, Params

__all__ = ["measure_latent_statistics", "vae_stage"]

STATISTICS = 1024
"""Pictures over which the VAE stage measures its latents."""


def vae_stage(context: Context, *, kl_weight: float = 1e-6, gradient_weight: float = 0.5) -> Stage:
    """The autoencoder on crops; its release knows mean and standard deviation of every latent channel."""
    config, networks = context.config, context.networks
    networks.require("vae")
    module = networks.modules["vae"]
    encode, decode = (functools.partial(apply_network, module, method=method) for method in ("encode", "decode"))
    reconstruct = jax.jit(lambda params, images: apply_network(module, params, images)[0])

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        images = next(inputs.image_batches(config, config.sample.count, "held_out"))
        logging.save_image_rows(path, [images, jax.device_get(reconstruct(ema["vae"], images))])
        return {}

    def release(ema: Params, step: int) -> Release:
        images = inputs.image_batches(config, STATISTICS, "train")
        images = inputs.with_progress(images, STATISTICS // inputs.STATISTICS_BATCH, "latent statistics")
        shift, deviation = measure_latent_statistics(
            functools.partial(programs.encode_images, ema["vae"], vae=module), images
        )
        latent = Latent(module.latent_channels, module.factor, shift, tuple(1.0 / value for value in deviation))
        return Release({"vae": module}, {"vae": ema["vae"]}, latent, training=training_metadata(config, step))

    return Stage(
        loss_fn=vae_loss(encode, decode, kl_weight=kl_weight, gradient_weight=gradient_weight),
        data=functools.partial(inputs.batches, context, captions=False),
        preview=preview,
        release=release,
    )


def measure_latent_statistics(
    encode: Callable[[np.ndarray], Array], batches: Iterable[np.ndarray]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each latent channel over all pixels of all pictures."""
    latents = np.concatenate([jax.device_get(encode(images)) for images in batches]).astype(np.float64)
    mean, deviation = latents.mean(axis=(0, 1, 2)), latents.std(axis=(0, 1, 2))
    return tuple(mean.tolist()), tuple(deviation.tolist())
