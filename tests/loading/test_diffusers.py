"""Folders of diffusers as pipelines: pictures, their digest, null conditions, padding, and a dropped text encoder."""

import functools
import gc
import shutil
import weakref
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dalle3_jax import convert
from dalle3_jax.loading.diffusers import _trained_sizes
from dalle3_jax.loading.open import open_release
from dalle3_jax.loading.stable_diffusion import PipelineDescription, describe_pipeline
from dalle3_jax.models.unet_call import apply_unet
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.programs import project_rows, sample_decoder
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
    assert sd.defaults == size | {"sampler": "pndm", "guidance_scale": 7.5}
    assert sdxl.defaults == size | {"sampler": "euler", "guidance_scale": 5.0}
    assert sd.release.text == {"length": public_folders.POSITIONS, "zero_null": False}
    assert sdxl.release.text["zero_null"]
    assert (sd.system.latent.scale, sdxl.system.latent.scale) == ((0.18215,) * 4, (0.13025,) * 4)


def described(folder: Path, tmp_path: Path, file: str, **changes) -> PipelineDescription:
    """What a copy of a pipeline says of itself once a file of it is changed."""
    copy = Path(shutil.copytree(folder, tmp_path / "changed"))
    if file:
        public_folders.edit(copy / file, **changes)
    try:
        return describe_pipeline(copy)
    finally:
        shutil.rmtree(copy)


def test_the_scheduler_is_of_the_class_that_model_index_names(sd_folder, sdxl_folder, tmp_path):
    for folder in (sd_folder, sdxl_folder):
        for name, sampler in (("DPMSolverMultistepScheduler", "dpmsolver++"), ("DDPMScheduler", "ddpm")):
            changes = {"scheduler": ["diffusers", name]}
            found = described(folder, tmp_path, "model_index.json", **changes)
            assert found.sampling == {"sampler": sampler}
            # SDXL's pipeline does not turn its clipping off.
            clips = folder == sdxl_folder and name == "DDPMScheduler"
            assert found.diffusion.get("clipping") == ({"bound": 1.0} if clips else None)
    with pytest.raises(ValueError, match="unknown scheduler 'DEISMultistepScheduler'"):
        described(sd_folder, tmp_path, "model_index.json", scheduler=["diffusers", "DEISMultistepScheduler"])


def test_stable_diffusion_starts_one_entry_later_and_does_not_clip_whatever_its_scheduler_says(
    sd_folder, sdxl_folder, tmp_path
):
    file, old = "scheduler/scheduler_config.json", {"steps_offset": None, "clip_sample": None}
    assert described(sd_folder, tmp_path, file, **old).diffusion["spacing"]["offset"] == 1
    assert described(sdxl_folder, tmp_path, file, **old).diffusion["spacing"]["offset"] == 0
    with pytest.warns(UserWarning, match="steps_offset=1 in place of 0"):
        assert described(sd_folder, tmp_path, file, steps_offset=0).diffusion["spacing"]["offset"] == 1
    assert described(sdxl_folder, tmp_path, file, steps_offset=2).diffusion["spacing"]["offset"] == 2


def test_guidance_rescale_is_of_what_the_network_predicts(sd, sdxl_folder, tmp_path):
    assert sd.system.rescaled == "eps"
    changes = {"prediction_type": "v_prediction"}
    found = described(sdxl_folder, tmp_path, "scheduler/scheduler_config.json", **changes).diffusion
    assert found["guidance_rescale_of"] == "v"


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"sample_size": 3}, (24, 24)),
        ({"sample_size": [2, 5]}, (16, 40)),
        ({"sample_size": None}, (512, 512)),
        ({"sample_size": 32, "_diffusers_version": "0.2.2"}, (512, 512)),
        ({"sample_size": 32, "_diffusers_version": "0.9.0.dev0"}, (256, 256)),
        ({"sample_size": 96, "_diffusers_version": "0.4.1"}, (768, 768)),
    ],
)
def test_the_size_is_that_of_the_unets_config(sd_folder, tmp_path, changes, size):
    found = described(sd_folder, tmp_path, "unet/config.json", **changes)
    assert _trained_sizes(found) == (size,)


def test_a_size_of_sdxl_that_no_config_says_is_1024(sdxl_folder, tmp_path):
    assert _trained_sizes(described(sdxl_folder, tmp_path, "unet/config.json", sample_size=None)) == ((1024, 1024),)
    with pytest.raises(ValueError, match="sample_size='big' is no size"):
        _trained_sizes(described(sdxl_folder, tmp_path, "unet/config.json", sample_size="big"))


def test_texts_are_as_long_as_the_tokenizer_cuts_them(sd_folder, sdxl_folder, tmp_path):
    copy = Path(shutil.copytree(sdxl_folder, tmp_path / "copy"))
    for length, expected in ((11, 11), (int(1e30), public_folders.POSITIONS), (50, public_folders.POSITIONS)):
        for folder in ("tokenizer", "tokenizer_2"):
            public_folders.write_json(copy / folder / "tokenizer_config.json", {"model_max_length": length})
        assert describe_pipeline(copy).length == expected
    public_folders.write_json(copy / "tokenizer" / "tokenizer_config.json", {"model_max_length": 9})
    with pytest.raises(ValueError, match="cut texts to 9 and 50 tokens"):
        describe_pipeline(copy)
    public_folders.write_json(copy / "tokenizer" / "tokenizer_config.json", {"model_max_length": 1})
    with pytest.raises(ValueError, match="model_max_length=1: it must be at least 2"):
        describe_pipeline(copy)


def test_a_variant_that_some_parts_lack_is_taken_of_the_others(sd_folder, tmp_path):
    copy = Path(shutil.copytree(sd_folder, tmp_path / "copy"))
    weights = copy / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bf16.safetensors"))
    with pytest.warns(UserWarning, match="text_encoder, unet has no weights of variant 'bf16'"):
        files = describe_pipeline(copy, variant="bf16").networks["vae"].files
    assert [file.name for file in files] == ["config.json", "diffusion_pytorch_model.bf16.safetensors"]
    with pytest.raises(ValueError, match="no weights of variant 'fp16'"):
        describe_pipeline(copy, variant="fp16")


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_numbers_that_ema_left_are_passed_over_with_a_warning(sd_folder, tmp_path, part):
    left = {"decay": 0.995, "update_after_step": 100, "inv_gamma": 1.0, "cur_decay_value": 0.99}
    with pytest.warns(UserWarning, match="passed over: decay, update_after_step, inv_gamma, cur_decay_value"):
        found = described(sd_folder, tmp_path, f"{part}/config.json", **left)
    assert found.modules[part] == describe_pipeline(sd_folder).modules[part]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_sdxls_vae_decodes_in_float32_where_float16_would_not_hold_it(sd_folder, sdxl_folder, tmp_path, dtype):
    release = open_release(sdxl_folder, ["text_encoder", "vae"], dtype=jnp.dtype(dtype))
    assert release.modules["vae"].dtype == ("float32" if dtype == "float16" else dtype)
    assert release.modules["text_encoder"].dtype == dtype
    assert open_release(sd_folder, ["vae"], dtype=jnp.dtype(dtype)).modules["vae"].dtype == dtype
    copy = Path(shutil.copytree(sdxl_folder / "vae", tmp_path / "sdxl" / "vae"))
    public_folders.edit(copy / "config.json", force_upcast=False)
    for name in ("model_index.json", "scheduler", "tokenizer", "tokenizer_2"):
        (tmp_path / "sdxl" / name).symlink_to(sdxl_folder / name)
    assert open_release(tmp_path / "sdxl", ["vae"], dtype=jnp.dtype(dtype)).modules["vae"].dtype == dtype


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
        null = pipeline.prompts.get_null(["", "a dog"])
        plain = pipeline.encode(["", "a dog"])
        for found, given in ((null.tokens, plain.tokens), (null.vector, plain.vector)):
            assert np.abs(given[0]).max() > 0.1
            np.testing.assert_array_equal(found[0], 0 * given[0] if zeros else given[0])
            np.testing.assert_array_equal(found[1], given[1])
        np.testing.assert_array_equal(null.mask, plain.mask)


def test_an_empty_negative_prompt_that_is_given_is_encoded_and_none_is_zeros(sd, sdxl):
    for pipeline, zeros in ((sd, False), (sdxl, True)):
        given, none = (pipeline.request("a cat", negative_prompt=text) for text in ("", None))
        nulls = pipeline.prompts.get_null([given.negative_prompt, none.negative_prompt])
        np.testing.assert_array_equal(nulls.tokens[0], pipeline.encode(["", ""]).tokens[0])
        np.testing.assert_array_equal(nulls.vector[0], pipeline.encode(["", ""]).vector[0])
        assert (np.abs(nulls.tokens[1]).max() == 0) == zeros
        assert none == pipeline.request("a cat")


def test_a_prompt_that_is_empty_is_never_zeros(sdxl):
    texts = ["", "a dog"]
    np.testing.assert_array_equal(sdxl.prompts.get(texts).tokens, sdxl.encode(texts).tokens)


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
    np.testing.assert_allclose(pipeline.codec.decode(latents, Decoding("consistency")), expected, atol=1e-4)


def test_a_system_with_an_xfnet_drops_it_too(pipeline):
    dropped = Pipeline(pipeline.release)
    dropped.drop_text_encoder(["a fox", ""], batch_size=2)
    assert dropped.params.keys() == {"unet", "vae"}
    [one], [other] = (made("a fox", seed=3, batch_size=2) for made in (pipeline, dropped))
    np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize("written", [None, ["CLIPModel"], ["CLIPTextModelWithProjection"]])
def test_the_classes_of_networks_are_those_that_model_index_names(sd_folder, tmp_path, written):
    changes = {"architectures": written}
    encoder = described(sd_folder, tmp_path, "text_encoder/config.json", **changes).networks["text_encoder"]
    assert encoder.module == convert.open(sd_folder / "text_encoder").module
    assert encoder.config["architectures"] == ["CLIPTextModel"]
    with pytest.raises(ValueError, match="of the class AutoencoderTiny, which cannot be read"):
        described(sd_folder, tmp_path, "model_index.json", vae=["diffusers", "AutoencoderTiny"])


def test_a_text_encoder_that_projects_nothing_has_no_use_for_what_does(sd_folder, tmp_path):
    copy = Path(shutil.copytree(sd_folder / "text_encoder", tmp_path / "copy"))
    file = copy / "model.safetensors"
    others = {"text_projection.weight": np.ones((3, 3), np.float32), "logit_scale": np.ones((), np.float32)}
    save_file({**load_file(file), **others}, file)
    ours, theirs = convert.load(copy)[1], convert.load(sd_folder / "text_encoder")[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, ours, theirs))


def test_the_refiner_of_sdxl_reads_one_text_encoder_and_is_led_from_images_that_look_bad(tmp_path):
    folder = public_folders.stable_diffusion_refiner(tmp_path / "refiner")
    refiner = Pipeline.load(folder)
    assert set(refiner.release.modules) == {"text_encoder", "unet", "vae"}
    assert not refiner.release.text["zero_null"]
    assert list(open_release(folder, ["text_encoder"]).modules) == ["text_encoder"]
    with pytest.raises(ValueError, match="its one text encoder, of the folder text_encoder_2, is the component text_"):
        open_release(folder, ["text_encoder_2", "vae"])
    condition, null = refiner.prompts.get(PROMPTS), refiner.prompts.get_null([""] * 2)
    for nulls, score in ((null, [6.0, 6.0, 2.5, 2.5]), (None, [6.0, 6.0])):
        rows = project_rows(refiner.params, condition, nulls, system=refiner.system)
        assert np.asarray(rows.score).tolist() == score
    x, t = normal(4, 2, 2, 4), jnp.full(4, 500.0)
    rows = project_rows(refiner.params, condition, null, system=refiner.system)
    unet = functools.partial(apply_unet, refiner.system.unet, refiner.params["unet"], x, t, factor=8)
    told, same = unet(rows), unet(rows._replace(score=jnp.full(4, 6.0)))
    assert np.abs(told - same).max(axis=(1, 2, 3)).astype(bool).tolist() == [False, False, True, True]


def test_a_refiner_is_known_by_its_index_and_needs_its_unet(sdxl_folder, tmp_path):
    folder = public_folders.stable_diffusion_refiner(tmp_path / "refiner")
    for changed in ({"requires_aesthetics_score": None}, {"requires_aesthetics_score": False}):
        with pytest.raises(ValueError, match="lacks text_encoder: a StableDiffusionXLImg2ImgPipeline has"):
            described(folder, tmp_path, "model_index.json", **changed)
    with pytest.raises(ValueError, match="takes 6 size ids, and a pipeline of its kind has 5"):
        described(sdxl_folder, tmp_path, "model_index.json", requires_aesthetics_score=True)
