"""Image to image and inpainting against diffusers', from one folder, one image's latents and one noise."""

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_img2img as image_to_image
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint as inpainting
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_img2img as refining

from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.batching import encode_edits
from tests.parity import pipelines

STEPS, SIZE, SEEDS = 20, (64, 48), (3, 4)
PROMPTS = ["a cat, the hat", "12 dogs"]
pytestmark = [
    pytest.mark.network("edits", "diffusers, image to image and inpainting"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
SCHEDULERS = {
    "ddim": lambda: diffusers.DDIMScheduler(
        clip_sample=False, set_alpha_to_one=False, steps_offset=1, **pipelines.SCHEDULE
    ),
    "euler": lambda: diffusers.EulerDiscreteScheduler(timestep_spacing="leading", steps_offset=1, **pipelines.SCHEDULE),
    "heun": lambda: diffusers.HeunDiscreteScheduler(timestep_spacing="trailing", **pipelines.SCHEDULE),
    "dpmsolver++": lambda: diffusers.DPMSolverMultistepScheduler(**pipelines.SCHEDULE),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**pipelines.SCHEDULE),
}
MASK = np.zeros((*SIZE, 1), np.float32)
MASK[16:56, 8:24] = 1
CELLS = MASK[::8, ::8]


def picture() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (*SIZE, 3), np.uint8)


def torch_rows(rows) -> torch.Tensor:
    return torch.from_numpy(np.array(rows).transpose(0, 3, 1, 2).copy())


def prepared(folder, mask=None, **settings):
    """Our pipeline, its requests of an image, what they begin with, and their noise as diffusers has it."""
    ours = Pipeline.load(folder)
    mask = None if mask is None else (255 * mask[..., 0]).astype(np.uint8)
    how = {"steps": STEPS, "guidance_scale": 4.0, "size": SIZE, "image": picture(), "mask": mask, **settings}
    requests = [ours.request(prompt, seed=seed, **how) for prompt, seed in zip(PROMPTS, SEEDS, strict=True)]
    keys = programs.fold_in_purpose(programs.image_keys(jnp.asarray(SEEDS, jnp.uint32)), programs.INITIAL)
    noise = programs.samplers.noise(keys, (SIZE[0] // 8, SIZE[1] // 8, 4))
    edit = encode_edits(ours, requests)
    condition, null = ours.prompts.get(PROMPTS), ours.prompts.get_null([""] * 2)
    return edit, torch_rows(noise), ours.sample_latents(condition, null, requests, edit=edit)


def given(strength: float) -> dict:
    return {"num_inference_steps": STEPS, "guidance_scale": 4.0, "strength": strength, "output_type": "latent"}


def agree_on_latents(agree, ours, theirs):
    agree(ours, theirs.permute(0, 2, 3, 1), limit=1e-3)


@pytest.mark.parametrize(("scheduler", "strength"), [*[(name, 0.6) for name in SCHEDULERS], ("ddim", 0.33)])
def test_an_image_and_one_noise_give_the_same_latents(scheduler, strength, tmp_path, agree, monkeypatch):
    plain = pipelines.stable_diffusion(tmp_path, SCHEDULERS[scheduler]())
    theirs = diffusers.StableDiffusionImg2ImgPipeline(**plain.components, requires_safety_checker=False)
    edit, noise, latents = prepared(tmp_path / "pipeline", strength=strength)
    monkeypatch.setattr(image_to_image, "randn_tensor", lambda *_, **__: noise)
    expected = theirs(PROMPTS, image=torch_rows(edit.latents), **given(strength)).images
    agree_on_latents(agree, latents, expected)


def test_the_refiner_of_sdxl_refines_alike(tmp_path, agree, monkeypatch):
    """Its null rows are told of images that look bad, which no other UNet is."""
    theirs = pipelines.stable_diffusion_refiner(tmp_path, SCHEDULERS["euler"]())
    edit, noise, latents = prepared(tmp_path / "pipeline", strength=0.3)
    monkeypatch.setattr(refining, "randn_tensor", lambda *_, **__: noise)
    how = {"original_size": SIZE, "target_size": SIZE}
    expected = theirs(PROMPTS, image=torch_rows(edit.latents), **how, **given(0.3)).images
    agree_on_latents(agree, latents, expected)


@pytest.mark.parametrize("scheduler", ["ddim", "dpmsolver++"])
def test_a_masked_image_is_blended_alike(scheduler, tmp_path, agree, monkeypatch):
    """Below a strength of 1, at which diffusers shows the network nothing of the image in the first step."""
    plain = pipelines.stable_diffusion(tmp_path, SCHEDULERS[scheduler]())
    theirs = diffusers.StableDiffusionInpaintPipeline(**plain.components, requires_safety_checker=False)
    edit, noise, latents = prepared(tmp_path / "pipeline", MASK, strength=0.7)
    np.testing.assert_array_equal(np.asarray(edit.mask)[0], CELLS)
    monkeypatch.setattr(inpainting, "randn_tensor", lambda *_, **__: noise)
    expected = theirs(
        PROMPTS,
        image=torch_rows(edit.latents),
        mask_image=torch_rows(np.stack([MASK] * 2)),
        masked_image_latents=torch.zeros(2, 4, 1, 1),
        height=SIZE[0],
        width=SIZE[1],
        **given(0.7),
    ).images
    agree_on_latents(agree, latents, expected)


@pytest.mark.parametrize(("scheduler", "strength"), [("ddim", 1.0), ("euler", 1.0), ("dpmsolver++", 0.8)])
def test_an_inpainting_unet_is_shown_the_mask_and_the_rest(scheduler, strength, tmp_path, agree, monkeypatch):
    theirs = pipelines.stable_diffusion_inpainting(tmp_path, SCHEDULERS[scheduler]())
    edit, noise, latents = prepared(tmp_path / "pipeline", MASK, strength=strength)
    monkeypatch.setattr(inpainting, "randn_tensor", lambda *_, **__: noise)
    expected = theirs(
        PROMPTS,
        image=torch_rows(edit.latents),
        mask_image=torch_rows(np.stack([MASK] * 2)),
        masked_image_latents=torch_rows(edit.beside),
        height=SIZE[0],
        width=SIZE[1],
        **given(strength),
    ).images
    agree_on_latents(agree, latents, expected)
