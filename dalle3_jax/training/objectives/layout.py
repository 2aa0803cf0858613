"""The loss that trains a text side on labels first: what stands where is to be read from the text alone."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dalle3_jax.training.tasks import Apply, Batch, EncodeText
from dalle3_jax.typing import Array, Bool, Float, Int, Key, LossFn, Params

__all__ = ["NOTHING", "bound_share", "layout_loss", "named_share"]


NOTHING = 0
"""The class of a cell that shows the background; the last one is that of a word, those between are the concepts."""

Recall = Callable[[Params, Batch, Bool[Array, "b m"]], Any]
"""(parameters, batch, known cells) -> the condition of the batch's text beside what those of its cells show."""

SHARE = 8.0
"""Of all cells together, beside one background: most of them show it."""


def layout_loss(encode_text: EncodeText, layout_head: Apply, recall: Recall | None = None) -> LossFn:
    """Cross entropy of every cell's class, of its tint and patch or of its letters, and of the background.

    layout_head(params, tokens, vector) gives `LayoutLogits`. A batch holds `cells`, `tints` and `patches` (b m),
    `letters` (b m 2) and `background` (b) beside its captions. What a caption leaves open keeps its entropy, but a name
    is worth as much at any place: a squared error of images would be owed to their backgrounds first, and a text side
    that earns that forgets names. With `recall` some cells are known of half of the pictures, and those that are not
    are learnt beside them: any of them from any others (arXiv 2110.02037).
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        known = known_cells(key, batch["cells"].shape) if recall else jnp.zeros(batch["cells"].shape, bool)
        condition = recall(weights, batch, known) if recall else encode_text(weights, batch)
        logits = layout_head(weights["layout_head"], condition.tokens, condition.vector)
        word = logits.classes.shape[-1] - 1
        shows = ~known & (batch["cells"] > NOTHING) & (batch["cells"] < word)
        reads = ~known & (batch["cells"] == word)
        cross_entropy = optax.softmax_cross_entropy_with_integer_labels
        share = SHARE / batch["cells"].shape[1]
        parts = {
            "cells": share * jnp.sum(~known * cross_entropy(logits.classes, batch["cells"]), axis=1).mean(),
            "tints": share * jnp.sum(shows * cross_entropy(logits.tints, batch["tints"]), axis=1).mean(),
            "patches": share * jnp.sum(shows * cross_entropy(logits.patches, batch["patches"]), axis=1).mean(),
            "letters": share
            * jnp.sum(reads[..., None] * cross_entropy(logits.letters, batch["letters"]), axis=(1, 2)).mean(),
            "background": cross_entropy(logits.backgrounds, batch["background"]).mean(),
        }
        shares = {
            "named": named_share(logits.classes, batch["cells"]),
            "bound": bound_share(logits.classes, batch["cells"]),
            "cells": jnp.mean(logits.classes.argmax(-1) == batch["cells"]),
            "backgrounds": jnp.mean(logits.backgrounds.argmax(-1) == batch["background"]),
        }
        spelt = reads[..., None] & (batch["letters"] > 0)
        shares["letters"] = jnp.sum(spelt & (logits.letters.argmax(-1) == batch["letters"])) / jnp.maximum(
            spelt.sum(), 1
        )
        losses = {f"loss_{name}": part for name, part in parts.items()}
        return sum(parts.values(), jnp.zeros((), jnp.float32)), {**losses, **shares}

    return loss_fn


def known_cells(key: Key, shape: tuple[int, ...]) -> Bool[Array, "b m"]:
    """Cells that are known: none of half of the pictures, a random share of the others."""
    half_key, share_key, cell_key = jax.random.split(key, 3)
    share = jax.random.uniform(share_key, (shape[0], 1)) * jax.random.bernoulli(half_key, 0.5, (shape[0], 1))
    return jax.random.uniform(cell_key, shape) < share


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
