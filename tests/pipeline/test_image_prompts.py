"""Image prompts in requests of the tiny system: batches, metadata, what they go together with, and what is refused."""

import dataclasses

import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.models.build import build_models
from dalle3_jax.models.image_prompt import ImagePrompt, fit_image_prompt
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.edit_settings import supply_inputs
from dalle3_jax.pipeline.image_prompts import prepare_images
from dalle3_jax.pipeline.input_images import open_input_image
from dalle3_jax.pipeline.request import request_from_metadata
from tests.tiny import randomised, tiny_release

TOWER = {"width": 8, "layers": 1, "heads": 2, "mlp_width": 8, "activation": "gelu"}
CAPTIONER = {
    **{part: TOWER for part in ("vision", "text", "decoder")},
    **{"vocab_size": 20, "positions": 8, "image_size": (8, 8), "patch": 4, "projection": 6, "queries": 2},
    "pooling_heads": 1,
}
RNG = np.random.default_rng(0)
ONE, OTHER, START = (RNG.integers(0, 256, (16, 16, 3), np.uint8) for _ in range(3))
HOW = {"steps": 2, "upsample": "none", "seed": 5}


def prompted_release() -> Release:
    """The tiny release with a captioner and an image prompt of random weights."""
    release = tiny_release()
    modules = {**release.modules, **build_models({"captioner": CAPTIONER, "image_prompt": {"tokens": 2}})}
    modules["image_prompt"] = fit_image_prompt(modules["image_prompt"], modules)  # pyright: ignore
    new = {name: randomised(modules[name], modules, 8) for name in ("captioner", "image_prompt")}
    return dataclasses.replace(release, modules=modules, params={**release.params, **new})


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline(prompted_release())


def pixels(picture) -> np.ndarray:
    return np.asarray(picture.image, np.int16)


def test_a_picture_is_the_same_whatever_stands_beside_it(pipeline):
    requests = [
        pipeline.request("a fox", image_prompt=ONE, image_prompt_scale=0.5, steps=2, seed=5),
        pipeline.request("a fox", image_prompt=OTHER, steps=2, seed=5),
        pipeline.request("a fox", steps=2, seed=5),
    ]
    together = dict(pipeline.generate(requests, batch_size=2))
    for index, request in enumerate(requests):
        [(_, alone)] = pipeline.generate([request], batch_size=2)
        np.testing.assert_array_equal(pixels(together[index]), pixels(alone))
    assert len({pixels(picture).tobytes() for picture in together.values()}) == 3


def test_metadata_name_the_image_and_the_picture_can_be_made_again(pipeline):
    [made] = pipeline("a fox", image_prompt=ONE, image_prompt_scale=0.5, batch_size=2, **HOW)
    assert made.metadata["image_prompt"] == open_input_image(ONE).sha256
    request = request_from_metadata(made.metadata)
    with pytest.raises(ValueError, match="is not in it: give that as image_prompt"):
        pipeline.check_requests([request])
    with pytest.raises(ValueError, match="and the image prompt of the picture"):
        supply_inputs(request.edit, {"image_prompt": open_input_image(OTHER)})
    edit = supply_inputs(request.edit, {"image_prompt": open_input_image(ONE)})
    [(_, again)] = pipeline.generate([dataclasses.replace(request, edit=edit)], batch_size=2)
    np.testing.assert_array_equal(pixels(again), pixels(made))


@pytest.mark.parametrize("settings", [{"text_gate": 0.8}, {"deep_cache": 2}, {"image": START, "strength": 0.6}])
def test_it_goes_together_with_other_settings(pipeline, settings):
    made = [
        pipeline("a fox", batch_size=2, **{**HOW, "steps": 4}, **settings, **prompt)[0]
        for prompt in ({}, {"image_prompt": ONE})
    ]
    assert (pixels(made[0]) != pixels(made[1])).any()


def test_a_captioner_sees_all_of_an_image(pipeline):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, :2] = 255
    [seen] = prepare_images([wide], pipeline.system.image_encoder)
    assert seen.shape == (8, 8, 3)
    assert seen[:, 0].min() > seen[:, -1].max() == -1


def test_parts_that_do_not_fit_are_refused():
    release = prompted_release()
    lacking = {name: module for name, module in release.modules.items() if name != "captioner"}
    with pytest.raises(ValueError, match="by an image_encoder or a captioner, which this release lacks"):
        Pipeline(dataclasses.replace(release, modules=lacking))
    prompt = release.modules["image_prompt"]
    assert isinstance(prompt, ImagePrompt)

    def replaced(**fields) -> Release:
        return dataclasses.replace(release, modules={**release.modules, "image_prompt": prompt.clone(**fields)})

    with pytest.raises(ValueError, match=r"is for another model: it reads features of 9, .* are 6"):
        Pipeline(replaced(features=9))
    with pytest.raises(ValueError, match="it has none for middle_transformer"):
        Pipeline(replaced(attentions=()))


def test_an_encoder_without_its_adapter_is_refused():
    with pytest.raises(ValueError, match="the image encoder folder without an adapter that reads it"):
        Pipeline.load("demo", adapter_encoder="folder")


def test_variations_are_by_one_of_two_things(pipeline):
    with pytest.raises(ValueError, match="variations by 'magic': use 'description' or 'image'"):
        pipeline.variations(ONE, by="magic")


def test_a_variation_by_an_image_says_that_no_strength_is_none(pipeline):
    with pytest.raises(ValueError, match=r"strength 0.* above 0"):
        pipeline.variations(ONE, by="image", strength=0)
