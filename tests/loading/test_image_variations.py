"""SD image variations as a folder: drawn of an image alone, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release, save_release
from dalle3_jax.loading.open import open_release
from dalle3_jax.pipeline import Pipeline
from tests import public_folders

IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return public_folders.image_variations(tmp_path_factory.mktemp("variations") / "sd")


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Pipeline:
    return Pipeline.load(folder)


def test_an_image_alone_says_what_to_draw(pipeline):
    other = np.ascontiguousarray(255 - IMAGE)
    first, second = (
        np.asarray(pipeline("", image_prompt=image, steps=2, seed=1, batch_size=1)[0].image) for image in (IMAGE, other)
    )
    assert (first != second).mean() > 0.1
    [varied] = pipeline.variations(IMAGE, steps=2, seed=1, batch_size=1)
    np.testing.assert_array_equal(np.asarray(varied.image), first)
    with pytest.raises(ValueError, match="by 'description' of a model that reads images alone: use 'image'"):
        pipeline.variations(IMAGE, by="description")


@pytest.mark.parametrize(
    ("prompt", "settings", "error"),
    [
        ("a cat", {"image_prompt": IMAGE}, "a prompt, but this model reads images alone"),
        ("", {"image_prompt": IMAGE, "negative_prompt": "a cat"}, "leave the prompt and the negative prompt out"),
        ("", {}, "this model draws variations of images: give the image as image_prompt"),
        ("", {"image_prompt": IMAGE, "image_prompt_scale": 0.5}, "reads nothing beside the image: use guidance_scale"),
        ("", {"image_prompt": np.zeros((1, 4096, 3), np.uint8)}, "of 4096x1 pixels is too small to be seen: give one"),
        ("", {"image_prompt": np.zeros((265, 8, 3), np.uint8)}, "of 8x265 pixels is a strip: crop it to a side of at"),
    ],
)
def test_what_it_cannot_do_is_refused(pipeline, prompt, settings, error):
    with pytest.raises(ValueError, match=error):
        pipeline.request(prompt, **settings)


def test_it_has_no_text_encoder_to_drop(folder):
    pipeline = Pipeline.load(folder)
    pipeline.drop_text_encoder(pipeline.request("", image_prompt=IMAGE).texts)
    assert pipeline.request("", image_prompt=IMAGE)


def test_a_release_of_it_is_the_same_model(folder, tmp_path):
    release = open_release(folder)
    assert (release.tokenizer, release.text) == ("", {})
    save_release(tmp_path / "release", release, "float32")
    assert Pipeline(load_release(tmp_path / "release")).system == Pipeline(release).system


def test_an_adapter_is_refused(folder):
    with pytest.raises(ValueError, match="this checkpoint reads images alone"):
        Pipeline.load(folder, adapter=folder / "ip-adapter_sd15.safetensors")


def test_an_encoder_of_another_width_is_named(folder, tmp_path):
    public_folders.image_variations(tmp_path / "sd")
    public_folders.edit(tmp_path / "sd" / "image_encoder" / "config.json", projection_dim=10)
    with pytest.raises(ValueError, match="its image encoders give tokens of 10 and a vector of 10, its UNet takes 12"):
        open_release(tmp_path / "sd")
