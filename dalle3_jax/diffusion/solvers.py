"""Multistep solvers, which reuse the estimate of x0 before the present one; they step lambda = logsnr / 2.

The step over h = lambda_s - lambda_t takes x to (sigma_s / sigma_t) x + alpha_s (1 - exp(-h)) x0. Of second order, x0
is drawn on along the line of the two estimates to the middle of the step. Of first order is the first step, and the one
into sigma = 0, where lambda is infinite.
"""

from typing import NamedTuple

import jax.numpy as jnp

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.diffusion.steps import Images, Keys, SamplerState, Time, noise
from dalle3_jax.typing import Array, Bool, Denoise

__all__ = ["dpmsolver", "dpmsolver_sde", "unipc"]


class SolverStep(NamedTuple):
    """A step from t to s: lengths in lambda of itself and of the one before, and whether it is of second order."""

    alpha_s: Time
    sigma_s: Time
    sigma_t: Time
    carried: Time  # alpha_t sigma_s / sigma_t = alpha_s exp(-h), finite at both ends
    h: Time
    h_prev: Time
    second: Bool[Array, ""]


def dpmsolver(
    denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
) -> SamplerState:
    """DPM-Solver++ 2M (arXiv 2211.01095 algorithm 2)."""
    del keys
    step = _solver_step(schedule, t_prev, t, s)
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    return state._replace(x=_step_x(step, state.x, _extrapolate_x0(step, x0, state.x0)), x0=x0)


def dpmsolver_sde(
    denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
) -> SamplerState:
    """DPM-Solver++ 2M for the diffusion SDE (diffusers' sde-dpmsolver++): DDPM with the estimate drawn on."""
    step = _solver_step(schedule, t_prev, t, s)
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    ratio = jnp.exp(-step.h)
    kept = ratio * step.sigma_s / step.sigma_t * state.x
    fresh = step.sigma_s * jnp.sqrt(1 - ratio**2) * noise(keys, state.x.shape[1:])
    return state._replace(x=kept + step.alpha_s * (1 - ratio**2) * _extrapolate_x0(step, x0, state.x0) + fresh, x0=x0)


def unipc(
    denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
) -> SamplerState:
    """UniPC of order 2, B(h) = exp(h) - 1 (arXiv 2302.04867 algorithm 5 and 6, diffusers' "bh2").

    The predictor is that of `dpmsolver`. The estimate at t also corrects x, without a further evaluation: the last step
    left all of its corrector that does not wait for that estimate.
    """
    del keys
    step = _solver_step(schedule, t_prev, t, s)
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    x = state.base + state.gain * (x0 - state.x0)
    ahead, behind = _corrector_weights(step)
    base = _step_x(step, x, x0 + behind * (x0 - state.x0))
    gain = (step.alpha_s - step.carried) * ahead
    return SamplerState(_step_x(step, x, _extrapolate_x0(step, x0, state.x0)), x0, base, gain)


def _solver_step(schedule: Schedule, t_prev: Time, t: Time, s: Time) -> SolverStep:
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    before, now, after = (schedule.logsnr(time) / 2 for time in (t_prev, t, s))
    second = (t_prev > t) & (sigma_s > 0)
    h_prev = jnp.where(second, now - before, 1)
    return SolverStep(alpha_s, sigma_s, sigma_t, alpha_t * sigma_s / sigma_t, after - now, h_prev, second)


def _extrapolate_x0(step: SolverStep, x0: Images, x0_prev: Images) -> Images:
    """x0 half a step ahead on the line of the two estimates; the present one where the step is of first order."""
    return x0 + jnp.where(step.second, step.h / (2 * step.h_prev), 0) * (x0 - x0_prev)


def _step_x(step: SolverStep, x: Images, x0: Images) -> Images:
    return step.sigma_s / step.sigma_t * x + (step.alpha_s - step.carried) * x0


def _corrector_weights(step: SolverStep) -> tuple[Time, Time]:
    """UniC's weights: what the corrected step adds to x0 of its next change, and of its last.

    For short and even steps they are 5/12 and 1/12, those of Adams and Moulton.
    """
    h = jnp.where(jnp.isfinite(step.h), step.h, 1)
    linear = -1 / h - 1 / jnp.expm1(-h)  # exact for x0 linear in lambda; the other term for quadratic
    quadratic = jnp.where(step.second, (2 * linear - 1) / (h + step.h_prev), 0)
    ahead = jnp.where(step.second, linear - quadratic, 0.5)
    return ahead, quadratic * h / step.h_prev
