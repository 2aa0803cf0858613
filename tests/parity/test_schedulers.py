"""Samplers, times and first noise against the schedulers of diffusers, step by step, on one fixed network.

Our side is made of what `convert.schedulers.read` says of the scheduler's config.
"""

import functools
import json
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.schedulers import (
    scheduling_ddpm,
    scheduling_dpmsolver_multistep,
    scheduling_euler_ancestral_discrete,
    scheduling_lcm,
)
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_heun_discrete import HeunDiscreteScheduler
from diffusers.schedulers.scheduling_pndm import PNDMScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from dalle3_jax.convert import schedulers
from dalle3_jax.convert.scheduler_options import SCHEDULERS
from dalle3_jax.diffusion import prediction, samplers, schedules
from dalle3_jax.diffusion import spacing as laid
from dalle3_jax.diffusion.clipping import build_clipping

MOST = 13
SHAPE = (5, 6, 4)
WEIGHT = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
# diffusers asks numpy 2 to copy a torch tensor as numpy 1 did.
pytestmark = [
    pytest.mark.network("samplers", "diffusers schedulers"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CLASSES = {
    "ddim": DDIMScheduler,
    "ddpm": scheduling_ddpm.DDPMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler_ancestral": scheduling_euler_ancestral_discrete.EulerAncestralDiscreteScheduler,
    "heun": HeunDiscreteScheduler,
    "dpmsolver++": scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler,
    "dpmsolver++_sde": scheduling_dpmsolver_multistep.DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "lcm": scheduling_lcm.LCMScheduler,
}
IN_SIGMA = (CLASSES["euler"], CLASSES["euler_ancestral"], CLASSES["heun"])
NOISY = (scheduling_ddpm, scheduling_euler_ancestral_discrete, scheduling_dpmsolver_multistep, scheduling_lcm)
KINDS = {
    "eps": {"prediction_type": "epsilon"},
    "v": {"prediction_type": "v_prediction"},
    "x0": {"prediction_type": "sample"},
    "zero_snr_v": {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True},
}
SPACINGS = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"timestep_spacing": "linspace", "use_karras_sigmas": True},
    "karras_within_leading": {"timestep_spacing": "leading", "steps_offset": 1, "use_karras_sigmas": True},
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def network(numeric, x, time):
    """The same smooth function in jax.numpy and torch; channels last."""
    weight = jnp.asarray(WEIGHT) if numeric is jnp else torch.from_numpy(WEIGHT)
    return numeric.tanh(x @ weight) * (0.6 + 0.4 * numeric.cos(time / 300))[:, None, None, None]


def options_of(sampler):
    """What diffusers' scheduler for a sampler can be told."""
    return {*SCHEDULERS[CLASSES[sampler].__name__].defaults}


def scheduler_of(sampler, **options):
    """diffusers' scheduler, with options that its class does not have left out."""
    options = {"clip_sample": False, **options}
    options |= {"algorithm_type": {"dpmsolver++_sde": "sde-dpmsolver++"}.get(sampler)}
    taken = options_of(sampler)
    return CLASSES[sampler](**{key: value for key, value in options.items() if key in taken and value is not None})


def their_loop(scheduler, steps, noise, monkeypatch):
    """(The timesteps told, x at the first time and after each step, as alpha x0 + sigma eps), with the noise given."""
    scheduler.set_timesteps(steps)
    draws = iter(noise[1:])
    for module in NOISY:
        monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(draws))
    told, states = scheduler.timesteps, [noise[0] * scheduler.init_noise_sigma]
    for time, after in zip(told, [*told[1:], -1], strict=True):
        if isinstance(scheduler, DDIMScheduler):  # it steps over a fixed number of entries: here, to the next time
            scheduler.num_inference_steps = Fraction(1000, int(time - after))
        output = network(torch, scheduler.scale_model_input(states[-1], time), time.float().expand(2))
        states.append(scheduler.step(output, time, states[-1]).prev_sample)
    if isinstance(scheduler, IN_SIGMA):
        states = [x / (1 + sigma**2) ** 0.5 for x, sigma in zip(states, scheduler.sigmas, strict=True)]
    if scheduler.order == 2:  # Heun's second evaluation of a step is the one that counts; the last step has none
        return told[::2], [*states[::2], states[-1]]
    return told, states


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def ours(step, schedule, predict, state, times, keys, index):
    """One step, as one program for any times."""
    denoise = prediction.denoiser(lambda x, time: network(jnp, x, time), schedule, predict)
    return samplers.advance(step, denoise, schedule, state, times, keys, index, 1)


def compare(sampler, steps, agree, monkeypatch, limit=1e-4, told_within=1e-3, clipping=None, **options):
    """Run both from the same noise; every time told and every x must agree. `clipping` goes before the class's own."""
    scheduler = scheduler_of(sampler, **options)
    diffusion, sampling = schedulers.read_scheduler(json.loads(scheduler.to_json_string()))
    assert sampling == {"sampler": sampler}
    schedule, spacing = schedules.build_schedule(diffusion["schedule"]), laid.build_spacing(diffusion["spacing"])
    times = laid.sampling_times(schedule, steps, spacing, sampler)
    keys = jax.random.split(jax.random.key(0), 2)
    fresh = [keys, *(jax.vmap(jax.random.fold_in, (0, None))(keys, index) for index in range(steps))]
    fresh = [samplers.noise(each, SHAPE) for each in fresh]
    noise = [torch.from_numpy(np.array(each)) for each in fresh]
    told, states = their_loop(scheduler, steps, noise, monkeypatch)
    np.testing.assert_allclose(schedule.network_time(times[:-1]), told.numpy(), atol=told_within)
    state = samplers.initial_state(laid.initial_noise_std(schedule, steps, spacing, sampler) * fresh[0])
    padded = jnp.pad(times, (0, MOST + 1 - len(times)))
    clipping = clipping or diffusion.get("clipping")
    step = samplers.find_step(sampler, diffusion["prediction"], build_clipping(clipping) if clipping else None)
    for index, x in enumerate(states):
        agree(state.x, x, limit)
        if index < steps:
            state = ours(step, schedule, diffusion["prediction"], state, padded, keys, jnp.asarray(index))


ZERO_SNR = pytest.mark.network("samplers, zero SNR", "diffusers schedulers")
CASES = [
    pytest.param(sampler, kind, spacing, marks=ZERO_SNR if kind == "zero_snr_v" else ())
    for sampler in CLASSES
    if sampler != "lcm"  # which has times of its own
    for kind in ("eps", "v", "zero_snr_v")
    for spacing in SPACINGS
    if {*KINDS[kind], *SPACINGS[spacing]} <= options_of(sampler)
]


@pytest.mark.parametrize("steps", [10, MOST])
@pytest.mark.parametrize(("sampler", "kind", "spacing"), CASES)
def test_whole_loops(sampler, kind, spacing, steps, agree, monkeypatch):
    # Where alpha is 0 they take 2^-12. Euler's ancestral form keeps half a percent of the old noise then, ours none.
    looser = {"euler_ancestral": 6e-3, "dpmsolver++_sde": 2e-4}
    limit = looser.get(sampler, 1e-4) if kind == "zero_snr_v" else 1e-4
    # Between two entries we interpolate alpha, and they the logarithm of sigma.
    within = 0.1 if "karras" in spacing else 1e-3
    compare(sampler, steps, agree, monkeypatch, limit, within, **BETAS, **KINDS[kind], **SPACINGS[spacing])


@pytest.mark.parametrize("kind", ["eps", "v", "x0", pytest.param("zero_snr_v", marks=ZERO_SNR)])
@pytest.mark.parametrize(("steps", "original"), [(4, 50), (1, 50), (7, 50), (MOST, 1000)])
def test_latent_consistency(kind, steps, original, agree, monkeypatch):
    """Down to the table's first entries, where the boundary condition counts."""
    compare("lcm", steps, agree, monkeypatch, **BETAS, **KINDS[kind], original_inference_steps=original)


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmsolver++", "unipc"])
def test_the_prediction_of_images(sampler, agree, monkeypatch):
    compare(sampler, 10, agree, monkeypatch, **BETAS, **KINDS["x0"], **SPACINGS["trailing"])


# Heun's first step from the cosine table's end, where sigma / alpha is 20,000, is of first order here: not compared.
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("sampler", [sampler for sampler in CLASSES if sampler not in ("heun", "lcm")])
def test_the_cosine_table(sampler, spacing, agree, monkeypatch):
    betas = {"beta_schedule": "squaredcos_cap_v2"}
    # What they carry, x / alpha, is 20,000 at first: the digits of x0 in it are few.
    limit = 5e-4 if sampler.startswith("euler") else 1e-4
    compare(sampler, 10, agree, monkeypatch, limit, **betas, **KINDS["v"], **SPACINGS[spacing])


def test_the_table_that_is_linear_in_beta(agree, monkeypatch):
    betas = {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02}
    compare("ddim", 10, agree, monkeypatch, **betas, **KINDS["eps"], **SPACINGS["leading"])


@pytest.mark.parametrize("spacing", ["leading", "linspace"])
@pytest.mark.parametrize(
    ("sampler", "end"), [("ddim", {"set_alpha_to_one": False}), ("euler", {"final_sigmas_type": "sigma_min"})]
)
def test_loops_that_end_at_the_first_entry(sampler, end, spacing, agree, monkeypatch):
    compare(sampler, 10, agree, monkeypatch, **BETAS, **KINDS["eps"], **SPACINGS[spacing], **end)


BOUNDS = {
    "clipped": {"clip_sample": True, "clip_sample_range": 0.7},
    "thresholded": {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.4},
}


@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize("sampler", CLASSES)
def test_estimates_within_bounds(sampler, bounds, kind, agree, monkeypatch):
    """As a DDIM folder has them, whose pipeline was given another scheduler: some classes have no such option."""
    laying = {} if sampler == "lcm" else SPACINGS["leading"]
    folder = schedulers.read_scheduler({"_class_name": "DDIMScheduler", **BETAS, **KINDS[kind], **BOUNDS[bounds]})[0]
    how = {**BETAS, **KINDS[kind], **laying, **BOUNDS[bounds]}
    compare(sampler, 10, agree, monkeypatch, clipping=folder["clipping"], **how)


# PNDM steps over a fixed number of entries: only leading times are those of its loop at every number of steps.
@pytest.mark.parametrize(("spacing", "steps"), [("leading", 2), ("leading", 10), ("leading", MOST), ("trailing", 10)])
@pytest.mark.parametrize("kind", ["eps", "v"])
@pytest.mark.parametrize("own", [{"skip_prk_steps": True}, {"skip_prk_steps": True, "set_alpha_to_one": True}])
def test_pndm(own, kind, spacing, steps, agree):
    compare_pndm(own, kind, spacing, steps, agree)


@pytest.mark.parametrize(("spacing", "steps"), [("leading", 10), ("leading", MOST), ("trailing", 10)])
@pytest.mark.parametrize("kind", ["eps", "v"])
def test_pndm_that_begins_by_runge_kutta(kind, spacing, steps, agree):
    """Theirs needs four steps."""
    compare_pndm({}, kind, spacing, steps, agree)


def compare_pndm(own, kind, spacing, steps, agree):
    scheduler = PNDMScheduler(**BETAS, **KINDS[kind], **SPACINGS[spacing], **own)
    diffusion, sampling = schedulers.read_scheduler(json.loads(scheduler.to_json_string()))
    schedule, spaced = schedules.build_schedule(diffusion["schedule"]), laid.build_spacing(diffusion["spacing"])
    assert sampling == {"sampler": "pndm" if own else "pndm_prk"}
    keys = jax.random.split(jax.random.key(0), 2)
    first = samplers.noise(keys, SHAPE)

    @jax.jit
    def whole(x):
        denoise = prediction.denoiser(lambda x, time: network(jnp, x, time), schedule, diffusion["prediction"])
        times = laid.sampling_times(schedule, steps, spaced, sampling["sampler"])
        step = samplers.find_step(sampling["sampler"], diffusion["prediction"])
        return samplers.sample(step, denoise, schedule, x, times, keys)

    scheduler.set_timesteps(steps)
    x = torch.from_numpy(np.array(first))
    for time in torch.as_tensor(scheduler.timesteps):
        x = scheduler.step(network(torch, x, time.float().expand(2)), time, x).prev_sample
    agree(whole(first), x)


@pytest.mark.parametrize("sampler", CLASSES)
def test_what_is_written_makes_the_same_scheduler(sampler):
    # Latent consistency models have times of their own: what is said of others is not kept.
    spacing = {"original_inference_steps": 40} if sampler == "lcm" else SPACINGS["leading"]
    scheduler = scheduler_of(sampler, **BETAS, **KINDS["v"], **spacing)
    written = schedulers.write_scheduler(*schedulers.read_scheduler(json.loads(scheduler.to_json_string())))
    again = CLASSES[sampler].from_config(written)
    assert json.loads(again.to_json_string()) == json.loads(scheduler.to_json_string())
