"""Estimates of x0 kept within bounds, as schedulers of diffusers keep them: clip_sample and dynamic thresholding."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.steps import Images, Keys, SamplerState, SamplerStep, Time, ddim, ddim_to
from dalle3_jax.typing import Denoise

__all__ = ["CLIPPED_SAMPLERS", "THRESHOLDED_SAMPLERS", "Clipping", "build_clipping", "clip_step"]

CLIPPED_SAMPLERS = ("ddim", "ddpm", "lcm", "heun")
THRESHOLDED_SAMPLERS = ("ddim", "ddpm", "lcm", "dpmsolver++", "dpmsolver++_sde", "unipc")
"""The samplers whose class of diffusers has the option clip_sample, or thresholding; the others never keep to bounds.

An option goes with a model from class to class there (`from_config`), and each reads those that it has."""


@dataclasses.dataclass(frozen=True)
class Clipping:
    """Bounds of estimates of x0: `bound` itself where `quantile` is 0, else those of dynamic thresholding.

    There (Imagen, arXiv 2205.11487 section 2.3) each image is cut at the quantile of its own absolute values, from 1
    up to `bound`, and divided by it.
    """

    bound: float = 1.0
    quantile: float = 0.0

    def acts_in(self, sampler: str) -> bool:
        """Whether a sampler keeps its estimates to these bounds."""
        return sampler in (THRESHOLDED_SAMPLERS if self.quantile else CLIPPED_SAMPLERS)

    def __call__(self, x0: Images) -> Images:
        """The estimates within their bounds."""
        if not self.quantile:
            return jnp.clip(x0, -self.bound, self.bound)
        sizes = jnp.quantile(jnp.abs(x0), self.quantile, axis=(1, 2, 3), keepdims=True)
        cut = jnp.clip(sizes, 1.0, self.bound)
        return jnp.clip(x0, -cut, cut) / cut


def build_clipping(fields: Mapping[str, float]) -> Clipping:
    """The clipping of these fields, as a release names them; ValueError for others, and for no bounds."""
    known = [field.name for field in dataclasses.fields(Clipping)]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"clipping has no field {', '.join(unknown)}: it has {', '.join(known)}")
    clipping = Clipping(**fields)
    bound, quantile = clipping.bound, clipping.quantile
    if not (0 < bound < math.inf and 0 <= quantile <= 1):
        raise ValueError(f"clipping at {bound} by the quantile {quantile}: a bound above 0, and a quantile in [0, 1]")
    return clipping


def clip_step(step: SamplerStep, clipping: Clipping) -> SamplerStep:
    """The step of a sampler with clipped estimates; DDIM keeps the noise of those that were not, as diffusers' does."""

    def clip_and_step(
        denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
    ) -> SamplerState:
        return step(lambda x_t, t: clipping(denoise(x_t, t)), schedule, state, t_prev, t, s, keys)

    def clip_and_step_ddim(
        denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
    ) -> SamplerState:
        x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
        change = clipping(x0) - x0
        return state._replace(x=ddim_to(schedule, state.x, x0, t, s) + schedule.alpha(s) * change, x0=x0 + change)

    return clip_and_step_ddim if step is ddim else clip_and_step
