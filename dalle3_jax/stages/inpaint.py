"""The stage of the inpainting UNet: the base model's, shown a mask and what is around it."""

import functools
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from dalle3_jax.diffusion import schedules
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.base import release_builder
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.stage import Stage
from dalle3_jax.training import logging
from dalle3_jax.training.edit_tasks import paint_into_masks
from dalle3_jax.training.objectives.diffusion import diffusion_loss
from dalle3_jax.training.random_masks import random_masks
from dalle3_jax.typing import Params

__all__ = ["inpaint_stage"]


def inpaint_stage(context: Context, *, time_shift: float = 1.0, whole: float = 0.2) -> Stage:
    """A UNet with 2 c + 1 channels of input, which begins as the base model's of c: it is shown a mask too.

    `whole` is the share of masks that cover the image: those keep it able to make images of text alone. Its schedule
    and prediction are the base model's, its defaults of sampling config.sample's.
    """
    config, networks = context.config, context.networks
    networks.require(*text_components(networks.modules), "unet", "vae")
    distillation.trained_component(config, ("unet",))
    if config.data.latents or config.data.cache:
        raise ValueError("data.latents, or data.cache, keep no images for masks to be laid over: use neither")
    base = distillation.teacher_release(networks, "unet")
    task = paint_into_masks(networks.encode_latents, networks.encode_text, networks.unet, whole=whole)
    loss_fn = diffusion_loss(
        task,
        "unet",
        schedule=schedules.build_schedule(**base.diffusion["schedule"]),
        predict=base.diffusion["prediction"],
        weighting=config.model.diffusion.weighting,
        time_shift=time_shift,
    )
    sampling = {key: config.sample[key] for key in ("steps", "sampler", "guidance_scale")}
    inputs.check_preview_prompts(config, networks.latent().factor)
    release = release_builder(context, base.diffusion, sampling)

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        prompts = list(config.sample.prompts)
        if prompts:
            cells = edit_cells(context, Pipeline(release(ema, step)), prompts)
            logging.save_image(path, draw_sheet(cells, columns=2, title=f"step {step:,}"))
        return {}

    return Stage(loss_fn=loss_fn, data=functools.partial(inputs.batches, context), preview=preview, release=release)


def edit_cells(context: Context, pipeline: Pipeline, prompts: list[str]) -> list[SheetCell]:
    """A held-out image with a random mask for each prompt, and what the prompt makes of it."""
    images = np.concatenate([*inputs.image_batches(context.config, len(prompts), "held_out")])[: len(prompts)]
    count, height, width = images.shape[:3]
    masks = np.asarray(jax.device_get(random_masks(jax.random.key(0), count, height, width, 0.0)))
    cells = []
    for prompt, image, mask in zip(prompts, images, masks, strict=True):
        [pixels], painted = to_pixels(image[None]), np.uint8(255 * mask[..., 0])
        [edited] = pipeline.edit(pixels, prompt, mask=painted, batch_size=1, upsample="none")
        before = Image.fromarray(np.where(mask > 0, np.uint8(127), pixels))
        cells += [SheetCell(before, (SheetLine("before"),)), SheetCell(edited.image, (SheetLine(prompt),))]
    return cells
