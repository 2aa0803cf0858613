"""SDEdit (arXiv 2108.01073): images noised to a time and brought back, so that a model makes them its own."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.steps import Images, ddim_to
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["sdedit"]


def sdedit(
    denoise: Denoise,
    schedule: Schedule,
    images: Images,
    noise: Images,
    times: Float[Array, " points"] | Sequence[Float[Array, " b"]],
) -> Images:
    """Images (or latents) noised to times[0] and brought back to times[-1] in steps of DDIM.

    An array holds the times of all images: the steps are one compiled loop. A sequence holds each image's own times:
    its steps are unrolled, for the few that a training step affords.
    """
    t = times[0]
    alpha, sigma = (f(t) if not t.ndim else f(t)[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    x = alpha * images + sigma * noise

    def step(x: Images, t: Array, s: Array) -> Images:
        return ddim_to(schedule, x, denoise(x, jnp.broadcast_to(t, len(x))), t, s)

    if isinstance(times, jax.Array):
        return jax.lax.fori_loop(0, len(times) - 1, lambda i, x: step(x, times[i], times[i + 1]), x)
    for t, s in itertools.pairwise(times):
        x = step(x, t, s)
    return x
