"""The loss that trains a text side on labels first: what stands where is to be read from the text alone."""

import dataclasses
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax

from dalle3_jax.training.tasks import Apply, EncodeLatents, EncodeText
from dalle3_jax.typing import Array, Bool, Float, Int, Key, LossFn, Params

__all__ = ["NOTHING", "Appearance", "appearance_error", "bound_share", "layout_loss", "named_share"]


NOTHING = 0
"""The class of a cell that shows the background; the last one is that of a word, those between are the concepts."""

SHARE = 8.0
"""Of all cells together, beside one background: most of them show it."""


@dataclasses.dataclass(frozen=True)
class Appearance:
    """Latents of pictures, from which the text side learns what things look like beside what stands where.

    latent_head(params, tokens) gives latents. `latents` is the weight of their squared error in the loss, `objects`
    that of a cell that shows an object in the error, beside 1 of any other.
    """

    encode_latents: EncodeLatents
    latent_head: Apply
    latents: float
    objects: float


def layout_loss(encode_text: EncodeText, layout_head: Apply, appearance: Appearance | None = None) -> LossFn:
    """Cross entropy of every cell's class, of its tint where it shows an object, and of the background.

    layout_head(params, tokens, vector) gives `LayoutLogits`. A batch holds `cells` and `tints` (b m) and `background`
    (b) beside its captions. What a caption leaves open keeps its entropy, but a name is worth as much at any place: a
    squared error of images would be owed to their backgrounds first, and a text side that earns that forgets names:
    with `appearance` it is added to the labels, whose loss keeps them.
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        condition = encode_text(weights, batch)
        logits = layout_head(weights["layout_head"], condition.tokens, condition.vector)
        shows = (batch["cells"] > NOTHING) & (batch["cells"] < logits.classes.shape[-1] - 1)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        share = SHARE / batch["cells"].shape[1]
        parts = {
            "cells": share * jnp.sum(cross_entropy(logits.classes, batch["cells"]), axis=1).mean(),
            "tints": share * jnp.sum(shows * cross_entropy(logits.tints, batch["tints"]), axis=1).mean(),
            "background": cross_entropy(logits.backgrounds, batch["background"]).mean(),
        }
        if appearance:
            x0 = appearance.encode_latents(weights, batch)
            latents = appearance.latent_head(weights["latent_head"], condition.tokens)
            parts["latents"] = appearance.latents * appearance_error(latents, x0, shows, appearance.objects)
        shares = {
            "named": named_share(logits.classes, batch["cells"]),
            "bound": bound_share(logits.classes, batch["cells"]),
            "cells": jnp.mean(logits.classes.argmax(-1) == batch["cells"]),
            "backgrounds": jnp.mean(logits.backgrounds.argmax(-1) == batch["background"]),
        }
        losses = {f"loss_{name}": part for name, part in parts.items()}
        return sum(parts.values(), jnp.zeros((), jnp.float32)), {**losses, **shares}

    return loss_fn


def appearance_error(
    latents: Float[Array, "b h w c"], x0: Float[Array, "b h w c"], shows: Bool[Array, "b m"], objects: float
) -> Float[Array, ""]:
    """Mean squared error over cells, those that show an object counted `objects` times.

    The cells are squares of latents, row by row over a grid of any shape; ValueError for m that are none.
    """
    (b, height, width, channels), cells = x0.shape, shows.shape[1]
    side = math.isqrt(height * width // cells)
    if not side or height % side or width % side or (height // side) * (width // side) != cells:
        raise ValueError(f"{cells} cells are no squares of {height} x {width} latents: mend the layout head's grid")
    squared = jnp.square(latents - x0).reshape(b, height // side, side, width // side, side, channels)
    counted = jnp.where(shows, objects, 1.0)
    return jnp.sum(counted * squared.mean(axis=(2, 4, 5)).reshape(b, -1)) / jnp.sum(counted)


def named_share(logits: Float[Array, "b m k"], cells: Int[Array, "b m"]) -> Float[Array, ""]:
    """The share of pictures with objects of which the likeliest one, wherever it may stand, is shown."""
    objects = jax.nn.softmax(logits)[..., 1:-1].sum(axis=1)
    first = objects.argmax(axis=-1) + 1
    shown = jnp.any(cells == first[:, None], axis=1)
    some = jnp.any((cells > NOTHING) & (cells < logits.shape[-1] - 1), axis=1)
    return jnp.sum(shown & some) / jnp.maximum(some.sum(), 1)


def bound_share(logits: Float[Array, "b m k"], cells: Int[Array, "b m"]) -> Float[Array, ""]:
    """Of the cells that show objects, in pictures of two concepts or more, the share of which the likeliest is right.

    Half of them are, of two, where a text side knows what a picture shows and not which of it stands where.
    """
    shows = (cells > NOTHING) & (cells < logits.shape[-1] - 1)
    several = jnp.max(cells, axis=1, where=shows, initial=0) > jnp.min(
        cells, axis=1, where=shows, initial=logits.shape[-1]
    )
    counted = shows & several[:, None]
    right = logits[..., 1:-1].argmax(axis=-1) + 1 == cells
    return jnp.sum(right & counted) / jnp.maximum(counted.sum(), 1)
