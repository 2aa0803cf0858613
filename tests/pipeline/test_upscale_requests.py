"""Pictures of prompts, enlarged: as a setting of a request, in its PNG, and where there is no upscaler."""

import dataclasses

import numpy as np
import pytest

from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.request import Upscaling, request_from_metadata
from dalle3_jax.pipeline.upscaler import Upscaler
from tests.tiny import tiny_release, tiny_upscaler


@pytest.fixture(scope="module")
def larger() -> Pipeline:
    """The tiny system with the tiny upscaler, which share their text side."""
    release, part = tiny_release(), tiny_upscaler()
    joined = dataclasses.replace(
        release,
        modules=release.modules | {"upscaler": part.modules["upscaler"]},
        params=release.params | {"upscaler": part.params["upscaler"]},
        upscaler=part.upscaler,
    )
    return Pipeline(joined)


def test_a_picture_is_enlarged_by_the_release_s_own_upscaler(larger):
    request = larger.request("a cat", seed=5, upscale=2, upscale_steps=1)
    [(_, made)] = larger.generate([request])
    assert made.image.size == (32, 32)
    assert made.metadata["upscale"] == 2
    assert request_from_metadata(made.metadata) == request
    [plain] = larger("a cat", seed=5)
    low = np.asarray(plain.image, np.float32)[None] / 127.5 - 1
    how = Upscaling(2, steps=1)
    alone = Upscaler(tiny_upscaler())(low, how, prompts=["a cat"], seeds=[5], negative_prompts=[""])
    # Decoded images are not rounded before they are enlarged, and a network of random weights is steep.
    assert np.abs(np.asarray(alone[0]) * 127.5 + 127.5 - np.asarray(made.image)).mean() < 8


def test_an_identity_tells_how_a_picture_is_enlarged_and_stays_where_it_is_not(larger, pipeline):
    plain, twice, noised = (
        larger.request("a cat", **more) for more in ({}, {"upscale": 2}, {"upscale": 2, "upscale_noise_level": 90})
    )
    assert len({request.identity("x") for request in (plain, twice, noised)}) == 3
    assert plain.identity("x") == pipeline.request("a cat").identity("x")


def test_pictures_without_the_text_encoder_are_enlarged_too(larger):
    request = larger.request("a cat", seed=5, upscale=2, upscale_steps=1)
    [(_, before)] = larger.generate([request])
    dropped = Pipeline(larger.release)
    dropped.drop_text_encoder(["a cat", ""], 1)
    assert dropped.upscaler is not None
    assert set(dropped.upscaler.params) == {"upscaler"}
    [(_, after)] = dropped.generate([request])
    np.testing.assert_array_equal(np.asarray(after.image), np.asarray(before.image))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"upscale": 3}, "upscale 3 must be 2 or 4, 0 for none"),
        ({"upscale": 2, "upscale_noise_level": 400}, "noise level 400 must be a whole number from 0 to 350"),
        ({"upscale": 2, "upscale_noise_level": -1}, "upscale noise level -1"),
        ({"upscale": 2, "upscale_tile": 30}, "upscale tile 30 must be a multiple of 4"),
        ({"upscale_steps": 3}, "settings of the upscaler without upscale"),
    ],
)
def test_what_the_upscaler_cannot_do_is_named(larger, settings, told):
    with pytest.raises(ValueError, match=told):
        larger.request("a cat", **settings)


def test_a_release_without_an_upscaler_says_so(pipeline):
    with pytest.raises(ValueError, match="upscale 2 cannot be had: this release has no upscaler"):
        pipeline.request("a cat", upscale=2)
