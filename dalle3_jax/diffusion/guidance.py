"""Classifier-free guidance (arXiv 2207.12598): guided = conditional + (scale - 1) * (conditional - null).

One batched call gives both; the interval of times and the rescale of the standard deviation are apart from it.
"""

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["RESCALED", "check_rescaled", "classifier_free", "project_difference", "rescale_guided", "scale_at"]

Images = Float[Array, "b h w c"]
Scalar = int | float | Float[Array, "..."]
"""One number, or one for each image."""

RESCALED = ("v", "eps", "x0")
"""The outputs whose standard deviation a rescale can restore: the paper's is v, diffusers' what a network predicts."""


def check_rescaled(output: str) -> str:
    """The name itself; ValueError unless it is one of RESCALED."""
    if output not in RESCALED:
        raise ValueError(f"guidance_rescale of {output!r}: it rescales one of {', '.join(RESCALED)}")
    return output


def scale_at(t: Float[Array, " b"], scale: Scalar, interval: tuple[Scalar, Scalar]) -> Float[Array, " b"]:
    """The scale within the interval of times, both ends included, and 1 outside (arXiv 2404.07724)."""
    first, last = interval
    return jnp.where((t >= first) & (t <= last), scale, 1.0)


def classifier_free(
    denoise_both: Denoise,
    scale: Scalar,
    schedule: Schedule | None = None,
    interval: tuple[Scalar, Scalar] = (0.0, 1.0),
    rescale: Scalar = 0.0,
    rescaled: str = "v",
    projection: tuple[Scalar, Scalar] | None = None,
) -> Denoise:
    """Turn a Denoise over 2b rows [conditional; null] into a guided one over b rows; scale 1 is the conditional.

    Outside `interval` (first and last t, both included) the scale is 1 (arXiv 2404.07724). `rescale` in [0, 1] rescales
    the guided output to the conditional's standard deviation (see `rescale_guided`): that of what `rescaled` names, one
    of RESCALED, under the schedule, of x0 without one. `projection`, (parallel, norm) of `project_difference`, makes it
    adaptive projected guidance.
    """
    check_rescaled(rescaled)

    def difference(conditional: Images, null: Images) -> Images:
        return conditional - null if projection is None else project_difference(conditional, null, *projection)

    def denoise(x_t: Images, t: Float[Array, " b"]) -> Images:
        both = denoise_both(jnp.concatenate([x_t, x_t]), jnp.concatenate([t, t]))
        conditional, null = jnp.split(both, 2)
        # The paper's eq. 6, (1 + w) conditional - w null with w = scale - 1, in a form that is exact at scale 1.
        w = (scale_at(t, scale, interval) - 1).reshape(-1, 1, 1, 1)
        guided = conditional + w * difference(conditional, null)
        signal = 0 if schedule is None else _signal(rescaled, x_t, schedule.alpha(t).reshape(-1, 1, 1, 1))
        share = jnp.reshape(jnp.asarray(rescale, jnp.float32), (-1, 1, 1, 1))
        return rescale_guided(guided, conditional, signal, share)

    return denoise


def project_difference(conditional: Images, null: Images, parallel: Scalar, norm: Scalar) -> Images:
    """conditional - null of two estimates of x0, as adaptive projected guidance has it (arXiv 2410.02416, algorithm 1).

    Its norm in each image is cut to `norm` (0: it is not), and of its part along the conditional, which oversaturates,
    the share `parallel` is left. (1, 0) changes nothing. The paper's momentum, a sum over steps, is left out.
    """
    share, most = (jnp.reshape(jnp.asarray(rows, jnp.float32), (-1, 1, 1, 1)) for rows in (parallel, norm))
    axes = (1, 2, 3)
    difference = conditional - null
    size = jnp.sqrt(jnp.sum(jnp.square(difference), axis=axes, keepdims=True))
    difference = difference * jnp.where((most > 0) & (size > most), most / jnp.where(size > 0, size, 1), 1)
    squared = jnp.sum(jnp.square(conditional), axis=axes, keepdims=True)
    dot = jnp.sum(difference * conditional, axis=axes, keepdims=True)
    along = dot / jnp.where(squared > 0, squared, 1) * conditional
    return difference - (1 - share) * along


def rescale_guided(
    guided: Images, conditional: Images, signal: Images | int, rescale: Float[Array, "#b 1 1 1"]
) -> Images:
    """The guided x0, rescaled to the conditional's standard deviation (arXiv 2305.08891 section 3.4).

    With sigma v = signal - x0, where signal is alpha x_t, it is x0 of

        v_rescaled = v_guided * std(v_conditional) / std(v_guided)          eq. 15
        v_final = rescale * v_rescaled + (1 - rescale) * v_guided           eq. 16

    With the signal x_t / alpha it is that of eps in place of v, since sigma eps / alpha = x_t / alpha - x0; with 0 that
    of x0 itself.
    """
    v_guided, v_conditional = signal - guided, signal - conditional  # times sigma, which their ratio is free of
    std_conditional, std_guided = (jnp.std(v, axis=(1, 2, 3), keepdims=True) for v in (v_conditional, v_guided))
    ratio = std_conditional / jnp.where(std_guided > 0, std_guided, 1)
    # x0 = signal - sigma v_final, multiplied out: exact at rescale 0 and at ratio 1. Another order of the factors would
    # change the last bits of images, which must repeat. Flat images (a std of 0) are left as they are.
    return guided + v_guided * (1 - ratio) * (std_guided > 0).astype(v_guided.dtype) * rescale


def _signal(rescaled: str, x_t: Images, alpha: Float[Array, "b 1 1 1"]) -> Images | int:
    """The quantity that an output is, up to a factor for each image, the difference of and x0."""
    return {"v": lambda: alpha * x_t, "eps": lambda: x_t / alpha, "x0": lambda: 0}[rescaled]()
