"""Inpainting and image to image as transformations of a sampling loop: no network knows of them."""

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["inpaint"]

Images = Float[Array, "b h w c"]


def inpaint(
    denoise: Denoise,
    schedule: Schedule,
    original: Images,
    mask: Float[Array, "b h w 1"],
    noise: Images,
) -> Denoise:
    """A Denoise that repaints where `mask` is 1 and knows the `original` where it is 0; in between it blends.

    Before every evaluation x_t outside the mask becomes the original at time t, always with the same `noise` (RePaint's
    known region, arXiv 2201.09865 eq. 8a, with the noise held as diffusers does); of the estimates of x0 that part is
    the original itself, so that every sampler ends there whatever it remembers of former steps.
    """

    def blend(new: Images, known: Images) -> Images:
        return mask * new + (1 - mask) * known

    def repaint(x_t: Images, t: Float[Array, " b"]) -> Images:
        alpha, sigma = (rows[:, None, None, None] for rows in (schedule.alpha(t), schedule.sigma(t)))
        return blend(denoise(blend(x_t, alpha * original + sigma * noise), t), original)

    return repaint
