"""PNDM (arXiv 2202.09778), the sampler of Stable Diffusion 1's folders: Adams-Bashforth on the network's outputs.

The outputs of the last four times, combined with the weights of a linear multistep method, take the place of the output
in a step of DDIM. What is combined is eps, or v for a network that predicts v, as in diffusers' PNDMScheduler. The
weights are those of even steps of sigma / alpha, which steps of t are not: the error is of second order, as published.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from dalle3_jax.diffusion.prediction import x0_from_output
from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.steps import NO_SIGNAL, Images, Keys, SamplerState, Time, ddim_to, noise_in
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["PAST_OUTPUTS", "pndm"]

PAST_OUTPUTS = 3
"""The outputs of earlier times that a step combines with its own."""

ADAMS_BASHFORTH = (
    (1, 0, 0, 0),
    (3 / 2, -1 / 2, 0, 0),
    (23 / 12, -16 / 12, 5 / 12, 0),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""Weights of the present output and of those before it, by the number of those that are there."""


def pndm(
    denoise: Denoise,
    schedule: Schedule,
    state: SamplerState,
    t_prev: Time,
    t: Time,
    s: Time,
    keys: Keys,
    prediction: str = "eps",
    runge_kutta: bool = False,
) -> SamplerState:
    """One step of PNDM; `prediction` is "v" for a network whose v is combined, eps is for all others.

    The first step evaluates twice and takes the mean (the paper's pseudo improved Euler method, or diffusers'
    skip_prk_steps: PLMS); with `runge_kutta` each of the first three evaluates four times (eq. 13). Those to the clean
    image evaluate once. `state.history` holds the number of past outputs and these, the latest first.
    """
    del t_prev, keys
    count, *past = state.history
    combined_as = "v" if prediction == "v" else "eps"
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    output = _output(combined_as, schedule, state.x, x0, t).astype(state.x.dtype)

    def estimate(output: Images) -> Images:
        rows = jnp.full(state.x.shape[:1], t)
        image = x0_from_output(combined_as, output, state.x, schedule.alpha(rows), schedule.sigma(rows))
        # Where alpha is as good as 0, eps is all of x_t and says nothing of the image.
        return image if combined_as == "v" else jnp.where(schedule.alpha(t) > NO_SIGNAL, image, x0)

    def step_to(output: Images, time: Time) -> Images:
        return ddim_to(schedule, state.x, estimate(output), t, time)

    def output_at(x: Images, time: Time) -> Images:
        return _output(combined_as, schedule, x, denoise(x, jnp.full(x.shape[:1], time)), time)

    def multistep() -> Images:
        weights = jnp.asarray(ADAMS_BASHFORTH, state.x.dtype)[count.astype(jnp.int32)]
        return sum((w * each for w, each in zip(weights, [output, *past], strict=True)), jnp.zeros_like(output))

    def improved_euler() -> Images:
        return (output + output_at(step_to(output, s), s)) / 2

    begins = _runge_kutta(step_to, output_at, output, _middle(schedule, t, s), s) if runge_kutta else improved_euler
    beginning = (count < (PAST_OUTPUTS if runge_kutta else 1)) & (schedule.sigma(s) > 0)
    x0 = estimate(jax.lax.cond(beginning, begins, multistep))
    history = (jnp.minimum(count + 1, PAST_OUTPUTS), output, *past[:-1])
    return state._replace(x=ddim_to(schedule, state.x, x0, t, s), x0=x0, history=history)


def _output(combined_as: str, schedule: Schedule, x_t: Images, x0: Images, t: Time) -> Images:
    """The eps or v that an estimate of x0 stands for."""
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return (alpha * x_t - x0) / sigma if combined_as == "v" else noise_in(x_t, x0, alpha, sigma)


def _runge_kutta(
    step_to: Callable[[Images, Time], Images],
    output_at: Callable[[Images, Time], Images],
    first: Images,
    middle: Float[Array, ""],
    s: Time,
) -> Callable[[], Images]:
    """The mean of four outputs, those in the middle of the step counting twice."""

    def outputs() -> Images:
        second = output_at(step_to(first, middle), middle)
        third = output_at(step_to(second, middle), middle)
        fourth = output_at(step_to(third, s), s)
        return (first + 2 * second + 2 * third + fourth) / 6

    return outputs


def _middle(schedule: Schedule, t: Time, s: Time) -> Time:
    """The middle of a step; of a table a whole number of entries from its start, as diffusers counts them."""
    half = (t - s) / 2
    return t - (jnp.floor(half * schedule.steps + 1e-3) / schedule.steps if schedule.steps else half)
