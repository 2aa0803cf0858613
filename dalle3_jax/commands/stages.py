"""The stages of a config: what each trains, on which data, by which objective, and what it leaves behind."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax import programs
from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.commands import decoding, drawing, inputs, reading
from dalle3_jax.commands.captioner import captioner
from dalle3_jax.commands.networks import applied, checked_tokenizer, latent_batches
from dalle3_jax.commands.sizing import size_head
from dalle3_jax.commands.stage import Stage, apply, described
from dalle3_jax.commands.systems import System
from dalle3_jax.models.glyph import text_side
from dalle3_jax.training import logging, objectives
from dalle3_jax.typing import Array, Params

__all__ = ["STAGES", "Stage", "measure_latents"]


STATISTICS = 1024
"""Pictures over which the VAE stage measures its latents."""


def vae(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The autoencoder on crops; its release knows mean and deviation of every latent channel."""
    system.require("vae")
    module = system.modules["vae"]
    encode, decode = (functools.partial(apply, module, method=method) for method in ("encode", "decode"))
    loss_fn = objectives.vae_loss(
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
    """Text encoder and xfnet learn what a caption says of its picture, before any denoiser is there to listen.

    Of the latents of config.init.vae, or without it of the picture itself, made small: then no VAE has to come first,
    no latent to be encoded, and every picture is new.
    """
    system.require("text_encoder", "xfnet", "latent_head")
    modules, tokenizer = system.modules, checked_tokenizer(config, system)
    latent = system.latent() if "vae" in modules else thumbnail_space(config, system)
    parts = (*text_side(modules), "latent_head")
    networks = applied(modules, *parts) | (
        {} if "vae" in modules else {"encode": functools.partial(thumbnails, latent)}
    )
    loss_fn = objectives.text_loss(networks, shift=latent.shift, scale=latent.scale)
    check_head(config, system, latent)

    @jax.jit
    def picture(params: Params, captions: Mapping[str, Array]) -> Array:
        latents = latent.restored(objectives.expected_latents(networks, params, captions))
        if "vae" not in modules:
            return jnp.repeat(jnp.repeat(latents, latent.factor, axis=1), latent.factor, axis=2)
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
    "base": drawing.base,
    "decoder": decoding.decoder,
    "refiner": decoding.decoder,
    "distill": decoding.distill,
    "distill_refiner": decoding.distill,
    "distill_base": drawing.distill_base,
    "reader": reading.reader,
    "captioner": captioner,
    "size_head": size_head,
}


def thumbnail_space(config: ConfigDict, system: System) -> Latent:
    """The space of small images that latent_head covers: pixels in [-1, 1], at about unit variance."""
    head = system.modules["latent_head"]
    return Latent(3, max(config.data.size[0] // (head.grid[0] * head.patch), 1), (0.0,) * 3, (2.0,) * 3)


def thumbnails(latent: Latent, params: None, images: Array) -> tuple[Array, None]:
    """Images (b H W 3) as small ones (b h w 3), the means of squares of pixels: what stands in for a VAE's latents."""
    b, height, width, _ = images.shape
    side = latent.factor
    return images.reshape(b, height // side, side, width // side, side, 3).mean(axis=(2, 4)), None


def check_head(config: ConfigDict, system: System, latent: Latent) -> None:
    """Raise ValueError unless latent_head reads exactly the data's latents from as many tokens as xfnet gives."""
    head, xfnet = system.modules["latent_head"], system.modules["xfnet"]
    found, grid = [], tuple(side * head.patch * latent.factor for side in head.grid)
    if grid != tuple(config.data.size):
        found.append(f"grid and patch cover {grid} pixels, data.size is {tuple(config.data.size)}")
    what = "latents of the VAE" if "vae" in system.modules else "small images"
    if head.channels != latent.channels:
        found.append(f"channels is {head.channels}, the {what} have {latent.channels}")
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
