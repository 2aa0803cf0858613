"""Folders of diffusers as pipelines: pictures, their digest, null conditions, padding, and a dropped text encoder."""

import gc
import shutil
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.loading.open import open_release
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.programs import sample_decoder
from dalle3_jax.pipeline.request import Decoding
from dalle3_jax.pipeline.specs import DecoderSpec
from tests import public_folders
from tests.networks import normal

SETTINGS = {"steps": 2, "batch_size": 2}  # all pictures here share these programs
PROMPTS = ["a cat", "the dog"]


@pytest.fixture(scope="module")
def sd(sd_folder) -> Pipeline:
    return Pipeline.load(sd_folder)


@pytest.fixture(scope="module")
def sdxl(sdxl_folder) -> Pipeline:
    return Pipeline.load(sdxl_folder)


def pixels(pipeline: Pipeline, prompts=PROMPTS, seed: int = 3, **settings) -> np.ndarray:
    return np.stack([np.asarray(made.image, int) for made in pipeline(prompts, seed=seed, **SETTINGS | settings)])


def test_a_folder_says_how_it_samples(sd, sdxl):
    size = {"size": (16, 16), "steps": 50}
    assert sd.defaults == size | {"sampler": "ddim", "guidance_scale": 7.5}
    assert sdxl.defaults == size | {"sampler": "euler", "guidance_scale": 5.0}
    assert sd.release.text == {"length": public_folders.POSITIONS, "zero_null": False}
    assert sdxl.release.text["zero_null"]
    assert (sd.system.latent.scale, sdxl.system.latent.scale) == ((0.18215,) * 4, (0.13025,) * 4)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_picture_repeats_and_follows_its_prompt_and_seed(name, request):
    pipeline = request.getfixturevalue(name)
    both = pixels(pipeline)
    np.testing.assert_array_equal(pixels(pipeline, ["the dog"], seed=4)[0], both[1])
    assert both[0].std() > 10
    for other in (pixels(pipeline, seed=9), pixels(pipeline, ["a catty", "dogs"])):
        assert (other != both).mean() > 0.2


FILES = [f"{part}/{file}" for part, file in (("text_encoder", "model"), ("text_encoder_2", "model"))]
FILES += [f"{part}/diffusion_pytorch_model" for part in ("unet", "vae")]


@pytest.mark.parametrize("file", [f"{name}.safetensors" for name in FILES])
def test_the_digest_tells_every_file_of_weights(sdxl, sdxl_folder, tmp_path, file):
    copy = Path(shutil.copytree(sdxl_folder, tmp_path / "copy"))
    assert open_release(copy).digest == sdxl.release.digest
    data = bytearray((copy / file).read_bytes())
    data[-4] ^= 1
    (copy / file).write_bytes(data)
    assert open_release(copy).digest != sdxl.release.digest


def test_the_digest_tells_the_scheduler_and_the_padding(sdxl, sdxl_folder, tmp_path):
    for file, change in (
        ("scheduler/scheduler_config.json", {"steps_offset": 0}),
        ("tokenizer_2/special_tokens_map.json", {"pad_token": "a"}),
    ):
        copy = Path(shutil.copytree(sdxl_folder, tmp_path / Path(file).stem))
        public_folders.edit(copy / file, **change)
        assert open_release(copy).digest != sdxl.release.digest


def test_a_png_tells_the_digest(sd):
    [made] = sd("a cat", **SETTINGS)
    assert made.metadata["checkpoint"] == sd.release.digest
    assert len(sd.release.digest) == 64


def test_an_empty_negative_prompt_is_zeros_where_the_model_learnt_that(sd, sdxl):
    for pipeline, zeros in ((sd, False), (sdxl, True)):
        null = pipeline.prompts.get_null(["", "a dog"], pipeline.encode)
        plain = pipeline.encode(["", "a dog"])
        for found, given in ((null.tokens, plain.tokens), (null.vector, plain.vector)):
            assert np.abs(given[0]).max() > 0.1
            np.testing.assert_array_equal(found[0], 0 * given[0] if zeros else given[0])
            np.testing.assert_array_equal(found[1], given[1])
        np.testing.assert_array_equal(null.mask, plain.mask)


def test_a_prompt_that_is_empty_is_never_zeros(sdxl):
    texts = ["", "a dog"]
    np.testing.assert_array_equal(sdxl.prompts.get(texts, sdxl.encode).tokens, sdxl.encode(texts).tokens)


def test_the_second_text_encoder_sees_the_padding_it_was_trained_with(sdxl):
    ids, mask = sdxl.tokenizer(PROMPTS, public_folders.POSITIONS)
    exclamation = sdxl.tokenizer.backend.token_to_id("!")
    second, params = sdxl.system.text_encoder_2, sdxl.params["text_encoder_2"]
    assert second is not None
    assert second.pad_id == exclamation

    def apply(ids) -> np.ndarray:
        return second.clone(pad_id=None).apply({"params": params}, jnp.asarray(ids), jnp.asarray(mask)).tokens

    found = sdxl.encode(PROMPTS).tokens[..., 12:]
    np.testing.assert_allclose(found, apply(np.where(mask, ids, exclamation)), atol=1e-5)
    assert np.abs(found - apply(ids))[:, -1].max() > 1e-2  # and not its first tokenizer's


def test_sdxl_attends_to_the_last_layer_but_one_and_sd_to_the_normed_last(sd, sdxl):
    ids = jnp.asarray(sd.tokenizer(PROMPTS, public_folders.POSITIONS)[0])

    def features(pipeline: Pipeline, **fields) -> np.ndarray:
        module, params = pipeline.system.text_encoder.clone(**fields), pipeline.params["text_encoder"]
        return module.apply({"params": params}, ids, ids >= 0).tokens

    np.testing.assert_allclose(sd.encode(PROMPTS).tokens, features(sd, skip=0, normed=True), atol=1e-5)
    np.testing.assert_allclose(sdxl.encode(PROMPTS).tokens[..., :12], features(sdxl, skip=1, normed=False), atol=1e-5)
    assert np.abs(features(sdxl, skip=1, normed=False) - features(sdxl, skip=0, normed=False)).max() > 0.1


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_pictures_are_the_same_bits_without_the_text_encoder(name, request):
    pipeline = request.getfixturevalue(name)
    dropped = Pipeline(pipeline.release)
    dropped.drop_text_encoder([*PROMPTS, "", "snow"], batch_size=2)
    for settings in ({}, {"negative_prompt": "snow"}):
        np.testing.assert_array_equal(pixels(dropped, **settings), pixels(pipeline, **settings))


def test_the_memory_of_dropped_encoders_is_free(sdxl_folder):
    pipeline = Pipeline.load(sdxl_folder)
    parts = ("text_encoder", "text_encoder_2")
    held = [weakref.ref(leaf) for part in parts for leaf in jax.tree.leaves(pipeline.params[part])]
    kept = [weakref.ref(leaf) for leaf in jax.tree.leaves(pipeline.params["unet"])]
    pipeline.drop_text_encoder(PROMPTS, batch_size=2)
    gc.collect()
    assert [leaf for leaf in held if leaf() is not None] == []
    assert all(leaf() is not None for leaf in kept)


def test_texts_that_were_not_encoded_are_refused_before_anything_is_computed(sd, monkeypatch):
    dropped = Pipeline(sd.release)
    dropped.drop_text_encoder([*PROMPTS, ""], batch_size=2)
    dropped.drop_text_encoder(PROMPTS, batch_size=2)  # all of them are known
    monkeypatch.setattr("dalle3_jax.pipeline.programs.start", None)
    told = "'an owl' was not encoded before the text encoder was dropped"
    with pytest.raises(ValueError, match=told):
        dropped(["a cat", "an owl"], **SETTINGS)
    with pytest.raises(ValueError, match=told):
        dropped("a cat", negative_prompt="an owl", **SETTINGS)
    for encoded in (dropped.encode, dropped.drop_text_encoder):
        with pytest.raises(ValueError, match="the text encoder was dropped: load the pipeline again"):
            encoded(["an owl"])


def test_the_release_that_a_pipeline_was_made_of_keeps_its_text_encoder(sd):
    dropped = Pipeline(sd.release)
    dropped.drop_text_encoder([""], batch_size=2)
    assert "text_encoder" in sd.release.params
    assert dropped.release.params.keys() == {"unet", "vae"}


def test_the_public_decoder_is_shown_the_latents_as_it_was_trained(sd, tmp_path):
    """Of the UNet's latents, which are 0.18215 z: less their mean, over their deviation."""
    part = open_release(public_folders.consistency_decoder(tmp_path / "decoder"))
    pipeline, how = Pipeline(sd.release, decoders=[part]), part.decoders["decoder"]
    latents, seeds = normal(2, 2, 2, 4), np.arange(2, dtype=np.uint32)
    given = (latents - jnp.asarray(how.mean)) / jnp.asarray(how.std)
    expected = sample_decoder(
        part.params["decoder"], given, seeds, decoder=DecoderSpec.from_decoding(part.modules["decoder"], how)
    )
    np.testing.assert_allclose(pipeline.decode(latents, Decoding("consistency")), expected, atol=1e-4)


def test_a_system_with_an_xfnet_drops_it_too(pipeline):
    dropped = Pipeline(pipeline.release)
    dropped.drop_text_encoder(["a fox", ""], batch_size=2)
    assert dropped.params.keys() == {"unet", "vae"}
    [one], [other] = (made("a fox", seed=3, batch_size=2) for made in (pipeline, dropped))
    np.testing.assert_array_equal(one.image, other.image)
