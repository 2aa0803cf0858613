"""The stage `drawing`: the UNet learns from labels what things look like, before any text is there to name them."""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.data.batches import make_batches
from dalle3_jax.diffusion import prediction, samplers, schedules
from dalle3_jax.diffusion.spacing import sampling_times
from dalle3_jax.models.layout_encoder import LayoutEncoder, labelled_layout, layout_errors
from dalle3_jax.stages import inputs
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.denoising import denoising_loss
from dalle3_jax.stages.latents import latent_batches
from dalle3_jax.stages.layout_labels import layout_targets
from dalle3_jax.stages.reader import config_world, with_names
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.layout_tasks import layout_to_image
from dalle3_jax.typing import Array, Params

__all__ = ["drawing_stage"]


def drawing_stage(context: Context, *, time_shift: float = 1.0, blurred: float = 0.5) -> Stage:
    """UNet and layout encoder in the latents of a frozen VAE, conditioned on what labels say instead of captions.

    Of the pictures the share `blurred` tells its places more or less only, the share config.data.dropout nothing.
    """
    config, networks = context.config, context.networks
    networks.require("unet", "vae", "layout_encoder")
    encoder = with_names("layout_encoder", networks.modules["layout_encoder"], LayoutEncoder, config_world(config))
    networks.modules["layout_encoder"] = encoder  # with its names it knows how many classes it is given
    if errors := layout_errors(networks.modules):
        raise ValueError(f"config.model: {'; '.join(errors)}")
    diffusion = plain_config(config.model.diffusion)
    encode_layout = functools.partial(apply_network, encoder)
    task = layout_to_image(
        networks.encode_latents,
        lambda batch: labelled_layout(batch, encoder),
        encode_layout,
        networks.unet,
        grid=encoder.grid,
        blurred=blurred,
        forgotten=config.data.dropout,
    )
    schedule = schedules.build_schedule(diffusion["schedule"])
    step = samplers.find_step(config.sample.sampler, diffusion["prediction"])
    times = sampling_times(schedule, config.sample.steps, sampler=config.sample.sampler)

    @jax.jit
    def draw_images(params: Params, batch: Mapping[str, Array]) -> tuple[Array, Array]:
        condition = encode_layout(params["layout_encoder"], labelled_layout(batch, encoder))
        truth = networks.encode_latents(params, batch)
        denoise = prediction.denoiser(
            lambda x_t, t: networks.unet(params["unet"], x_t, t, condition, None), schedule, diffusion["prediction"]
        )
        keys = jax.vmap(jax.random.key)(jnp.arange(len(truth)))
        noise = samplers.noise(keys, truth.shape[1:])
        latents = samplers.sample(step, denoise, schedule, noise, times, keys)
        decode = functools.partial(apply_network, networks.modules["vae"], params["vae"], method="decode")
        return decode(networks.latent().denormalise(latents)), decode(networks.latent().denormalise(truth))

    @functools.cache
    def held_out() -> Mapping[str, np.ndarray]:
        data = inputs.data_section(config, split="held_out", crop=None)
        count = config.sample.count
        return next(make_batches(data, tokenize=None, batch_size=count, seed=0, targets=layout_targets(encoder)))

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        rows = jax.device_get(draw_images({**networks.loaded, **ema}, held_out()))
        logging.save_image_rows(path, list(rows))
        return {}

    def release(ema: Params, step: int) -> Release:
        names = ("unet", "layout_encoder", "vae")
        weights = {**networks.loaded, **ema}
        return Release(
            {name: networks.modules[name] for name in names},
            {name: weights[name] for name in names},
            networks.latent(),
            diffusion={key: value for key, value in diffusion.items() if key != "weighting"},
            training=training_metadata(config, step),
        )

    return Stage(
        loss_fn=denoising_loss(context, task, "unet", diffusion, time_shift),
        data=functools.partial(latent_batches, context, layout_targets(encoder), captions=False),
        preview=preview,
        release=release,
    )
