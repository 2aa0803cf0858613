"""Classifier-free guidance (arXiv 2207.12598): one batched call for the condition and the null condition."""

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["classifier_free"]

Scalar = int | float | Float[Array, "..."]
"""One number, or one for each image."""


def classifier_free(
    denoise_both: Denoise,
    scale: Scalar,
    schedule: Schedule | None = None,
    interval: tuple[Scalar, Scalar] = (0.0, 1.0),
    rescale: Scalar = 0.0,
) -> Denoise:
    """Turn a Denoise over 2b rows [conditional; null] into a guided one over b rows; scale 1 is the conditional.

    Outside `interval` (first and last t, both included) the scale is 1 (arXiv 2404.07724). `rescale` in [0, 1] draws
    the guided output's standard deviation back to the conditional's (arXiv 2305.08891 section 3.4, eq. 14 to 16):
    that of v under the schedule, of x0 without one.
    """

    def denoise(x_t: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b h w c"]:
        both = denoise_both(jnp.concatenate([x_t, x_t]), jnp.concatenate([t, t]))
        conditional, null = jnp.split(both, 2)
        first, last = interval
        extra = jnp.where((t >= first) & (t <= last), scale - 1, 0).reshape(-1, 1, 1, 1)
        guided = conditional + extra * (conditional - null)
        clean = 0 if schedule is None else schedule.alpha(t).reshape(-1, 1, 1, 1) * x_t
        return guided + _rescale_correction(clean - guided, clean - conditional) * jnp.reshape(
            jnp.asarray(rescale), (-1, 1, 1, 1)
        )

    return denoise


def _rescale_correction(
    guided: Float[Array, "b h w c"], conditional: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """What to take from sigma v = alpha x_t - x0, guided, to give it the conditional's standard deviation."""
    wanted, found = (jnp.std(v, axis=(1, 2, 3), keepdims=True) for v in (conditional, guided))
    return guided * (1 - wanted / jnp.where(found > 0, found, 1)) * (found > 0)
