"""Samplers: each is one function that steps x from time t to an earlier time s, given a Denoise.

`sample` is the loop over all times; `advance` is any run of its steps, so that a loop in chunks equals the whole one.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float, Int

__all__ = [
    "SAMPLERS",
    "State",
    "Step",
    "advance",
    "consistency",
    "ddim",
    "dpmsolver",
    "initial",
    "noise",
    "sample",
    "times",
]

Images = Float[Array, "b h w c"]
Keys = jaxtyping.Key[Array, " b"]
Time = Float[Array, ""]


class State(NamedTuple):
    """What a loop carries: x at the current time, and the previous step's estimate of x0 (for multistep samplers)."""

    x: Images
    x0: Images


Step = Callable[[Denoise, Schedule, State, Time, Time, Time, Keys], State]
"""(denoise, schedule, state, t_prev, t, s, keys) -> the state at s < t.

t_prev is the time before t, t itself at the first step; keys are one for each image and step.
"""


def ddim(
    denoise: Denoise, schedule: Schedule, state: State, t_prev: Time, t: Time, s: Time, keys: Keys, eta: float = 0.0
) -> State:
    """DDIM (arXiv 2010.02502 eq. 12 and 16); eta 1 is ancestral (DDPM) sampling.

    `eta` is a Python number, in [0, 1], so that 0 draws no noise.
    """
    del t_prev
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    eps = (state.x - alpha_t * x0) / sigma_t
    if eta == 0:
        return State(alpha_s * x0 + sigma_s * eps, x0)
    # ratio is exp(-h) of the step in logsnr / 2; kept^2 + fresh^2 = sigma_s^2 without cancellation.
    ratio = alpha_t * sigma_s / (alpha_s * sigma_t)
    fresh, kept = eta * sigma_s * jnp.sqrt(1 - ratio**2), sigma_s * jnp.sqrt(1 - eta**2 + (eta * ratio) ** 2)
    return State(alpha_s * x0 + kept * eps + fresh * noise(keys, state.x.shape[1:]), x0)


def dpmsolver(denoise: Denoise, schedule: Schedule, state: State, t_prev: Time, t: Time, s: Time, keys: Keys) -> State:
    """DPM-Solver++ 2M (arXiv 2211.01095 algorithm 2): data prediction, steps in lambda = logsnr / 2.

    First order at the first step and at the one into sigma = 0, where lambda is infinite.
    """
    del keys
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    before, now, after = (schedule.logsnr(time) / 2 for time in (t_prev, t, s))
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    second = (t_prev > t) & (sigma_s > 0)
    slope = jnp.where(second, (after - now) / (2 * jnp.where(second, now - before, 1)), 0)
    x0_between = x0 + slope * (x0 - state.x0)
    # alpha_t sigma_s / sigma_t is alpha_s exp(-h), and stays finite at both ends.
    return State(sigma_s / sigma_t * state.x + (alpha_s - alpha_t * sigma_s / sigma_t) * x0_between, x0)


def consistency(
    denoise: Denoise,
    schedule: Schedule,
    state: State,
    t_prev: Time,
    t: Time,
    s: Time,
    keys: Keys,
    temperature: float = 1.0,
) -> State:
    """The image that a consistency model sees at t, noised afresh to s (arXiv 2303.01469 algorithm 1).

    `temperature` multiplies the fresh noise.
    """
    del t_prev
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    fresh = temperature * noise(keys, state.x.shape[1:])
    return State(schedule.alpha(s) * x0 + schedule.sigma(s) * fresh, x0)


SAMPLERS: dict[str, Step] = {
    "ddim": ddim,
    "ddpm": functools.partial(ddim, eta=1.0),
    "dpmsolver++": dpmsolver,
    "consistency": consistency,
}


def times(schedule: Schedule, steps: int, spacing: str = "uniform") -> Float[Array, " points"]:
    """steps + 1 times from 1 down to 0: "uniform" in t (diffusers' trailing timesteps), or "logsnr", uniform in logsnr.

    The latter spreads logsnr in [-10, logsnr(0.001)], between which an image is decided.
    """
    if steps < 1:
        raise ValueError(f"{steps} sampling steps: at least 1 is needed")
    if spacing == "uniform":
        return jnp.linspace(1.0, 0.0, steps + 1)
    if spacing == "logsnr":
        first, last = schedule.logsnr(jnp.asarray([1.0, 0.001]))
        between = schedule.t_of_logsnr(jnp.linspace(jnp.maximum(first, -10), last, steps))[1:]
        return jnp.concatenate([jnp.ones(1), between, jnp.zeros(1)])
    raise ValueError(f"unknown spacing {spacing!r}: choose uniform or logsnr")


def noise(keys: Keys, shape: tuple[int, ...]) -> Images:
    """Standard normal noise, each image (of shape h w c) from its own key alone."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def initial(x: Images) -> State:
    """The state at the first time."""
    return State(x, jnp.zeros_like(x))


def advance(
    step: Step,
    denoise: Denoise,
    schedule: Schedule,
    state: State,
    times: Float[Array, " points"],
    keys: Keys,
    first: int | Int[Array, ""],
    count: int | Int[Array, ""],
) -> State:
    """Take steps first to first + count - 1, both of which may be traced.

    The noise of an image depends on its key and on the step's index only.
    """

    def one(index: int | Int[Array, ""], state: State) -> State:
        t_prev, t, s = times[jnp.maximum(index - 1, 0)], times[index], times[index + 1]
        here = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
        return step(denoise, schedule, state, t_prev, t, s, here)

    # Not a scan: XLA inlines a scan of one step and rounds it otherwise, and a chunk must equal the whole loop.
    return jax.lax.fori_loop(first, first + count, one, state)


def sample(
    step: Step, denoise: Denoise, schedule: Schedule, x: Images, times: Float[Array, " points"], keys: Keys
) -> Images:
    """Run the whole loop from x at times[0]; returns x at times[-1], an estimate of x0 when that is 0."""
    return advance(step, denoise, schedule, initial(x), times, keys, 0, len(times) - 1).x
