"""The captioner's loss: a contrastive and a language-model loss together (CoCa, arXiv 2205.01917)."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from dalle3_jax.typing import Array, Bool, Float, Int, Key, LossFn, Params

__all__ = ["captioner_loss", "image_text_loss", "next_token_targets"]


def captioner_loss(
    captioner: Callable[..., Any], *, start_id: int | None, contrastive: float = 1.0, caption: float = 2.0
) -> LossFn:
    """The weighted sum of both losses; the paper weighs captions twice.

    captioner(params, ids, mask, images) gives unit vectors of `images` and `texts`, the `scale` of their product and
    `logits` [b l vocab]. `start_id` begins every text; None where the tokenizer has begun it already. `agreement` is
    how often a picture's own caption is the nearest in the batch, `tokens` how often the likeliest token is right.
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        inputs, mask, targets, counts = next_token_targets(batch["ids"], batch["mask"], start_id)
        outputs = captioner({**frozen, **params}["captioner"], inputs, mask, batch["images"])
        contrastive_loss, agreement = image_text_loss(outputs.images, outputs.texts, outputs.scale)
        each = optax.softmax_cross_entropy_with_integer_labels(outputs.logits, targets)
        total = jnp.maximum(counts.sum(), 1)
        caption_loss = jnp.sum(each * counts) / total
        right = jnp.sum((outputs.logits.argmax(-1) == targets) & counts) / total
        metrics = {"contrastive": contrastive_loss, "caption": caption_loss, "agreement": agreement, "tokens": right}
        return contrastive * contrastive_loss + caption * caption_loss, metrics

    return loss_fn


def next_token_targets(
    ids: Int[Array, "b l"], mask: Bool[Array, "b l"], start_id: int | None
) -> tuple[Int[Array, "b m"], Bool[Array, "b m"], Int[Array, "b m"], Bool[Array, "b m"]]:
    """The network's inputs (ids, mask) and the token that it should say after each (ids, whether it counts).

    A text that a start is put before stays as long as it was; one that has begun loses its last token.
    """
    if start_id is None:
        return ids[:, :-1], mask[:, :-1], ids[:, 1:], mask[:, 1:]
    begun = jnp.pad(ids, ((0, 0), (1, 0)), constant_values=start_id)[:, :-1]
    return begun, jnp.pad(mask, ((0, 0), (1, 0)), constant_values=True)[:, :-1], ids, mask


def image_text_loss(
    images: Float[Array, "b v"], texts: Float[Array, "b v"], scale: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The mean cross entropy of finding the text of a picture and the picture of a text within the batch.

    Also the share of pictures whose own text is the nearest. The scale is bounded by 100 (CLIP, arXiv 2103.00020).
    """
    products = jnp.minimum(scale, 100.0) * images @ texts.T
    own = jnp.arange(len(products))
    each = optax.softmax_cross_entropy_with_integer_labels
    loss = (each(products, own).mean() + each(products.T, own).mean()) / 2
    return loss, jnp.mean(products.argmax(-1) == own)
