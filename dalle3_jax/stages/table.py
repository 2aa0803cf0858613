"""The stages of a config: what each trains, on which data, by which objective, and what it leaves behind."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.models.glyph import text_side
from dalle3_jax.pipeline import programs
from dalle3_jax.stages import base, decoder, inputs, reader
from dalle3_jax.stages.captioner import captioner
from dalle3_jax.stages.latents import applied, checked_tokenizer, latent_batches
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.size_head import size_head
from dalle3_jax.stages.stage import Stage, apply, described
from dalle3_jax.training import logging
from dalle3_jax.training.objectives import diffusion
from dalle3_jax.typing import Array, Params

__all__ = ["STAGES", "Stage", "measure_latents"]


STATISTICS = 1024
"""Pictures over which the VAE stage measures its latents."""


def vae(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The autoencoder on crops; its release knows mean and deviation of every latent channel."""
    system.require("vae")
    module = system.modules["vae"]
    encode, decode = (functools.partial(apply, module, method=method) for method in ("encode", "decode"))
    loss_fn = diffusion.vae_loss(
        encode, decode, kl_weight=config.train.kl_weight, gradient_weight=config.train.gradient_weight
    )
    reconstruct = jax.jit(lambda params, images: apply(module, params, images)[0])

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        images = next(inputs.pictures(config, config.sample.count, "held_out"))
        logging.save_rows(path, [images, jax.device_get(reconstruct(ema["vae"], images))])
        return {}

    def release(ema: Params, step: int) -> Release:
        images = inputs.pictures(config, STATISTICS, "train")
        images = inputs.progress(images, STATISTICS // inputs.STATISTICS_BATCH, "latent statistics")
        shift, deviation = measure_latents(functools.partial(programs.encode_images, ema["vae"], vae=module), images)
        latent = Latent(module.latent_channels, module.factor, shift, tuple(1.0 / value for value in deviation))
        return Release({"vae": module}, {"vae": ema["vae"]}, latent, training=described(config, step))

    return Stage(loss_fn, functools.partial(inputs.batches, config), preview, release)


def text(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """Text encoder and xfnet learn what a caption says of its picture, before any denoiser is there to listen."""
    system.require("text_encoder", "xfnet", "latent_head", "vae")
    modules, latent, tokenizer = system.modules, system.latent(), checked_tokenizer(config, system)
    parts = (*text_side(modules), "latent_head")
    networks = applied(modules, *parts)
    loss_fn = diffusion.text_loss(networks, shift=latent.shift, scale=latent.scale)
    check_head(config, system)

    @jax.jit
    def picture(params: Params, captions: Mapping[str, Array]) -> Array:
        latents = latent.restored(diffusion.expected_latents(networks, params, captions))
        return apply(modules["vae"], params["vae"], latents, method="decode")

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        if config.sample.prompts:
            captions = inputs.captions(config, tokenizer, config.sample.prompts)
            logging.save_rows(path, [jax.device_get(picture({**system.loaded, **ema}, captions))])
        return {}

    def release(ema: Params, step: int) -> Release:
        weights, training = {**system.loaded, **ema}, described(config, step)
        chosen, params = {part: modules[part] for part in parts}, {part: weights[part] for part in parts}
        return Release(chosen, params, latent, training=training, tokenizer=tokenizer.to_json())

    return Stage(loss_fn, functools.partial(latent_batches, config, workdir, system, tokenizer), preview, release)


STAGES: Mapping[str, Callable[[ConfigDict, Path, System], Stage]] = {
    "vae": vae,
    "text": text,
    "base": base.base,
    "decoder": decoder.decoder,
    "refiner": decoder.decoder,
    "distill": decoder.distill,
    "distill_refiner": decoder.distill,
    "distill_base": base.distill_base,
    "reader": reader.reader,
    "captioner": captioner,
    "size_head": size_head,
}


def check_head(config: ConfigDict, system: System) -> None:
    """Raise ValueError unless latent_head reads exactly the data's latents from as many tokens as xfnet gives."""
    head, xfnet, latent = system.modules["latent_head"], system.modules["xfnet"], system.latent()
    found, grid = [], tuple(side * head.patch * latent.factor for side in head.grid)
    if grid != tuple(config.data.size):
        found.append(f"grid and patch cover {grid} pixels, data.size is {tuple(config.data.size)}")
    if head.channels != latent.channels:
        found.append(f"channels is {head.channels}, the latents of the VAE have {latent.channels}")
    if xfnet.kind != "resampler" or xfnet.queries != math.prod(head.grid):
        found.append(f"grid {tuple(head.grid)} wants an xfnet of kind resampler with {math.prod(head.grid)} queries")
    if found:
        raise ValueError(f"config.model.latent_head: {'; '.join(found)}: make them agree")


def measure_latents(
    encode: Callable[[np.ndarray], Array], batches: Iterable[np.ndarray]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each latent channel over all pixels of all pictures."""
    latents = np.concatenate([jax.device_get(encode(images)) for images in batches]).astype(np.float64)
    mean, deviation = latents.mean(axis=(0, 1, 2)), latents.std(axis=(0, 1, 2))
    return tuple(mean.tolist()), tuple(deviation.tolist())
