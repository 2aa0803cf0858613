"""Images edited by the tiny system: where loops begin, what stays, what compiles, and what is refused."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dalle3_jax.diffusion.inversion import invert
from dalle3_jax.diffusion.spacing import sampling_times
from dalle3_jax.models.build import build_models
from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.batching import encode_edits
from dalle3_jax.pipeline.joined_release import join_decoders
from dalle3_jax.pipeline.request import Request, request_from_metadata
from tests.pipeline.test_pipeline import counted_compilations
from tests.tiny import SECTIONS, randomised, tiny_decoders, tiny_release

IMAGE = np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8)
MASK = np.zeros((16, 16), np.uint8)
MASK[3:9, 5:16] = 255
BATCH = 2


def pixels(picture) -> np.ndarray:
    return np.asarray(picture.image, np.int16)


def latents_of(pipeline: Pipeline, request: Request):
    """The latents of one request, and what its loop begins with."""
    edit = encode_edits(pipeline, [request])
    condition = pipeline.prompts.get([request.prompt])
    return pipeline.sample_latents(condition, condition, [request], edit=edit), edit


@pytest.mark.parametrize(("sampler", "source"), [("ddim", ""), ("unipc", ""), ("pndm", ""), ("ddim", "an owl")])
def test_image_to_image_is_the_rest_of_a_loop_from_the_noised_image(pipeline, sampler, source):
    """As a loop of its own over the last times would do it: nothing stands before its first step."""
    how = {"sampler": sampler, "guidance_scale": 1.0, "steps": 4, "source_prompt": source}
    request = pipeline.request("a fox", image=IMAGE, strength=0.5, **how)
    made, edit = latents_of(pipeline, request)
    system, seeds = pipeline.system, jnp.asarray([request.seed], jnp.uint32)
    times = sampling_times(system.schedule, 4, system.spacing, sampler)
    keys = programs.fold_in_purpose(programs.image_keys(seeds), programs.INITIAL)
    noise = programs.samplers.noise(keys, edit.latents.shape[1:])
    x = system.schedule.alpha(times[2]) * edit.latents + system.schedule.sigma(times[2]) * noise
    if source:
        of_source = programs.denoiser(pipeline.params, pipeline.encode([source]), system=system)
        x = invert(of_source, system.schedule, edit.latents, times[2:], programs.CORRECTIONS)
    denoise = programs.denoiser(pipeline.params, pipeline.encode(["a fox"]), system=system)
    step = programs.samplers.find_step(sampler, system.prediction)
    expected = programs.samplers.sample(step, denoise, system.schedule, x, times[2:], keys)
    np.testing.assert_allclose(made, expected, atol=2e-4)


def test_outside_a_mask_nothing_changes_whatever_decodes(pipeline):
    fancy = Pipeline(tiny_decoders())
    for who, settings in [(pipeline, {}), (pipeline, {"feather": 0}), (fancy, {"decoder": "consistency"})]:
        [picture] = who.edit(IMAGE, "a fox", mask=MASK, batch_size=BATCH, **settings)
        difference = np.abs(pixels(picture) - IMAGE)
        assert difference[MASK == 0].max() == 0
        assert difference[MASK > 0].mean() > 10


def test_a_masked_image_goes_through_tiles(pipeline):
    """The first cells are those of the first window alone, in which a norm sees less than the whole."""
    wide = np.random.default_rng(4).integers(0, 256, (16, 200, 3), np.uint8)
    rows = MASK[:, 8]
    [picture] = pipeline.edit(wide, "a fox", mask=np.repeat(rows[:, None], 200, 1), tile=144, size=(16, 200))
    assert picture.image.size == (200, 16)
    np.testing.assert_array_equal(pixels(picture)[rows == 0], wide[rows == 0])
    images = wide[None].astype(np.float32) / 127.5 - 1
    first, tiled = pipeline.codec.encode(images[:, :, :144]), pipeline.codec.encode(images, tile=144)
    assert tiled.shape == (1, 2, 25, 2)
    np.testing.assert_allclose(tiled[:, :, :8], first[:, :, :8], atol=1e-4)


def test_an_outpainted_image_keeps_its_pixels_and_grows(pipeline):
    [picture] = pipeline.edit(IMAGE, "a fox", outpaint="2:1", batch_size=BATCH)
    assert picture.image.size == (32, 16)
    np.testing.assert_array_equal(pixels(picture)[:, 8:24], IMAGE)
    assert picture.metadata["outpaint"] == "2:1"
    assert picture.metadata["digitalSourceType"].endswith("/compositeWithTrainedAlgorithmicMedia")
    assert b"compositeWithTrainedAlgorithmicMedia" in picture.to_png()
    assert (picture.metadata["height"], picture.metadata["width"]) == (16, 32)


def test_every_kind_of_edit_compiles_once(pipeline):
    pipeline.edit(IMAGE, "a lone text", strength=0.5, batch_size=BATCH)  # encoded by no other test
    pipeline.edit(IMAGE, "a fox", mask=MASK, batch_size=BATCH)
    with counted_compilations() as compiled:
        pipeline.edit(255 - IMAGE, "an owl", strength=0.75, n=3, batch_size=BATCH)
        pipeline.edit(IMAGE, "an owl", mask=255 - MASK, strength=0.5, guidance_scale=4.0, batch_size=BATCH)
    assert compiled == []


def test_an_edit_is_the_same_bits_whatever_stands_beside_it(pipeline):
    requests = [pipeline.request("a fox", image=IMAGE, strength=0.5, seed=seed) for seed in (1, 2)]
    requests += [pipeline.request("a fox", image=255 - IMAGE, strength=0.5), pipeline.request("a fox", seed=1)]
    made = dict(pipeline.generate(requests, batch_size=BATCH))
    [(_, alone)] = pipeline.generate(requests[1:2], batch_size=BATCH)
    np.testing.assert_array_equal(pixels(alone), pixels(made[1]))
    assert (pixels(made[0]) != pixels(made[2])).any()
    assert (pixels(made[0]) != pixels(made[3])).any()


def test_metadata_name_the_input_and_the_picture_can_be_made_again(pipeline, tmp_path):
    [picture] = pipeline.edit(IMAGE, "a fox", mask=MASK, seed=4, batch_size=BATCH)
    again = request_from_metadata(picture.metadata)
    with pytest.raises(ValueError, match=f"made from the image of SHA-256 {picture.metadata['image']}"):
        pipeline.check_requests([again])
    whole = dataclasses.replace(again, edit=dataclasses.replace(picture.request.edit))
    [(_, repeated)] = pipeline.generate([whole], batch_size=BATCH)
    np.testing.assert_array_equal(pixels(repeated), pixels(picture))


def test_an_image_may_be_a_path_an_image_an_array_or_a_generated_image(pipeline, tmp_path):
    [picture] = pipeline("a fox", seed=9, batch_size=BATCH)
    picture.save(tmp_path / "fox.png")
    sources = [picture, picture.image, np.asarray(picture.image), tmp_path / "fox.png", str(tmp_path / "fox.png")]
    assert len({pipeline.request("a", image=source).identity("x") for source in sources}) == 1


def test_variations_are_new_seeds_of_the_prompt_that_an_image_carries(pipeline):
    [picture] = pipeline("a fox", seed=9, batch_size=BATCH)
    near = pipeline.variations(picture, n=2, strength=0.5, batch_size=BATCH)
    assert [(one.prompt, one.seed, one.request.edit.strength) for one in near] == [
        ("a fox", 10, 0.5),
        ("a fox", 11, 0.5),
    ]
    [far] = pipeline.variations(picture, strength=1, seed=10, batch_size=BATCH)
    np.testing.assert_array_equal(pixels(far), pixels(pipeline("a fox", seed=10, batch_size=BATCH)[0]))
    [described] = pipeline.variations(IMAGE, describe=lambda image: f"side {len(image)}", batch_size=BATCH)
    assert described.prompt == "side 16"
    with pytest.raises(ValueError, match="which carries no prompt"):
        pipeline.variations(IMAGE)


def test_an_edit_in_words_keeps_the_seed_and_follows_the_language_model(pipeline):
    [picture] = pipeline("a fox in the snow", seed=9, batch_size=BATCH)
    asked = []

    def chat(ask):
        asked.append((ask.prompt, ask.previous[-1].revised))
        return "A picture of a small fox that sits quite alone in the middle of the dark night."

    with pytest.raises(ValueError, match="longer than what the model reads"):
        pipeline.edit(picture, instruction="make it night", chat=chat)
    longer = Pipeline(dataclasses.replace(pipeline.release, text={"length": 96}))
    [night] = longer.edit(picture, instruction="make it night", chat=chat, batch_size=BATCH)
    assert asked[-1] == ("make it night", "a fox in the snow")
    assert (night.seed, night.request.original_prompt) == (9, "make it night")
    assert night.prompt.startswith("A picture of a small fox")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strength": 0.0}, "strength 0.0: above 0"),
        ({"strength": 1.0}, "strength 1 keeps nothing of the image"),
        ({"strength": 1.5}, "strength 1.5"),
        ({"strength": float("nan")}, "strength nan must be a number"),
        ({"strength": 0.1}, "leaves none of 4 steps: use at least 0.25"),
        ({"mask": MASK[:8]}, "a mask of 16x8 pixels for an image of 16x16"),
        ({"mask": 0 * MASK}, "the mask is empty"),
        ({"mask": 0 * MASK + 255}, "the mask is full"),
        ({"outpaint": "1:1"}, "adds nothing"),
        ({"outpaint": "wide"}, "must be a shape such as 16:9"),
        ({"outpaint": "0:9"}, "is no shape"),
        ({"outpaint": "9000"}, "at most 4096 a side"),
        ({"image": IMAGE[:1, :1]}, "an image of 1x1 pixels is too small"),
        ({"image": 7}, "a int is no image"),
        ({"image": IMAGE.astype(np.float32)}, "is no image: give uint8"),
        ({"image": Image.new("1", (4100, 4100))}, "4100 x 4100 pixels: at most"),
        ({"image": None, "mask": MASK}, "mask without an image"),
        ({"image": None, "strength": 0.5}, "strength without an image"),
        ({"feather": -1}, "feather -1 must be"),
        ({"source_prompt": "an owl", "mask": MASK}, "beside a mask or outpaint"),
    ],
)
def test_what_cannot_be_edited_is_named(pipeline, settings, told):
    with pytest.raises(ValueError, match=told):
        pipeline.request("a fox", **{"image": IMAGE, **settings})


def test_either_a_prompt_or_an_instruction(pipeline):
    for given in ({}, {"prompt": "a fox", "instruction": "make it night"}):
        with pytest.raises(ValueError, match="give either a prompt"):
            pipeline.edit(IMAGE, **given)


@pytest.fixture(scope="module")
def painter() -> Pipeline:
    """The tiny system with a UNet that is shown a mask."""
    release = tiny_release()
    unet = build_models({**SECTIONS, "unet": {**SECTIONS["unet"], "in_channels": 5}})
    params = release.params | {"unet": randomised(unet["unet"], unet, 5)}
    return Pipeline(dataclasses.replace(release, modules=release.modules | {"unet": unet["unet"]}, params=params))


def test_an_inpainting_model_is_joined_by_decoders_like_any(painter):
    whole, own = tiny_decoders(), painter.release
    parts = {name: getattr(whole, name) | {"unet": getattr(own, name)["unet"]} for name in ("modules", "params")}
    joined = join_decoders(dataclasses.replace(own, decoders=whole.decoders, **parts), [], "consistency")
    assert joined.sampling["decoder"] == "consistency"
    with pytest.raises(ValueError, match="unknown decoder 'consistency'"):
        join_decoders(own, [], "consistency")


def test_an_inpainting_unet_sees_the_rest_and_paints_the_mask(painter):
    request = painter.request("a fox", image=IMAGE, mask=MASK)
    edit = encode_edits(painter, [request])
    hidden = np.where(MASK[..., None] > 0, 0, IMAGE / 127.5 - 1)[None].astype(np.float32)
    np.testing.assert_allclose(edit.beside, painter.codec.encode(hidden), atol=1e-4)
    [picture] = painter.edit(IMAGE, "a fox", mask=MASK)
    assert np.abs(pixels(picture) - IMAGE)[MASK == 0].max() == 0
    [other] = painter.edit(255 - IMAGE, "a fox", mask=MASK)
    assert (pixels(other)[MASK > 0] != pixels(picture)[MASK > 0]).any()


@pytest.mark.parametrize("settings", [{}, {"image": IMAGE}])
def test_an_inpainting_unet_without_a_mask_says_so(painter, settings):
    with pytest.raises(ValueError, match="this model paints into masks alone"):
        painter.request("a fox", **settings)


def test_a_foreign_image_is_inverted_for_an_edit_in_words(pipeline):
    longer = Pipeline(dataclasses.replace(pipeline.release, text={"length": 96}))
    night = "A picture of a small fox that sits quite alone in the middle of the dark night."
    [made] = longer.edit(IMAGE, instruction="make it night", describe=lambda _: "a fox", chat=lambda _: night)
    assert (made.request.edit.source_prompt, made.prompt) == ("a fox", night)
    assert made.metadata["source_prompt"] == "a fox"
    assert set(made.request.texts) == {"a fox", night, ""}
