"""The stage `text`: text encoder and xfnet learn from captions and latents, before any denoiser."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.models.glyph import text_components
from dalle3_jax.stages import inputs
from dalle3_jax.stages.latents import checked_tokenizer, latent_batches, network_functions
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.text import expected_latents, text_loss
from dalle3_jax.typing import Array, Params

__all__ = ["text_stage"]


def text_stage(config: ConfigDict, workdir: Path, system: StageNetworks) -> Stage:
    """Text encoder and xfnet learn what a caption says of its picture, before any denoiser is there to listen.

    Of the latents of config.init.vae, or without it of the picture itself, made small: then no VAE has to come first,
    no latent to be encoded, and every picture is new.
    """
    system.require("text_encoder", "xfnet", "latent_head")
    modules, tokenizer = system.modules, checked_tokenizer(config, system)
    latent = system.latent() if "vae" in modules else thumbnail_space(config, system)
    parts = (*text_components(modules), "latent_head")
    networks = network_functions(modules, *parts) | (
        {} if "vae" in modules else {"encode": functools.partial(thumbnails, latent)}
    )
    loss_fn = text_loss(networks, shift=latent.shift, scale=latent.scale)
    check_latent_head(config, system, latent)

    @jax.jit
    def picture(params: Params, captions: Mapping[str, Array]) -> Array:
        latents = latent.denormalise(expected_latents(networks, params, captions))
        if "vae" not in modules:
            return jnp.repeat(jnp.repeat(latents, latent.factor, axis=1), latent.factor, axis=2)
        return apply_network(modules["vae"], params["vae"], latents, method="decode")

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        if config.sample.prompts:
            captions = inputs.tokenize_captions(config, tokenizer, config.sample.prompts)
            logging.save_image_rows(path, [jax.device_get(picture({**system.loaded, **ema}, captions))])
        return {}

    def release(ema: Params, step: int) -> Release:
        weights, training = {**system.loaded, **ema}, training_metadata(config, step)
        chosen, params = {part: modules[part] for part in parts}, {part: weights[part] for part in parts}
        return Release(chosen, params, latent, training=training, tokenizer=tokenizer.to_json())

    return Stage(loss_fn, functools.partial(latent_batches, config, workdir, system, tokenizer), preview, release)


def thumbnail_space(config: ConfigDict, system: StageNetworks) -> Latent:
    """The space of small images that latent_head covers: pixels in [-1, 1], at about unit variance."""
    head = system.modules["latent_head"]
    return Latent(3, max(config.data.size[0] // (head.grid[0] * head.patch), 1), (0.0,) * 3, (2.0,) * 3)


def thumbnails(latent: Latent, params: None, images: Array) -> tuple[Array, None]:
    """Images (b H W 3) as small ones (b h w 3), the means of squares of pixels: what stands in for a VAE's latents."""
    b, height, width, _ = images.shape
    side = latent.factor
    return images.reshape(b, height // side, side, width // side, side, 3).mean(axis=(2, 4)), None


def check_latent_head(config: ConfigDict, system: StageNetworks, latent: Latent) -> None:
    """Raise ValueError unless latent_head reads exactly the data's latents from as many tokens as xfnet gives."""
    head, xfnet = system.modules["latent_head"], system.modules["xfnet"]
    what = "latents of the VAE" if "vae" in system.modules else "small images"
    found, grid = [], tuple(side * head.patch * latent.factor for side in head.grid)
    if grid != tuple(config.data.size):
        found.append(f"grid and patch cover {grid} pixels, data.size is {tuple(config.data.size)}")
    if head.channels != latent.channels:
        found.append(f"channels is {head.channels}, the {what} have {latent.channels}")
    if xfnet.kind != "resampler" or xfnet.queries != math.prod(head.grid):
        found.append(f"grid {tuple(head.grid)} wants an xfnet of kind resampler with {math.prod(head.grid)} queries")
    if found:
        raise ValueError(f"config.model.latent_head: {'; '.join(found)}: make them agree")
