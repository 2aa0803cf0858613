"""The loss that trains the text side first: of latents that are predicted from the text alone."""

from collections.abc import Mapping

import jax.numpy as jnp

from dalle3_jax.training.tasks import Apply, EncodeLatents, EncodeText
from dalle3_jax.typing import Array, Float, Key, LossFn, Params

__all__ = ["expected_latents", "text_loss"]


def expected_latents(
    encode_text: EncodeText, latent_head: Apply, weights: Params, batch: Mapping[str, Array]
) -> Float[Array, "b h w c"]:
    """E[x0 | text] as the text side and `latent_head` have it, normalised like the UNet's latents."""
    return latent_head(weights["latent_head"], encode_text(weights, batch).tokens)


def text_loss(encode_latents: EncodeLatents, encode_text: EncodeText, latent_head: Apply) -> LossFn:
    """Squared error of the latents that `latent_head` reads from the text alone: what a denoiser owes at t = 1.

    latent_head(params, tokens) gives latents. `explained` is the share of the latents' second moment that the text
    accounts for.
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        x0 = encode_latents(weights, batch)
        loss = jnp.mean(jnp.square(expected_latents(encode_text, latent_head, weights, batch) - x0))
        return loss, {"explained": 1.0 - loss / jnp.mean(jnp.square(x0))}

    return loss_fn
