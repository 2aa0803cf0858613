"""SD image variations against diffusers': the image's vector in place of text, from one noise."""

import diffusers
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImageVariationPipeline

from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.batching import encode_image_prompts
from dalle3_jax.pipeline.image_prompts import image_conditions, prepare_images, sample_bicubic
from tests.parity import pipelines, references

pytestmark = [
    pytest.mark.network("image variations", "diffusers StableDiffusionImageVariation"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
SIDE, STEPS, SIZE = 16, 6, (32, 24)


def written(folder):
    """A pipeline of random weights, written to folder/pipeline."""
    torch.manual_seed(0)
    encoder = references.clip_vision(
        {"hidden_size": 12, "num_hidden_layers": 2, "image_size": SIDE, "patch_size": 8, "projection_dim": 8}
    )
    pipeline = StableDiffusionImageVariationPipeline(
        vae=pipelines.vae(0.18215),
        image_encoder=encoder,
        unet=pipelines.unet(8),
        scheduler=diffusers.DDIMScheduler(
            clip_sample=False, set_alpha_to_one=False, steps_offset=1, **pipelines.SCHEDULE
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("shape", [(9, 31), (40, 16)])
def test_images_are_sampled_as_the_card_asks(shape, agree):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    rows = torch.from_numpy(pixels.astype(np.float32).transpose(2, 0, 1))[None]
    expected = torch.nn.functional.interpolate(rows, (SIDE, SIDE), mode="bicubic", antialias=False)
    agree(sample_bicubic(pixels, SIDE), expected[0].permute(1, 2, 0))


def test_whole_pipelines(tmp_path, agree):
    theirs = written(tmp_path)
    ours = Pipeline.load(tmp_path / "pipeline")
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 256, shape, np.uint8) for shape in ((20, 33, 3), (41, 18, 3))]
    how = {"steps": STEPS, "guidance_scale": 4.0, "size": SIZE}
    requests = [ours.request("", seed=seed, image_prompt=image, **how) for seed, image in enumerate(pixels)]
    latents = ours.sample_latents(*image_conditions(encode_image_prompts(ours, requests)), requests)
    keys = programs.fold_in_purpose(programs.image_keys(jnp.asarray([0, 1], jnp.uint32)), programs.INITIAL)
    noise = np.array(programs.samplers.noise(keys, (SIZE[0] // 8, SIZE[1] // 8, 4))).transpose(0, 3, 1, 2)
    prepared = prepare_images(pixels, ours.system.image_encoder, whole=True)
    expected = theirs(
        torch.from_numpy(prepared.transpose(0, 3, 1, 2).copy()),
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        height=SIZE[0],
        width=SIZE[1],
        latents=torch.from_numpy(noise.copy()),
        output_type="latent",
    ).images
    agree(latents, expected.permute(0, 2, 3, 1), limit=1e-4)
