"""The stage of the image prompt: what the captioner sees of an image becomes tokens beside the text's."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.image_prompt import add_image_keys
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.unet_call import apply_unet, project_condition
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.denoising import assemble_further_stage
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage, apply_network
from dalle3_jax.training import logging
from dalle3_jax.training.edit_tasks import follow_images
from dalle3_jax.typing import Array, Float, Params

__all__ = ["image_prompt_stage"]


def image_prompt_stage(context: Context, *, time_shift: float = 1.0, image_dropout: float = 0.1) -> Stage:
    """The image prompt alone, everything else frozen: text side, UNet, VAE and captioner.

    `image_dropout` is the share of images whose features are zeros, as those of no image are in sampling; captions are
    dropped as config.data.dropout says. Its schedule, prediction, spacing and clipping are the base model's.
    """
    networks = context.networks
    task = follow_images(
        networks.encode_latents,
        networks.encode_text,
        functools.partial(see_images, networks),
        functools.partial(prompted_unet, networks),
        dropout=image_dropout,
    )
    return assemble_further_stage(context, "image_prompt", task, preview_variations, time_shift, ("captioner",))


def preview_variations(config: ConfigDict, pipeline: Pipeline, path: Path, step: int) -> Mapping[str, float]:
    """Draws what is made of held-out images into a sheet."""
    cells = variation_cells(config, pipeline)
    logging.save_image(path, draw_sheet(cells, columns=3, title=f"step {step:,}"))
    return {}


def see_images(networks: StageNetworks, params: Params, images: Float[Array, "b h w 3"]) -> Float[Array, "b v"]:
    """The captioner's vectors of images of any size in [-1, 1]: all of each, brought to the captioner's size."""
    captioner = networks.modules["captioner"]
    assert isinstance(captioner, Captioner)
    shape = len(images), *captioner.image_size, 3
    images = images if images.shape == shape else jax.image.resize(images, shape, "lanczos3")
    return apply_network(captioner, params["captioner"], images, method="encode_image")


def prompted_unet(
    networks: StageNetworks,
    weights: Params,
    params: Params,
    x_t: Array,
    t: Array,
    condition: Any,
    features: Array,
    sizes: Array | None,
) -> Float[Array, "b h w c"]:
    """The frozen UNet's output on a condition and the features of images; `params` are the image prompt's."""
    unet = networks.modules["unet"]
    assert isinstance(unet, UNet)
    keys = apply_network(networks.modules["image_prompt"], params, features)
    rows = add_image_keys(project_condition(unet, weights["unet"], condition), keys, jnp.ones(len(x_t)))
    return apply_unet(unet, weights["unet"], x_t, t, rows, sizes, factor=networks.latent().factor)


def variation_cells(config: ConfigDict, pipeline: Pipeline) -> list[SheetCell]:
    """Held-out images, each with two made of it: of it alone, and of it and a prompt."""
    prompts = list(config.sample.prompts) or [""]
    cells = []
    for prompt, image in zip(prompts, inputs.held_out_images(config, len(prompts)), strict=True):
        [pixels] = to_pixels(image[None])
        texts = ("", prompt)
        made = [pipeline(text, image_prompt=pixels, batch_size=1, upsample="none")[0].image for text in texts]
        shown = [Image.fromarray(pixels), *made]
        lines = ("the image", "of it", f"and of: {prompt}")
        cells += [SheetCell(image, (SheetLine(line),)) for image, line in zip(shown, lines, strict=True)]
    return cells
