"""Samplers against the schedulers of diffusers, step by step, on one fixed network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from dalle3_jax.diffusion import prediction, samplers
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear

STEPS = 10
WEIGHT = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
# diffusers asks numpy 2 to copy a torch tensor as numpy 1 did.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

OURS_TO_THEIRS = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
CASES = [
    ("scaled_linear", "eps", False),
    ("scaled_linear", "v", False),
    ("scaled_linear", "x0", False),
    ("scaled_linear", "v", True),
    ("squaredcos_cap_v2", "eps", False),
    ("squaredcos_cap_v2", "v", False),
]


def network(numeric, x, time):
    """The same smooth function in jax.numpy and torch; channels last."""
    weight = jnp.asarray(WEIGHT) if numeric is jnp else torch.from_numpy(WEIGHT)
    return numeric.tanh(x @ weight) * (0.6 + 0.4 * numeric.cos(time / 300))[:, None, None, None]


def schedule_of(betas, zero_snr):
    return Cosine() if betas == "squaredcos_cap_v2" else ScaledLinear(zero_terminal_snr=zero_snr)


def options(betas, kind, zero_snr):
    return {
        "beta_schedule": betas,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "prediction_type": OURS_TO_THEIRS[kind],
        "rescale_betas_zero_snr": zero_snr,
        "timestep_spacing": "trailing",
    }


def compare(scheduler, step, betas, kind, zero_snr, agree, **extra):
    """Run both from the same x and keys; every state must agree."""
    schedule = schedule_of(betas, zero_snr)
    denoise = prediction.denoiser(lambda x, time: network(jnp, x, time), schedule, kind)
    keys = jax.random.split(jax.random.key(0), 2)
    x = samplers.noise(keys, (5, 6, 4))
    state, theirs, times = samplers.initial(x), torch.from_numpy(np.array(x)), samplers.times(schedule, STEPS)
    scheduler.set_timesteps(STEPS)
    advance = jax.jit(lambda state, index: samplers.advance(step, denoise, schedule, state, times, keys, index, 1))
    for index, timestep in enumerate(scheduler.timesteps):
        # The cosine table has no index of its own here: entry i is t = (i + 1) / 1000, and our network sees 1000 t.
        time = timestep + isinstance(schedule, Cosine)
        np.testing.assert_allclose(schedule.network_time(times[index]), float(time), rtol=1e-6)
        fresh = samplers.noise(jax.vmap(jax.random.fold_in, (0, None))(keys, index), (5, 6, 4))
        noise = {"variance_noise": torch.from_numpy(np.array(fresh))} if extra.get("eta") else {}
        output = network(torch, theirs, time.float().expand(2))
        theirs = scheduler.step(output, timestep, theirs, **extra, **noise).prev_sample
        state = advance(state, jnp.asarray(index))
        agree(state.x, theirs)


@pytest.mark.parametrize(("betas", "kind", "zero_snr"), CASES)
def test_ddim(betas, kind, zero_snr, agree):
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **options(betas, kind, zero_snr))
    compare(scheduler, samplers.SAMPLERS["ddim"], betas, kind, zero_snr, agree)


def rounded_down(variance):
    """A variance one rounding smaller, so that diffusers' root of 1 - alpha - variance is never that of -6e-8: NaN."""
    return lambda *times: variance(*times) * (1.0 - 2.0**-23)


# From alpha = 0 all noise is fresh, where diffusers keeps sqrt(6e-8) of the old by cancellation in float32.
@pytest.mark.parametrize(("betas", "kind", "zero_snr", "limit"), [(*CASES[1], 1e-4), (*CASES[3], 4e-4)])
def test_ddim_with_fresh_noise(betas, kind, zero_snr, limit, agree):
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True, **options(betas, kind, zero_snr))
    scheduler._get_variance = rounded_down(scheduler._get_variance)
    compare(scheduler, samplers.SAMPLERS["ddpm"], betas, kind, zero_snr, functools.partial(agree, limit=limit), eta=1.0)


@pytest.mark.parametrize(("betas", "kind", "zero_snr"), CASES)
def test_dpmsolver_2m(betas, kind, zero_snr, agree):
    scheduler = DPMSolverMultistepScheduler(solver_order=2, **options(betas, kind, zero_snr))
    compare(scheduler, samplers.SAMPLERS["dpmsolver++"], betas, kind, zero_snr, agree)
