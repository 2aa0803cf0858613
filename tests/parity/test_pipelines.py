"""Whole pipelines against diffusers', from one folder and one initial noise: latents after 20 steps, and pictures."""

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.schedulers import scheduling_lcm

from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.png import to_pixels
from tests.parity import pipelines

STEPS, SIZE, SEEDS = 20, (64, 48), (3, 4)
PROMPTS = ["a cat, the hat", "12 dogs"]
pytestmark = [
    pytest.mark.network("pipelines", "diffusers, 20 steps"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SCHEDULERS = {
    "ddim": diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1, **pipelines.SCHEDULE),
    "euler": diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **pipelines.SCHEDULE),
    "dpmsolver++": diffusers.DPMSolverMultistepScheduler(**pipelines.SCHEDULE),
    "v_zero_snr": diffusers.DDIMScheduler(
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        **pipelines.SCHEDULE,
    ),
    "karras": diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True, **pipelines.SCHEDULE),
}


CASES = [(model, scheduler, "") for model in ("stable_diffusion", "stable_diffusion_xl") for scheduler in SCHEDULERS]
CASES += [(model, "ddim", "a dog") for model in ("stable_diffusion", "stable_diffusion_xl")]


@pytest.mark.parametrize(("model", "scheduler", "negative"), CASES)
def test_the_same_noise_gives_the_same_picture(model, scheduler, negative, tmp_path, agree):
    theirs = getattr(pipelines, model)(tmp_path, SCHEDULERS[scheduler])
    ours = Pipeline.load(tmp_path / "pipeline")
    settings = {"steps": STEPS, "guidance_scale": 4.0, "size": SIZE, "negative_prompt": negative}
    requests = [ours.request(prompt, seed=seed, **settings) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    condition = ours.prompts.get(PROMPTS)
    null = ours.prompts.get_null([negative] * 2)
    latents = ours.sample_latents(condition, null, requests)

    noise = np.array(initial(ours, requests)).transpose(0, 3, 1, 2)
    given = {"height": SIZE[0], "width": SIZE[1], "num_inference_steps": STEPS, "guidance_scale": 4.0}
    given |= {"negative_prompt": [negative] * 2} if negative else {}
    expected = theirs(PROMPTS, latents=torch.from_numpy(noise), output_type="latent", **given).images
    agree(latents, expected.permute(0, 2, 3, 1), limit=1e-3)

    scale = ours.system.latent.scale[0]
    with torch.no_grad():
        images = theirs.vae.decode(expected / scale).sample.permute(0, 2, 3, 1).numpy()
    levels = np.abs(to_pixels(ours.codec.decode(latents)).astype(int) - to_pixels(images).astype(int))
    assert levels.max() <= 2


def test_a_latent_consistency_model_in_four_steps(tmp_path, agree, monkeypatch):
    theirs = pipelines.latent_consistency(tmp_path, diffusers.LCMScheduler(**pipelines.SCHEDULE))
    ours = Pipeline.load(tmp_path / "pipeline")
    assert (ours.defaults["steps"], ours.defaults["guidance_scale"], ours.defaults["sampler"]) == (4, 8.5, "lcm")
    requests = [ours.request(prompt, seed=seed, size=SIZE) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    condition = ours.prompts.get(PROMPTS)
    latents = ours.sample_latents(condition, condition, requests)

    first = np.array(initial(ours, requests)).transpose(0, 3, 1, 2)
    keys = programs.fold_in_purpose(programs.image_keys(jnp.asarray(SEEDS, jnp.uint32)), programs.LOOP)
    steps = [programs.samplers.noise(programs.fold_in_purpose(keys, step), latents.shape[1:]) for step in range(3)]
    draws = iter([torch.from_numpy(np.array(noise).transpose(0, 3, 1, 2)) for noise in steps])
    monkeypatch.setattr(scheduling_lcm, "randn_tensor", lambda *_, **__: next(draws))
    given = {"height": SIZE[0], "width": SIZE[1], "guidance_scale": 8.5, "num_inference_steps": 4}
    expected = theirs(PROMPTS, latents=torch.from_numpy(first), output_type="latent", **given).images
    agree(latents, expected.permute(0, 2, 3, 1), limit=1e-3)


def initial(pipeline: Pipeline, requests) -> np.ndarray:
    """The noise before the sampler scales it, as diffusers' `latents` are."""
    seeds = np.asarray([request.seed for request in requests], np.uint32)
    shape = (SIZE[0] // 8, SIZE[1] // 8, 4)
    return programs.samplers.noise(
        programs.fold_in_purpose(programs.image_keys(jnp.asarray(seeds)), programs.INITIAL), shape
    )
