"""Samplers by name, and the loop that runs one: `sample` takes all steps, `advance` any run of them.

A loop in chunks equals the whole one.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion.clipping import Clipping, clip_step
from dalle3_jax.diffusion.pndm import PAST_OUTPUTS, pndm
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.solvers import dpmsolver, dpmsolver_sde, unipc
from dalle3_jax.diffusion.steps import Images, Keys, SamplerState, SamplerStep, consistency, ddim, heun, lcm, noise
from dalle3_jax.typing import Array, Denoise, Float, Int

__all__ = [
    "SAMPLERS",
    "DenoiseWithMemory",
    "SamplerState",
    "SamplerStep",
    "advance",
    "advance_with_memory",
    "consistency",
    "ddim",
    "evaluates_between",
    "find_step",
    "initial_state",
    "noise",
    "past_outputs",
    "sample",
]

DenoiseWithMemory = Callable[[Images, Float[Array, " b"], Array, Int[Array, ""]], tuple[Images, Array]]
"""(x_t, t, memory, index of the step) -> x0 and the memory of the next step."""

SAMPLERS: Mapping[str, SamplerStep] = {
    "ddim": ddim,
    "ddpm": functools.partial(ddim, eta=1.0),
    "euler": ddim,
    "euler_ancestral": functools.partial(ddim, eta=1.0),
    "heun": heun,
    "dpmsolver++": dpmsolver,
    "dpmsolver++_sde": dpmsolver_sde,
    "unipc": unipc,
    "pndm": pndm,
    "pndm_prk": functools.partial(pndm, runge_kutta=True),
    "consistency": consistency,
    "lcm": lcm,
}
"""Euler's two are DDIM's in these coordinates; what differs is how diffusers spaces their times (see `spacing`)."""
SAMPLERS = MappingProxyType(SAMPLERS)  # programs are kept by names and sources: nothing joins while one runs


def find_step(sampler: str, prediction: str = "eps", clipping: Clipping | None = None) -> SamplerStep:
    """The step of a sampler by name, for a network of this prediction: PNDM combines what the network predicts.

    `clipping`, where there is one, keeps its estimates of x0 within bounds, in samplers that have such.
    """
    step: Any = SAMPLERS[sampler]
    step = functools.partial(step, prediction=prediction) if past_outputs(step) else step
    return clip_step(step, clipping) if clipping is not None and clipping.acts_in(sampler) else step


def evaluates_between(sampler: str) -> bool:
    """Whether steps of a sampler evaluate the network up to their end too, and not only at their start."""
    return sampler in ("heun", "pndm", "pndm_prk")


def past_outputs(step: SamplerStep) -> int:
    """The outputs of earlier times that a sampler's step needs."""
    while isinstance(step, functools.partial):
        step = step.func
    return PAST_OUTPUTS if step is pndm else 0


def initial_state(x: Images, past: int = 0) -> SamplerState:
    """The state at the first time, with room for the `past_outputs` of the sampler."""
    wide = jnp.promote_types(x.dtype, jnp.float32)
    history = (jnp.zeros((), jnp.float32), *[jnp.zeros_like(x)] * past) if past else ()
    return SamplerState(x, jnp.zeros_like(x), x, jnp.zeros((), wide), history)


def advance(
    step: SamplerStep,
    denoise: Denoise,
    schedule: Schedule,
    state: SamplerState,
    times: Float[Array, " points"],
    keys: Keys,
    first: int | Int[Array, ""],
    count: int | Int[Array, ""],
    begin: int | Int[Array, ""] = 0,
) -> SamplerState:
    """Take steps first to first + count - 1, of a loop whose own first step is `begin`; all three may be traced.

    Image to image begins late, at a step that has none before it. The noise of an image depends on its key and on the
    step's index only.
    """

    def one(index: int | Int[Array, ""], state: SamplerState) -> SamplerState:
        return _take_step(step, denoise, schedule, state, times, keys, index, begin)

    # Not a scan: XLA inlines a scan of one step and rounds it otherwise, and a chunk must equal the whole loop.
    return jax.lax.fori_loop(first, first + count, one, state)


def advance_with_memory(
    step: SamplerStep,
    denoise: DenoiseWithMemory,
    schedule: Schedule,
    state: SamplerState,
    memory: Array,
    times: Float[Array, " points"],
    keys: Keys,
    first: int | Int[Array, ""],
    count: int | Int[Array, ""],
    begin: int | Int[Array, ""] = 0,
) -> SamplerState:
    """The same with a Denoise that is given what it kept in the step before, at the first step `memory`.

    For samplers that evaluate once a step, at its start (see `evaluates_between`).
    """

    def one(index: Int[Array, ""], carry: tuple[SamplerState, Array]) -> tuple[SamplerState, Array]:
        state, memory = carry
        x0, memory = denoise(state.x, jnp.full(state.x.shape[:1], times[index]), memory, index)
        return _take_step(step, lambda x_t, t: x0, schedule, state, times, keys, index, begin), memory

    return jax.lax.fori_loop(first, first + count, one, (state, memory))[0]


def _take_step(
    step: SamplerStep,
    denoise: Denoise,
    schedule: Schedule,
    state: SamplerState,
    times: Float[Array, " points"],
    keys: Keys,
    index: int | Int[Array, ""],
    begin: int | Int[Array, ""],
) -> SamplerState:
    t_prev, t, s = times[jnp.maximum(index - 1, begin)], times[index], times[index + 1]
    here = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    return step(denoise, schedule, state, t_prev, t, s, here)


def sample(
    step: SamplerStep, denoise: Denoise, schedule: Schedule, x: Images, times: Float[Array, " points"], keys: Keys
) -> Images:
    """Run the whole loop from x at times[0]; returns x at times[-1], an estimate of x0 when that is 0."""
    return advance(step, denoise, schedule, initial_state(x, past_outputs(step)), times, keys, 0, len(times) - 1).x
