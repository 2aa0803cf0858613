"""The stage `text`: text encoder and xfnet learn from captions and latents, before any denoiser."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.models.glyph import text_side
from dalle3_jax.stages import inputs
from dalle3_jax.stages.latents import applied, checked_tokenizer, latent_batches
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.stage import Stage, apply, described
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.text import expected_latents, text_loss
from dalle3_jax.typing import Array, Params

__all__ = ["text"]


def text(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """Text encoder and xfnet learn what a caption says of its picture, before any denoiser is there to listen."""
    system.require("text_encoder", "xfnet", "latent_head", "vae")
    modules, latent, tokenizer = system.modules, system.latent(), checked_tokenizer(config, system)
    parts = (*text_side(modules), "latent_head")
    networks = applied(modules, *parts)
    loss_fn = text_loss(networks, shift=latent.shift, scale=latent.scale)
    check_head(config, system)

    @jax.jit
    def picture(params: Params, captions: Mapping[str, Array]) -> Array:
        latents = latent.restored(expected_latents(networks, params, captions))
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
