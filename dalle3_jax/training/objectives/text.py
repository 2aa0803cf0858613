"""What the text alone says of the latents: the loss that teaches the text side first."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from dalle3_jax.training.tasks import Apply, normalise_latents, text_condition
from dalle3_jax.typing import Array, Float, Key, LossFn, Params

__all__ = ["expected_latents", "text_loss"]


def expected_latents(
    networks: Mapping[str, Apply], weights: Params, batch: Mapping[str, Array]
) -> Float[Array, "b h w c"]:
    """E[x0 | text] as the text side and `latent_head` have it, normalised like the UNet's latents."""
    return networks["latent_head"](weights["latent_head"], text_condition(networks, weights, batch).tokens)


def text_loss(networks: Mapping[str, Apply], *, shift: Sequence[float], scale: Sequence[float]) -> LossFn:
    """Squared error of the latents that `latent_head` reads from the text alone: what a denoiser owes at t = 1.

    networks: `text_encoder`, `xfnet`, `latent_head`, for quoted text `glyph_encoder` and, for batches of images,
    `encode`. `explained` is the share of the latents' second moment that the text accounts for.
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        weights = {**frozen, **params}
        x0 = normalise_latents(networks, weights, batch, shift, scale)
        loss = jnp.mean(jnp.square(expected_latents(networks, weights, batch) - x0))
        return loss, {"explained": 1.0 - loss / jnp.mean(jnp.square(x0))}

    return loss_fn
