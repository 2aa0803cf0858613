"""Samplers by name, and the loop that runs one: `sample` takes all steps, `advance` any run of them.

A loop in chunks equals the whole one.
"""

import functools

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.solvers import dpmsolver, dpmsolver_sde, unipc
from dalle3_jax.diffusion.steps import Images, Keys, SamplerState, SamplerStep, consistency, ddim, heun, noise
from dalle3_jax.typing import Array, Denoise, Float, Int

__all__ = [
    "SAMPLERS",
    "SamplerState",
    "SamplerStep",
    "advance",
    "consistency",
    "ddim",
    "initial_state",
    "noise",
    "sample",
]

SAMPLERS: dict[str, SamplerStep] = {
    "ddim": ddim,
    "ddpm": functools.partial(ddim, eta=1.0),
    "euler": ddim,
    "euler_ancestral": functools.partial(ddim, eta=1.0),
    "heun": heun,
    "dpmsolver++": dpmsolver,
    "dpmsolver++_sde": dpmsolver_sde,
    "unipc": unipc,
    "consistency": consistency,
}
"""Euler's two are DDIM's in these coordinates; what differs is how diffusers lays their times (see `times`)."""


def initial_state(x: Images) -> SamplerState:
    """The state at the first time."""
    return SamplerState(x, jnp.zeros_like(x), x, jnp.zeros((), jnp.promote_types(x.dtype, jnp.float32)))


def advance(
    step: SamplerStep,
    denoise: Denoise,
    schedule: Schedule,
    state: SamplerState,
    times: Float[Array, " points"],
    keys: Keys,
    first: int | Int[Array, ""],
    count: int | Int[Array, ""],
) -> SamplerState:
    """Take steps first to first + count - 1, both of which may be traced.

    The noise of an image depends on its key and on the step's index only.
    """

    def one(index: int | Int[Array, ""], state: SamplerState) -> SamplerState:
        t_prev, t, s = times[jnp.maximum(index - 1, 0)], times[index], times[index + 1]
        here = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        return step(denoise, schedule, state, t_prev, t, s, here)

    # Not a scan: XLA inlines a scan of one step and rounds it otherwise, and a chunk must equal the whole loop.
    return jax.lax.fori_loop(first, first + count, one, state)


def sample(
    step: SamplerStep, denoise: Denoise, schedule: Schedule, x: Images, times: Float[Array, " points"], keys: Keys
) -> Images:
    """Run the whole loop from x at times[0]; returns x at times[-1], an estimate of x0 when that is 0."""
    return advance(step, denoise, schedule, initial_state(x), times, keys, 0, len(times) - 1).x
