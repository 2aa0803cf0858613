"""The task of a UNet that learns from labels: latents from what stands where, partly unsaid."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from dalle3_jax.training.tasks import Apply, Batch, EncodeLatents, MakeTask, Task, conditioned_unet
from dalle3_jax.typing import Array, Float, Key, Params

__all__ = ["blur_layout", "forget_layout", "layout_to_image"]

Layout = Any
"""A NamedTuple of probabilities in the cells of a picture (b m ...), and last of its `backgrounds` (b g)."""

RADIUS = 4
"""Cells by which a blurred layout leaves open, up or down and to either side, where its objects stand."""


def layout_to_image(
    encode_latents: EncodeLatents,
    read_labels: Callable[[Batch], Layout],
    layout_encoder: Apply,
    unet: Apply,
    *,
    grid: tuple[int, int],
    blurred: float,
    forgotten: float,
) -> MakeTask:
    """Latents from the layouts that `read_labels` makes of batches, of cells in a grid of (rows, columns).

    Of the pictures the share `blurred` tells its places more or less, the share `forgotten` nothing at all, as captions
    do: see `blur_layout` and `forget_layout`.
    """

    def make_task(weights: Params, batch: Batch, key: Key) -> Task:
        blur_key, forget_key = jax.random.split(key)
        layout = blur_layout(read_labels(batch), grid, blurred, blur_key)
        condition = layout_encoder(weights["layout_encoder"], forget_layout(layout, forgotten, forget_key))
        return Task(encode_latents(weights, batch), conditioned_unet(unet, condition, batch))

    return make_task


def blur_layout(layout: Layout, grid: tuple[int, int], share: float, key: Key) -> Layout:
    """Layouts of which a share is the mean over cells up to some distance, up and down and to either side."""
    b = len(layout.classes)
    chosen_key, *keys = jax.random.split(key, 3)
    chosen = jax.random.bernoulli(chosen_key, share, (b,))

    def mixing(key: Key, cells: int) -> Float[Array, "b n n"]:
        radius = jnp.where(chosen, jax.random.randint(key, (b,), 0, RADIUS + 1), 0)
        distance = jnp.abs(jnp.arange(cells)[:, None] - jnp.arange(cells)[None])
        near = (distance <= radius[:, None, None]).astype(jnp.float32)
        return near / jnp.sum(near, axis=-1, keepdims=True)

    down, across = (mixing(key, cells) for key, cells in zip(keys, grid, strict=True))

    def blur(part: Float[Array, "b m ..."]) -> Float[Array, "b m ..."]:
        mixed = jnp.einsum("bij,bjnk->bink", down, part.reshape(b, *grid, -1))
        return jnp.einsum("bnj,bijk->bink", across, mixed).reshape(part.shape)

    cells = (blur(part) for part in layout[:-1])
    return type(layout)(*cells, layout.backgrounds)


def forget_layout(layout: Layout, share: float, key: Key) -> Layout:
    """Layouts of which a share is the mean of the whole batch, in every cell: what an empty caption says."""
    forgotten = jax.random.bernoulli(key, share, (len(layout.classes),))

    def forget(part: Array) -> Array:
        mean = jnp.mean(part, axis=(0, 1) if part is not layout.backgrounds else 0)
        return jnp.where(forgotten.reshape(-1, *[1] * (part.ndim - 1)), mean, part)

    return type(layout)(*map(forget, layout))
