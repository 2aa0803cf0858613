"""The stage `vae`: the autoencoder, and the statistics of its latents."""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.pipeline import programs
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.vae import vae_loss
from dalle3_jax.typing import Array, Float, Params

__all__ = ["latent_scales", "measure_latent_statistics", "vae_stage"]

STATISTICS = 1024
"""Pictures over which the VAE stage measures its latents."""

LEAST = 0.25
"""The least deviation of a channel, beside 1 of all together: what pixels hardly show is still to be denoised."""


def vae_stage(
    context: Context, *, kl_weight: float = 1e-6, gradient_weight: float = 0.5, scale: str = "deviation"
) -> Stage:
    """The autoencoder on crops; its release knows mean and scale of every latent channel.

    By `scale="deviation"` every channel has a standard deviation of 1. By "pixels" it has more the more of it the
    decoded pixels show (see `pixel_deviations`): a denoiser then spends its loss on what is seen, and finds colours and
    shapes at higher noise than what is hardly visible. Our choice; the published models scale all channels alike.
    """
    config, networks = context.config, context.networks
    networks.require("vae")
    module = networks.modules["vae"]
    encode, decode = (functools.partial(apply_network, module, method=method) for method in ("encode", "decode"))
    compiled_decode = jax.jit(decode)
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

        def effects() -> tuple[float, ...]:
            images = next(inputs.image_batches(config, inputs.STATISTICS_BATCH, "train"))
            latents = programs.encode_images(ema["vae"], images, vae=module)
            return measure_pixel_effects(functools.partial(compiled_decode, ema["vae"]), latents, deviation)

        latent = Latent(module.latent_channels, module.factor, shift, latent_scales(deviation, effects, scale))
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


def latent_scales(deviation: Sequence[float], effects: Callable[[], Sequence[float]], scale: str) -> tuple[float, ...]:
    """The factor of each channel of a VAE's own latents that have these standard deviations.

    `scale` is that of `vae_stage`; `effects` measures those of the channels on pixels, where they are asked for.
    """
    wanted = pixel_deviations(effects()) if scale == "pixels" else (1.0,) * len(deviation)
    return tuple(want / have for want, have in zip(wanted, deviation, strict=True))


def measure_pixel_effects(
    decode: Callable[[Array], Array], latents: Float[Array, "b h w c"], deviation: Sequence[float]
) -> tuple[float, ...]:
    """The root mean square by which decoded pixels change with noise of one standard deviation in each channel.

    Measured at a tenth of that, where the decoder is close to linear.
    """
    noise = 0.1 * jax.random.normal(jax.random.key(0), latents.shape[:3])
    images = decode(latents)
    steps = (latents.at[..., channel].add(each * noise) for channel, each in enumerate(deviation))
    return tuple(10.0 * float(jnp.sqrt(jnp.mean(jnp.square(decode(step) - images)))) for step in steps)


def pixel_deviations(effects: Sequence[float]) -> tuple[float, ...]:
    """A standard deviation for each channel in proportion to its effect on pixels, LEAST at least.

    Their mean square, but for those raised to LEAST, is 1: a squared error of latents is then, to first order, one of
    pixels, and the noise schedule's signal has the variance that it is made for.
    """
    unit = np.sqrt(np.mean(np.square(effects)))
    return tuple(np.maximum(np.asarray(effects) / unit, LEAST).tolist())
