"""The folder of Stable Diffusion's x4 upscaler: what it says of itself, and what does not fit."""

import shutil
from pathlib import Path

import pytest

from dalle3_jax.loading.open import open_release
from dalle3_jax.pipeline import Pipeline
from tests import public_folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny one, whose low_res_scheduler has the options of the public one."""
    return public_folders.stable_diffusion_x4(tmp_path_factory.mktemp("public") / "x4")


def test_a_folder_says_how_it_enlarges(folder):
    release = open_release(folder)
    settings = release.upscaler
    assert set(release.modules) == {"text_encoder", "upscaler", "vae"} == set(release.params)
    assert settings is not None
    assert (settings.factor, settings.steps, settings.guidance_scale, settings.kind) == (4, 75, 9.0, "diffusion")
    assert (settings.noise_level, settings.most_noise, settings.prediction) == (20, 350, "v")
    assert settings.noise_schedule["beta_end"] == 0.02
    assert settings.schedule["beta_end"] == 0.012
    assert settings.latent == release.latent
    assert (release.latent.factor, release.latent.scale) == (4, (0.08333,) * 4)  # whatever the VAE's config says


def test_the_upscaler_can_be_asked_for_alone(folder):
    release = open_release(folder, ["upscaler"])
    assert set(release.modules) == {"upscaler"}
    assert release.modules["upscaler"].level_entries == 1000


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("model_index.json", {"max_noise_level": 1000}, "max_noise_level=1000"),
        ("model_index.json", {"max_noise_level": 7}, "max_noise_level=7"),
        ("low_res_scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "beta_schedule='sigmoid'"),
        ("low_res_scheduler/scheduler_config.json", {"_class_name": "Other"}, "unknown scheduler 'Other'"),
    ],
)
def test_what_cannot_be_is_named(folder, tmp_path, file, change, told):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    public_folders.edit(copy / file, **change)
    with pytest.raises(ValueError, match=told):
        open_release(copy)


def test_a_unet_of_a_text_to_image_model_is_no_upscalers(folder, tmp_path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    shutil.rmtree(copy / "unet")
    public_folders.network(copy / "unet", public_folders.UNET)
    with pytest.raises(ValueError, match="takes 4 channels and gives 4") as error:
        open_release(copy)
    assert "num_class_embeds=None: upscalers have noise levels" in str(error.value)


def test_an_upscaler_makes_no_images_of_prompts(folder):
    with pytest.raises(ValueError, match="it lacks unet"):
        Pipeline.load(folder)
