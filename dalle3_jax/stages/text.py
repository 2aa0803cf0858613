"""The stage `text`: text encoder and xfnet learn from captions and latents, before any denoiser."""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.token_grid import grid_errors
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.latents import latent_batches
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.text import expected_latents, text_loss
from dalle3_jax.typing import Array, Params

__all__ = ["text_stage"]


def text_stage(context: Context) -> Stage:
    """Text encoder and xfnet learn what a caption says of its picture, before any denoiser is there to listen.

    Of the latents of config.init.vae, or without it of the picture itself, made small: then no VAE has to come first,
    no latent to be encoded, and every picture is new.
    """
    config, networks = context.config, context.networks
    networks.require("text_encoder", "xfnet", "latent_head")
    modules, tokenizer = networks.modules, context.tokenizer
    latent = networks.latent() if "vae" in modules else thumbnail_space(config, networks)
    encode_latents = networks.encode_latents if "vae" in modules else functools.partial(encode_thumbnails, latent)
    latent_head = functools.partial(apply_network, modules["latent_head"])
    check_latent_head(config, networks, latent)
    parts = (*text_components(modules), "latent_head")

    @jax.jit
    def picture(params: Params, captions: Mapping[str, Array]) -> Array:
        latents = latent.denormalise(expected_latents(networks.encode_text, latent_head, params, captions))
        if "vae" not in modules:
            return jnp.repeat(jnp.repeat(latents, latent.factor, axis=1), latent.factor, axis=2)
        return apply_network(modules["vae"], params["vae"], latents, method="decode")

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        if config.sample.prompts:
            captions = inputs.tokenize_captions(config, tokenizer, config.sample.prompts)
            logging.save_image_rows(path, [jax.device_get(picture({**networks.loaded, **ema}, captions))])
        return {}

    def release(ema: Params, step: int) -> Release:
        weights, training = {**networks.loaded, **ema}, training_metadata(config, step)
        chosen, params = {part: modules[part] for part in parts}, {part: weights[part] for part in parts}
        return Release(chosen, params, latent, training=training, tokenizer=tokenizer.to_json())

    return Stage(
        loss_fn=text_loss(encode_latents, networks.encode_text, latent_head),
        data=functools.partial(latent_batches, context),
        preview=preview,
        release=release,
    )


def thumbnail_space(config: ConfigDict, networks: StageNetworks) -> Latent:
    """The space of small images that latent_head covers: pixels in [-1, 1], at about unit variance."""
    head = networks.modules["latent_head"]
    return Latent(3, max(config.data.size[0] // (head.grid[0] * head.patch), 1), (0.0,) * 3, (2.0,) * 3)


def encode_thumbnails(latent: Latent, params: Params, batch: Mapping[str, Array]) -> Array:
    """Small images (b h w 3) of a batch's, the means of squares of pixels: what stands in for a VAE's latents."""
    images, side = batch["images"], latent.factor
    b, height, width, _ = images.shape
    return latent.normalise(images.reshape(b, height // side, side, width // side, side, 3).mean(axis=(2, 4)))


def check_latent_head(config: ConfigDict, networks: StageNetworks, latent: Latent) -> None:
    """Raise ValueError unless latent_head reads exactly the data's latents from as many tokens as xfnet gives."""
    head, xfnet = networks.modules["latent_head"], networks.modules["xfnet"]
    what = "latents of the VAE" if "vae" in networks.modules else "small images"
    errors, grid = [], tuple(side * head.patch * latent.factor for side in head.grid)
    if grid != tuple(config.data.size):
        errors.append(f"grid and patch cover {grid} pixels, data.size is {tuple(config.data.size)}")
    if config.data.frames or config.data.buckets:
        errors.append(f"it reads one size, data.size {tuple(config.data.size)}: leave out data.frames and data.buckets")
    if head.channels != latent.channels:
        errors.append(f"channels is {head.channels}, the {what} have {latent.channels}")
    errors += grid_errors(head.grid, xfnet)
    if errors:
        raise ValueError(f"config.model.latent_head: {'; '.join(errors)}: make them agree")
