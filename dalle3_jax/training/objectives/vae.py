"""The autoencoder's loss: pixels, edges and the KL term."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from dalle3_jax.training.tasks import Apply
from dalle3_jax.typing import Array, Key, LossFn, Params

__all__ = ["vae_loss"]


def vae_loss(encode: Apply, decode: Apply, *, kl_weight: float = 1e-6, gradient_weight: float = 0.5) -> LossFn:
    """L1 of pixels and of their finite differences, and the KL term summed over an image's latent.

    encode(params, images) -> (mean, log variance); decode(params, latents) -> images in [-1, 1].
    """

    def loss_fn(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> tuple[Array, dict[str, Array]]:
        images = batch["images"]
        mean, logvar = encode(params["vae"], images)
        latents = mean + jnp.exp(0.5 * logvar) * jax.random.normal(key, mean.shape, mean.dtype)
        error = (decode(params["vae"], latents) - images).astype(jnp.float32)
        l1 = jnp.mean(jnp.abs(error))
        edges = jnp.mean(jnp.abs(jnp.diff(error, axis=1))) + jnp.mean(jnp.abs(jnp.diff(error, axis=2)))
        kl = 0.5 * jnp.sum(jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar, axis=(1, 2, 3)).mean()
        # pixels lie in [-1, 1], so the peak is 2
        psnr = 10.0 * jnp.mean(jnp.log10(4.0 / jnp.mean(jnp.square(error), axis=(1, 2, 3))))
        loss = l1 + gradient_weight * edges + kl_weight * kl
        return loss, {"l1": l1, "edges": edges, "kl": kl, "psnr": psnr}

    return loss_fn
