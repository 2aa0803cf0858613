"""The stage of the inpainting UNet: the base model's, shown a mask and what is around it."""

from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.denoising import assemble_further_stage
from dalle3_jax.stages.stage import Stage
from dalle3_jax.training import logging
from dalle3_jax.training.edit_tasks import paint_into_masks
from dalle3_jax.training.random_masks import random_masks

__all__ = ["inpaint_stage"]


def inpaint_stage(context: Context, *, time_shift: float = 1.0, whole: float = 0.2) -> Stage:
    """A UNet with 2 c + 1 channels of input, which begins as the base model's of c: it is shown a mask too.

    `whole` is the share of masks that cover the image: those keep it able to make images of text alone. Its schedule,
    prediction, spacing and clipping are the base model's, its defaults of sampling config.sample's.
    """
    networks = context.networks
    task = paint_into_masks(networks.encode_latents, networks.encode_text, networks.unet, whole=whole)
    return assemble_further_stage(context, "unet", task, preview_edits, time_shift)


def preview_edits(config: ConfigDict, pipeline: Pipeline, path: Path, step: int) -> Mapping[str, float]:
    """Draws what the prompts of config.sample make of masked images into a sheet."""
    if prompts := list(config.sample.prompts):
        cells = edit_cells(config, pipeline, prompts)
        logging.save_image(path, draw_sheet(cells, columns=2, title=f"step {step:,}"))
    return {}


def edit_cells(config: ConfigDict, pipeline: Pipeline, prompts: list[str]) -> list[SheetCell]:
    """A held-out image with a random mask for each prompt, and what the prompt makes of it."""
    cells = []
    for i, (prompt, image) in enumerate(zip(prompts, inputs.held_out_images(config, len(prompts)), strict=True)):
        height, width, _ = image.shape
        [mask] = jax.device_get(random_masks(jax.random.key(i), 1, height, width, 0.0))
        [pixels], painted = to_pixels(image[None]), np.uint8(255 * mask[..., 0])
        [edited] = pipeline.edit(pixels, prompt, mask=painted, batch_size=1, upsample="none")
        before = Image.fromarray(np.where(mask > 0, np.uint8(127), pixels))
        cells += [SheetCell(before, (SheetLine("before"),)), SheetCell(edited.image, (SheetLine(prompt),))]
    return cells
