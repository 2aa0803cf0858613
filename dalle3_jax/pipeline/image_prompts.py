"""Image prompts: what a UNet attends to of images, beside its text."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.data.transforms import centre_square, normalise_pixels, stretch_image
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import CLIP_MEAN, CLIP_STD, CLIPVisionEncoder
from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.models.image_prompt import ImagePrompt, add_image_keys
from dalle3_jax.pipeline.edit_settings import Edit
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Float, Params

__all__ = [
    "ImageRows",
    "add_image_rows",
    "encode_image_features",
    "image_conditions",
    "prepare_images",
    "read_image_rows",
]


class ImageRows(NamedTuple):
    """Features of the images that a batch is prompted with, those of no image, and how much each counts."""

    features: Float[Array, "b *l d"]
    null: Float[Array, "b *l d"]
    scale: Float[Array, " b"]


def read_image_rows(params: Params, edits: Sequence[Edit], system: PipelineSpec) -> ImageRows:
    """The image prompts of a batch of requests, all of which have one; `params` are the image encoder's."""
    encoder, prompt = system.image_encoder, system.image_prompt
    assert encoder is not None
    pixels = [edit.prompt_image.pixels for edit in edits if edit.prompt_image is not None]
    images = prepare_images(pixels, encoder, whole=not system.reads_text)
    sequence = prompt is not None and prompt.kind == "resampler"
    features, null = encode_image_features(params, images, encoder=encoder, sequence=sequence)
    return ImageRows(features, null, jnp.asarray([edit.prompt_scale for edit in edits], jnp.float32))


def image_conditions(image: ImageRows) -> tuple[Condition, Condition]:
    """The condition of a UNet that attends to an image's vector in place of text, and that of no image."""
    count = len(image.features)
    mask, vector = jnp.ones((count, 1), bool), jnp.zeros((count, 1))
    return Condition(image.features[:, None], mask, vector), Condition(image.null[:, None], mask, vector)


def prepare_images(pixels: Sequence[np.ndarray], encoder: Any, whole: bool = False) -> Float[np.ndarray, "b h w 3"]:
    """Images of uint8 [h w 3] as an encoder sees them: CLIP the square in their middle, a captioner all of them.

    With `whole` CLIP sees all of them too, sampled bicubically without a filter: what the authors of SD image
    variations ask for, since their model was trained so.
    """
    if isinstance(encoder, CLIPVisionEncoder):
        side = encoder.image_size
        squares = [sample_bicubic(image, side) if whole else centre_square(image, side) for image in pixels]
        mean, std = np.asarray(CLIP_MEAN, np.float32), np.asarray(CLIP_STD, np.float32)
        return (np.stack(squares).astype(np.float32) / 255 - mean) / std
    return normalise_pixels(np.stack([stretch_image(image, *encoder.image_size) for image in pixels]))


def sample_bicubic(pixels: np.ndarray, side: int) -> Float[np.ndarray, "s s 3"]:
    """The whole image at a square size by cubic convolution (a = -0.75) of four neighbours an axis, as PyTorch's.

    Where it is made smaller nothing is averaged.
    """

    def matrix(length: int) -> np.ndarray:
        places = (np.arange(side) + 0.5) * length / side - 0.5
        weights = np.zeros((side, length), np.float32)
        for tap in range(-1, 3):
            near = np.floor(places) + tap
            x, a = np.abs(places - near), -0.75
            inner = ((a + 2) * x - (a + 3)) * x**2 + 1
            share = np.where(x <= 1, inner, a * (((x - 5) * x + 8) * x - 4))
            np.add.at(weights, (np.arange(side), np.clip(near, 0, length - 1).astype(int)), share)
        return weights

    height, width, _ = pixels.shape
    return np.einsum("ih,hwc,jw->ijc", matrix(height), pixels.astype(np.float32), matrix(width), optimize=True)


@functools.partial(jax.jit, static_argnames=("encoder", "sequence"))
def encode_image_features(
    params: Params, images: Float[Array, "b h w 3"], *, encoder: nn.Module, sequence: bool
) -> tuple[Float[Array, "b *l d"], Float[Array, "b *l d"]]:
    """Features of images and those of no image: vectors and zeros, or the tokens of a sequence and those of a zero
    image, as IP-Adapter was trained."""
    if isinstance(encoder, Captioner):
        vectors: Any = encoder.apply({"params": params}, images, method="encode_image")
        return vectors, jnp.zeros_like(vectors)
    seen: Any = encoder.apply({"params": params}, images)
    if not sequence:
        return seen.vector, jnp.zeros_like(seen.vector)
    blank: Any = encoder.apply({"params": params}, jnp.zeros_like(images[:1]))
    return seen.tokens, jnp.broadcast_to(blank.tokens, seen.tokens.shape)


@functools.partial(jax.jit, static_argnames="prompt")
def add_image_rows(
    params: Params, rows: ProjectedCondition, image: ImageRows, *, prompt: ImagePrompt
) -> ProjectedCondition:
    """The rows of the sampling loop with the keys and values of images beside those of the text.

    Null rows, where `rows` has them below the others, get those of no image. `params` are the image prompt's.
    """
    features, scale = image.features, image.scale
    if len(rows.mask) > len(features):
        features, scale = jnp.concatenate([features, image.null]), jnp.concatenate([scale, scale])
    keys: Any = prompt.apply({"params": params}, features)
    return add_image_keys(rows, keys, scale)
