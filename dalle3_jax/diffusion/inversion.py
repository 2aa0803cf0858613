"""DDIM inversion: the noise from which a sampler would have drawn an image that it did not draw."""

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.steps import Images, noise_in
from dalle3_jax.typing import Array, Denoise, Float, Int

__all__ = ["invert"]


def invert(
    denoise: Denoise,
    schedule: Schedule,
    images: Images,
    times: Float[Array, " points"],
    corrections: int = 0,
    first: int | Int[Array, ""] = 0,
) -> Images:
    """x at times[first] whose DDIM path over `times`, falling to 0, ends near `images` (arXiv 2010.02502 section 4.3).

    The path is walked back. Each step needs the eps at the x_t that it seeks: the first guess is that at t of the x
    where it stands, and `corrections` times the eps of the x_t so reached takes its place (fixed-point inversion,
    arXiv 2312.12540), which makes the round trip as exact as the evaluations are worth.
    """

    def back(index: Array, x: Images) -> Images:
        t, s = times[len(times) - 2 - index], times[len(times) - 1 - index]
        alpha_s, sigma_s, alpha_t, sigma_t = schedule.alpha(s), schedule.sigma(s), schedule.alpha(t), schedule.sigma(t)

        def reach(guess: Images) -> Images:
            """x_t of x_s = alpha_s x0 + sigma_s eps, with the eps at the guess."""
            eps = noise_in(guess, denoise(guess, jnp.full(guess.shape[:1], t)), alpha_t, sigma_t)
            return alpha_t * (x - sigma_s * eps) / alpha_s + sigma_t * eps

        return jax.lax.fori_loop(0, 1 + corrections, lambda _, guess: reach(guess), x)

    return jax.lax.fori_loop(0, len(times) - 1 - first, back, images)
