"""Steps of one sampler each, from time t to an earlier time s: DDIM (also Euler's method), Heun's, consistency.

All are written for x_t = alpha x0 + sigma eps and stay finite where alpha_t or sigma_s is 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxtyping

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Denoise, Float

__all__ = ["SamplerState", "SamplerStep", "consistency", "ddim", "ddim_to", "heun", "lcm", "noise", "noise_in"]

Images = Float[Array, "b h w c"]
Keys = jaxtyping.Key[Array, " b"]
Time = Float[Array, ""]
Times = Time | Float[Array, " b"]
"""One time for all images, or each image's own."""


class SamplerState(NamedTuple):
    """State of a sampling loop: x at the current time, the last step's estimate of x0, and the correction of x.

    With an estimate x0' at the current time, the corrected x is base + gain (x0' - x0); only "unipc" writes the two.
    `history` is of "pndm" alone (see there), empty for the others.
    """

    x: Images
    x0: Images
    base: Images
    gain: Time
    history: tuple[Array, ...] = ()


SamplerStep = Callable[[Denoise, Schedule, SamplerState, Time, Time, Time, Keys], SamplerState]
"""(denoise, schedule, state, t_prev, t, s, keys) -> the state at s < t.

t_prev is the time before t, t itself at the first step; keys are one for each image and step.
"""

LCM_SIGMA, LCM_TIME_SCALE = 0.5, 10.0
"""Of the boundary condition of latent consistency models (arXiv 2310.04378, diffusers' LCMScheduler)."""

NO_SIGNAL = 2.0**-12
"""The alpha below which sigma / alpha counts as infinite; `Schedule.logsnr` is cut there under zero terminal SNR."""


def noise_in(x_t: Images, x0: Images, alpha: Array, sigma: Array) -> Images:
    """The eps of x_t = alpha x0 + sigma eps."""
    return (x_t - alpha * x0) / sigma


def ddim_to(schedule: Schedule, x_t: Images, x0: Images, t: Times, s: Times) -> Images:
    """Each image at time s < t with the x0 and eps of x_t: a step of DDIM (arXiv 2010.02502 eq. 12), t above 0."""
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    if not t.ndim:
        return alpha_s * x0 + sigma_s * noise_in(x_t, x0, alpha_t, sigma_t)
    alpha_t, sigma_t, alpha_s, sigma_s = (rows[:, None, None, None] for rows in (alpha_t, sigma_t, alpha_s, sigma_s))
    # The same, rounded otherwise: samples repeat the last bits of the order above, training runs those of this one.
    return alpha_s * x0 + sigma_s / sigma_t * (x_t - alpha_t * x0)


def ddim(
    denoise: Denoise,
    schedule: Schedule,
    state: SamplerState,
    t_prev: Time,
    t: Time,
    s: Time,
    keys: Keys,
    eta: float = 0.0,
) -> SamplerState:
    """DDIM (arXiv 2010.02502 eq. 12 and 16); eta 1 is ancestral (DDPM) sampling.

    In y = x / alpha, whose noise has the standard deviation r = sigma / alpha, DDIM is Euler's method for dy/dr = eps,
    and eta 1 is k-diffusion's ancestral form of it. `eta` is a Python number, in [0, 1], so that 0 draws no noise.
    """
    del t_prev
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    if eta == 0:
        return state._replace(x=ddim_to(schedule, state.x, x0, t, s), x0=x0)
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    # ratio is exp(-h) of the step in logsnr / 2; kept^2 + fresh^2 = sigma_s^2 without cancellation.
    ratio = alpha_t * sigma_s / (alpha_s * sigma_t)
    fresh, kept = eta * sigma_s * jnp.sqrt(1 - ratio**2), sigma_s * jnp.sqrt(1 - eta**2 + (eta * ratio) ** 2)
    eps = noise_in(state.x, x0, alpha_t, sigma_t)
    return state._replace(x=alpha_s * x0 + kept * eps + fresh * noise(keys, state.x.shape[1:]), x0=x0)


def heun(
    denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
) -> SamplerState:
    """Heun's method in sigma / alpha (arXiv 2206.00364 algorithm 1): a step of DDIM, redone with the mean of eps.

    Evaluates twice; once, as DDIM, where s is clean, or where alpha_t is as good as 0 and the step infinitely long.
    """
    alpha_t, sigma_t, alpha_s, sigma_s = schedule.alpha(t), schedule.sigma(t), schedule.alpha(s), schedule.sigma(s)
    euler = ddim(denoise, schedule, state, t_prev, t, s, keys)

    def corrected() -> Images:
        x0 = denoise(euler.x, jnp.full(state.x.shape[:1], s))
        change = noise_in(euler.x, x0, alpha_s, sigma_s) - noise_in(state.x, euler.x0, alpha_t, sigma_t)
        return euler.x + (sigma_s - alpha_s * sigma_t / alpha_t) * change / 2

    twice = (sigma_s > 0) & (alpha_t > NO_SIGNAL)
    return euler._replace(x=jax.lax.cond(twice, corrected, lambda: euler.x))


def consistency(
    denoise: Denoise,
    schedule: Schedule,
    state: SamplerState,
    t_prev: Time,
    t: Time,
    s: Time,
    keys: Keys,
    temperature: float = 1.0,
) -> SamplerState:
    """The consistency model's estimate of x0 at t, noised afresh to s (arXiv 2303.01469 algorithm 1).

    `temperature` multiplies the fresh noise.
    """
    del t_prev
    x0 = denoise(state.x, jnp.full(state.x.shape[:1], t))
    fresh = temperature * noise(keys, state.x.shape[1:])
    return state._replace(x=schedule.alpha(s) * x0 + schedule.sigma(s) * fresh, x0=x0)


def lcm(
    denoise: Denoise, schedule: Schedule, state: SamplerState, t_prev: Time, t: Time, s: Time, keys: Keys
) -> SamplerState:
    """A step of a latent consistency model (arXiv 2310.04378): `consistency` of c_skip x_t + c_out x0.

    With the network time scaled by LCM_TIME_SCALE the two hold the estimate to x_t at the table's first entry.
    """

    def held_at_the_end(x_t: Images, t: Float[Array, " b"]) -> Images:
        time = (LCM_TIME_SCALE * schedule.network_time(t))[:, None, None, None]
        spread = jnp.hypot(time, LCM_SIGMA)
        return (LCM_SIGMA / spread) ** 2 * x_t + time / spread * denoise(x_t, t)

    return consistency(held_at_the_end, schedule, state, t_prev, t, s, keys)


def noise(keys: Keys, shape: tuple[int, ...]) -> Images:
    """Standard normal noise, each image (of shape h w c) from its own key alone."""
    return jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
