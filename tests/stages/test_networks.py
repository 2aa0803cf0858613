"""The networks of a stage against the pipeline's: training and sampling see the same latents and conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.stages.networks import StageNetworks
from tests.tiny import tiny_release


@pytest.fixture(scope="module")
def networks():
    release = tiny_release()
    return StageNetworks(release.modules, jax.device_put(release.params), {"vae": release}, ())


def test_images_become_the_latents_that_the_pipeline_works_in(networks):
    images = jnp.linspace(-1, 1, 2 * 16 * 32 * 3).reshape(2, 16, 32, 3)
    mean = programs.encode_images(networks.loaded["vae"], images, vae=networks.modules["vae"])
    expected = (np.asarray(mean) - (0.5, -0.25)) * (0.8, 1.6)
    np.testing.assert_allclose(
        jax.jit(networks.encode_latents)(networks.loaded, {"images": images}), expected, atol=1e-5
    )
    cached = networks.encode_latents({}, {"latents": mean.astype(jnp.float16), "images": images})
    assert cached.dtype == jnp.float32
    np.testing.assert_allclose(cached, expected, atol=2e-3)


def test_captions_become_the_pipeline_s_condition(networks):
    pipeline = Pipeline(tiny_release())
    captions = ["a cat", "two dogs"]
    ids, mask = map(jnp.asarray, pipeline.tokenizer(captions, 24))
    ours = jax.jit(networks.encode_text)(networks.loaded, {"ids": ids, "mask": mask})
    theirs = pipeline.encode(captions)
    np.testing.assert_allclose(ours.tokens, theirs.tokens, atol=1e-5)
    np.testing.assert_array_equal(ours.mask, theirs.mask)
    np.testing.assert_allclose(ours.vector, theirs.vector, atol=1e-5)
