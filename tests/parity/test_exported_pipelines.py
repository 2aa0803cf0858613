"""Exported pipelines of other parts than Stable Diffusion's, opened and run by diffusers: theirs before and after."""

import diffusers
import numpy as np
import pytest
import torch
from PIL import Image

from dalle3_jax.checkpoints.releases import load_release, save_release
from dalle3_jax.loading.export_diffusers import export_diffusers
from dalle3_jax.loading.open import open_release
from tests.parity import pipelines, test_image_variations

pytestmark = [
    pytest.mark.network("exported pipelines", "diffusers from_pretrained"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
HOW = {"num_inference_steps": 3, "guidance_scale": 4.0, "output_type": "latent"}
IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))


def exported(folder):
    """The pipeline that diffusers opens of what becomes of folder/pipeline as a release."""
    save_release(folder / "release", open_release(folder / "pipeline"), "float32")
    written, left = export_diffusers(load_release(folder / "release"), folder / "again", "float32")
    assert left == []
    assert "model_index.json" in written
    again = diffusers.DiffusionPipeline.from_pretrained(folder / "again")
    again.set_progress_bar_config(disable=True)
    return again


def test_a_refiner_that_diffusers_opens_refines_alike(tmp_path, agree):
    before = pipelines.stable_diffusion_refiner(tmp_path, diffusers.EulerDiscreteScheduler(**pipelines.SCHEDULE))
    after = exported(tmp_path)
    assert type(after) is type(before)
    assert after.text_encoder is after.tokenizer is None
    assert after.config["requires_aesthetics_score"]
    assert not after.config["force_zeros_for_empty_prompt"]
    made = []
    for pipeline in (before, after):
        generator = torch.Generator().manual_seed(0)
        made.append(pipeline("a cat", image=IMAGE, strength=0.7, generator=generator, **HOW).images)
    agree(made[1].numpy(), made[0], limit=1e-5)


def test_image_variations_that_diffusers_opens_prepare_images_as_clip_does(tmp_path, agree):
    before, after = test_image_variations.written(tmp_path), exported(tmp_path)
    assert type(after) is type(before)
    side = test_image_variations.SIDE
    pixels = after.feature_extractor(IMAGE, return_tensors="pt").pixel_values
    assert tuple(pixels.shape) == (1, 3, side, side)
    made = []
    for pipeline, image in ((before, pixels), (after, IMAGE)):
        generator = torch.Generator().manual_seed(0)
        made.append(pipeline(image, height=32, width=24, generator=generator, **HOW).images)
    agree(made[1].numpy(), made[0], limit=1e-5)
