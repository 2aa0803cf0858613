"""How the times of the sampling loop are laid: by the release, or by the request."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion.schedules import ScaledLinear
from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.batching import group_requests
from dalle3_jax.pipeline.png import a1111_parameters
from dalle3_jax.pipeline.request import request_from_metadata
from tests.tiny import tiny_release

LEADING = {"kind": "leading", "offset": 300}


@pytest.fixture(scope="module")
def laid() -> Pipeline:
    """The tiny system as a release with a spacing of its own."""
    release = tiny_release()
    return Pipeline(dataclasses.replace(release, diffusion={**release.diffusion, "spacing": LEADING}))


def pixels(pipeline, **settings):
    [picture] = pipeline("a fox", steps=3, size=(16, 16), **settings)
    return np.asarray(picture.image)


def test_a_request_may_lay_the_times_otherwise_than_its_release(pipeline, laid):
    leading = pixels(pipeline, spacing="leading")
    np.testing.assert_array_equal(pixels(pipeline), pixels(pipeline, spacing="uniform"))
    assert not np.array_equal(leading, pixels(pipeline))
    np.testing.assert_array_equal(pixels(laid, spacing="uniform"), pixels(pipeline))
    assert not np.array_equal(pixels(laid), leading)  # by the release's offset
    np.testing.assert_array_equal(pixels(laid), pixels(laid, spacing="leading"))


def test_the_first_noise_of_eulers_method_is_scaled(monkeypatch):
    diffusion = {"schedule": {"name": "scaled_linear"}, "prediction": "v"}
    pipeline = Pipeline(dataclasses.replace(tiny_release(), diffusion=diffusion))
    monkeypatch.setattr(programs, "advance", lambda *inputs, **how: inputs[3])  # the loop's first state
    told = pipeline.encode(["a fox"])
    [plain, scaled] = (
        pipeline.sample_latents(told, told, [pipeline.request("a fox", sampler="euler", steps=4, spacing=spacing)])
        for spacing in (None, "linspace")
    )
    np.testing.assert_allclose(scaled, plain * ScaledLinear().sigma(jnp.asarray(1.0)), rtol=1e-6)
    assert np.abs(scaled - plain).max() > 1e-4


def test_a_picture_says_how_its_times_were_laid(pipeline):
    [picture] = pipeline("a fox", steps=3, size=(16, 16), sampler="dpmsolver++", spacing="karras")
    assert "Sampler: DPM++ 2M, Schedule type: Karras" in a1111_parameters(picture.metadata)
    assert request_from_metadata(picture.metadata) == picture.request
    older = {key: value for key, value in picture.metadata.items() if key != "spacing"}
    sampling = dataclasses.replace(picture.request.sampling, spacing="")
    assert request_from_metadata(older) == dataclasses.replace(picture.request, sampling=sampling)


def test_requests_of_another_spacing_are_another_program(pipeline):
    uniform, karras = (pipeline.request("a fox", spacing=kind) for kind in (None, "karras"))
    assert group_requests([uniform, karras, uniform], 8) == [[0, 2], [1]]
    assert uniform.identity("") != karras.identity("")


def test_spacings_that_cannot_be_had_are_refused(pipeline, laid):
    with pytest.raises(ValueError, match=r"unknown spacing 'karas': use one of uniform, .*karras"):
        pipeline("a fox", spacing="karas")
    with pytest.raises(ValueError, match="1000 steps of leading spacing leave the table of 1000 entries"):
        laid("a fox", steps=1000)
    release = tiny_release()
    wrong = dataclasses.replace(release, diffusion={**release.diffusion, "spacing": {"rho": 7}})
    with pytest.raises(ValueError, match="a spacing has no field rho"):
        Pipeline(wrong)
