"""The size head's loss: the cross entropy of the size that a caption's picture has."""

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import optax

from dalle3_jax.typing import Array, Key, LossFn, Params

__all__ = ["size_head_loss"]


def size_head_loss(networks: Mapping[str, Callable[..., Any]]) -> LossFn:
    """networks: `text_encoder`, frozen, and `size_head`. A batch holds `ids`, `mask` and the size's number `bucket`."""

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        features = networks["text_encoder"](weights["text_encoder"], batch["ids"], batch["mask"])
        logits = networks["size_head"](weights["size_head"], features, batch["mask"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch["bucket"]).mean()
        return loss, {"right": jnp.mean(logits.argmax(-1) == batch["bucket"])}

    return loss_fn
