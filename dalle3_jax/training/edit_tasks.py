"""The tasks of what makes images from images: painting into masks, and following an image prompt."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dalle3_jax.training.random_masks import random_masks
from dalle3_jax.training.tasks import Batch, EncodeLatents, EncodeText, MakeTask, Task, conditioned_unet
from dalle3_jax.typing import Array, Float, Key, Params

__all__ = ["follow_images", "mask_cells", "paint_into_masks"]


def mask_cells(mask: Float[Array, "b h w 1"], factor: int) -> Float[Array, "b h2 w2 1"]:
    """The mask of latents of `factor` pixels a cell: a cell is edited where any of its pixels is."""
    b, height, width, _ = mask.shape
    return mask.reshape(b, height // factor, factor, width // factor, factor, 1).max(axis=(2, 4))


def paint_into_masks(
    encode_latents: EncodeLatents, encode_text: EncodeText, unet: Callable[..., Any], *, whole: float
) -> MakeTask:
    """The inpainting UNet's task: latents from captions, the mask, and the latents of the image outside it.

    Its input is what Stable Diffusion's inpainting UNets have: noisy latents, the mask (1 is to be painted), and the
    latents of the image that is 0, grey, within the mask. Masks are `random_masks`, `whole` of them of the whole image.
    The batch must hold `images`.
    """

    def make_task(weights: Params, batch: Batch, key: Key) -> Task:
        images = batch["images"]
        count, height, width, _ = images.shape
        mask = random_masks(key, count, height, width, whole)
        x0 = encode_latents(weights, batch)
        around = encode_latents(weights, {"images": images * (1 - mask)})
        beside = jnp.concatenate([mask_cells(mask, height // x0.shape[1]), around], axis=-1)
        network = conditioned_unet(unet, encode_text(weights, batch), batch)
        return Task(x0, lambda params, x_t, t: network(params, jnp.concatenate([x_t, beside], axis=-1), t))

    return make_task


def follow_images(
    encode_latents: EncodeLatents,
    encode_text: EncodeText,
    encode_image: Callable[[Params, Float[Array, "b h w 3"]], Float[Array, "b v"]],
    unet: Callable[..., Any],
    *,
    dropout: float,
) -> MakeTask:
    """The image prompt's task: latents from captions and the image's own features, a share `dropout` of them zero.

    encode_image(weights, images) gives the features, unet(weights, params, x_t, t, condition, features, sizes) the
    frozen UNet's output with the image prompt of `params`. The batch must hold `images`.
    """

    def make_task(weights: Params, batch: Batch, key: Key) -> Task:
        x0 = encode_latents(weights, batch)
        features, condition = encode_image(weights, batch["images"]), encode_text(weights, batch)
        kept = jax.random.bernoulli(key, jnp.float32(1 - dropout), (len(x0), 1))
        features, sizes = jnp.where(kept, features, 0), batch.get("sizes")
        return Task(x0, lambda params, x_t, t: unet(weights, params, x_t, t, condition, features, sizes))

    return make_task
