"""SETTINGS is one table: what is derived of it agrees, and the pictures of before keep identities, names and texts."""

import dataclasses
import inspect
import json

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.commands.sample import build_parser
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.diffusion.spacing import SPACINGS
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.input_images import open_input_image, open_input_mask
from dalle3_jax.pipeline.jobs import KEYS
from dalle3_jax.pipeline.png import GeneratedImage, a1111_parameters
from dalle3_jax.pipeline.request import (
    PARTS,
    SETTINGS,
    Decoding,
    Edit,
    Guidance,
    Request,
    Sampling,
    Upscaling,
    make_request,
    request_errors,
    request_from_metadata,
    setting_values,
)
from dalle3_jax.pipeline.setting_notices import setting_notices
from dalle3_jax.pipeline.setting_values import Capabilities

CHECKPOINT = "c0ffee" * 10
PLAIN = {"size": (256, 256), "steps": 20, "sampler": "ddim", "guidance_scale": 3.0}
ALL = {
    "size": (128, 224),
    "steps": 30,
    "sampler": "dpmsolver++",
    "spacing": "karras",
    "guidance_scale": 2,
    "guidance_interval": [0, 0.75],
    "guidance_rescale": 0.5,
    "decoder": "consistency",
    "decoder_steps": 2,
    "tile": 192,
    "seed": 7,
    "negative_prompt": "snow",
    "original_prompt": "apple",
}
LARGER = {
    "upscale": 2,
    "upscale_steps": 3,
    "upscale_noise_level": 40,
    "upscale_guidance_scale": 2.5,
    "upscale_tile": 256,
}
SHORTCUTS = {"deep_cache": 2, "text_gate": 0.25, "guidance_parallel": 0.5, "guidance_norm": 15.0}
PIXELS = np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3)
EDITED = {
    "image": Image.fromarray(PIXELS),
    "mask": Image.fromarray(PIXELS[..., 0]),
    "strength": 0.5,
    "outpaint": "2:1",
    "feather": 7,
    "source_prompt": "b",
}
PROMPTED = {"image_prompt": Image.fromarray(PIXELS), "image_prompt_scale": 0.5}
UNGUIDED = {"size": [64, 64], "steps": 1, "sampler": "euler_ancestral", "guidance_scale": 1, "seed": 2**32 - 1}

# As the first release of this package wrote them: (identity, metadata, A1111's lines).
FROZEN = {
    "plain": (
        ("a panda on a beach", PLAIN),
        "e155690c2d0fceeb58debb74a66e553ab90b5be21a6c2d2195e9fc1cda6bab3f",
        '{"prompt": "a panda on a beach", "steps": 20, "sampler": "ddim", "guidance_scale": 3.0, "seed": 0, '
        '"negative_prompt": "", "guidance_interval": [0.0, 1.0], "guidance_rescale": 0.0, "decoder": "vae", '
        '"decoder_steps": 0, "tile": 0, "spacing": "", "width": 256, "height": 256, "batch_size": 4, ',
        "a panda on a beach\nSteps: 20, Sampler: DDIM, CFG scale: 3, Seed: 0, Size: 256x256, ",
    ),
    "all": (
        ("a red apple", ALL),
        "0f0c6bfc7615d5cae104d9c6914b58ecaf4421edc6905407fa1dda863ed2bd79",
        '{"prompt": "a red apple", "steps": 30, "sampler": "dpmsolver++", "guidance_scale": 2.0, "seed": 7, '
        '"negative_prompt": "snow", "guidance_interval": [0.0, 0.75], "guidance_rescale": 0.5, "decoder": '
        '"consistency", "decoder_steps": 2, "tile": 192, "spacing": "karras", "original_prompt": "apple", "width": '
        '224, "height": 128, "batch_size": 4, ',
        "a red apple\nNegative prompt: snow\nSteps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 2, "
        "Seed: 7, Size: 224x128, Decoder: consistency, ",
    ),
    "unguided": (
        ("Größe 🐼", UNGUIDED),
        "76f0c409d94e8c49a131a40a64f8dfc61ea44b1f033f04002402f708f7d7dbe3",
        '{"prompt": "Gr\\u00f6\\u00dfe \\ud83d\\udc3c", "steps": 1, "sampler": "euler_ancestral", "guidance_scale": '
        '1.0, "seed": 4294967295, "negative_prompt": "", "guidance_interval": [0.0, 1.0], "guidance_rescale": 0.0, '
        '"decoder": "vae", "decoder_steps": 0, "tile": 0, "spacing": "", "width": 64, "height": 64, "batch_size": 4, ',
        "Größe 🐼\nSteps: 1, Sampler: Euler a, CFG scale: 1, Seed: 4294967295, Size: 64x64, ",
    ),
}


def generated(request: Request) -> GeneratedImage:
    return GeneratedImage(Image.new("RGB", (8, 8)), request, CHECKPOINT, 4)


@pytest.mark.parametrize("name", FROZEN)
def test_pictures_of_before_keep_identity_metadata_and_parameters(name):
    (prompt, settings), identity, metadata, parameters = FROZEN[name]
    request = make_request(prompt, settings)
    made = generated(request).metadata
    assert request.identity(CHECKPOINT) == identity
    assert json.dumps(made) == (
        f'{metadata}"checkpoint": "{CHECKPOINT}", "software": "{made["software"]}", "digitalSourceType": '
        '"http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}'
    )
    assert a1111_parameters(made) == f"{parameters}Model hash: c0ffeec0ff, Version: {made['software']}"
    in_memory = a1111_parameters(made | {"checkpoint": ""})
    assert in_memory == f"{parameters}Version: {made['software']}"
    assert request_from_metadata(json.loads(json.dumps(made))) == request


OLDEST = {
    **{"prompt": "a fox", "steps": 20, "sampler": "ddim", "guidance_scale": 3.0, "seed": 5, "negative_prompt": ""},
    **{"guidance_rescale": 0.0, "guidance_interval": [0.0, 1.0], "width": 128, "height": 128},
}


def test_the_oldest_pictures_load_and_keep_their_identity():
    request = request_from_metadata(OLDEST)
    assert request.decoding == Decoding()
    assert request.identity("x") == "cc31866d4d5dce46e1fadd4ecf1ad3c091483b2fa59bab09291f249226221faa"


@pytest.mark.parametrize("name", OLDEST)
def test_metadata_without_a_setting_of_all_pictures_is_refused(name):
    rest = {key: value for key, value in OLDEST.items() if key != name}
    with pytest.raises(ValueError, match=f"settings of this picture are incomplete: it lacks {name}"):
        request_from_metadata(rest)


def test_a_later_setting_is_told_and_decides_only_where_it_is_not_at_its_default():
    cold, own = (make_request("a", {**ALL, "decoder_temperature": value}) for value in (0, None))
    assert "decoder_temperature" not in generated(own).metadata
    assert own.identity("") == make_request("a", ALL).identity("")
    assert generated(cold).metadata["decoder_temperature"] == 0.0
    assert cold.identity("") != own.identity("")
    assert request_from_metadata(generated(cold).metadata) == cold


def test_every_field_of_a_request_is_one_row_of_the_table():
    fields = {f"{part}.{field.name}".lstrip(".") for part in PARTS for field in dataclasses.fields(PARTS[part])}
    assert sorted(setting.place for setting in SETTINGS.values()) == sorted(fields - set(PARTS))
    assert [setting.name for setting in SETTINGS.values() if not setting.decisive] == ["original_prompt"]


def test_every_setting_can_be_set_everywhere():
    flags = vars(build_parser().parse_args([]))
    named = {name for name, setting in SETTINGS.items() if setting.has_flag}
    assert named == SETTINGS.keys() - {"prompt", "original_prompt"}
    assert all(flags[name] is None for name in named)
    assert KEYS.keys() == SETTINGS.keys() | {"n"}
    assert SETTINGS.keys() - {"prompt"} <= inspect.signature(Pipeline.__call__).parameters.keys()
    assert all(f"{name}: " in (Pipeline.__call__.__doc__ or "") for name in named - {"seed"})


def test_every_setting_stands_where_its_row_says():
    values = {"decoder_temperature": 0.5, **ALL, **LARGER, **SHORTCUTS, **EDITED, **PROMPTED}
    request = make_request("a red apple", values)
    assert request.sampling == Sampling(30, "dpmsolver++", "karras", 2, 0.25)
    assert request.guidance == Guidance(2.0, (0.0, 0.75), 0.5, 0.5, 15.0)
    assert request.decoding == Decoding("consistency", 2, 0.5, 192)
    assert request.upscaling == Upscaling(2, 3, 40, 2.5, 256)
    image = open_input_image(PIXELS)
    assert request.edit == Edit(image, open_input_mask(PIXELS[..., 0]), 0.5, "2:1", 7, "b", image, 0.5)
    read = {name: setting.type.read(value) for name, setting in SETTINGS.items() if (value := values.get(name))}
    assert setting_values(request) == {"prompt": "a red apple", **read}
    assert all(value != SETTINGS[name].default for name, value in read.items()), "the test would not see a mix-up"


def test_the_records_defaults_can_be_had_everywhere():
    assert request_errors(Request("", (8, 8)), Capabilities(tuple(SAMPLERS), SPACINGS)) == []


def test_help_names_every_sampler_and_spacing():
    assert [name for name in SAMPLERS if name not in SETTINGS["sampler"].help] == []
    assert [name for name in SPACINGS if name not in SETTINGS["spacing"].help] == []


def test_metadata_hold_the_digests_of_an_edit_and_give_it_back():
    request = make_request("a", {**PLAIN, **EDITED})
    made = json.loads(json.dumps(generated(request).metadata))
    assert made["image"] == open_input_image(Image.fromarray(PIXELS)).sha256
    assert made["mask"] == open_input_mask(PIXELS[..., 0]).sha256
    again = request_from_metadata(made)
    assert again == request
    assert again.identity("x") == request.identity("x") != make_request("a", PLAIN).identity("x")
    other = make_request("a", {**PLAIN, **EDITED, "image": PIXELS + 1})
    assert other.identity("x") != request.identity("x")
    assert request_errors(again, Capabilities(tuple(SAMPLERS), SPACINGS)) == [
        f"it was made from the image of SHA-256 {made['image']}, which it does not hold: give that as image"
    ]
    with pytest.raises(ValueError, match=r"damaged: 'x\.png' is no SHA-256"):
        request_from_metadata(made | {"image": "x.png"})


def test_an_unknown_setting_lists_all_that_exist():
    with pytest.raises(ValueError, match="unknown setting promt, setps: known are ") as error:
        make_request("a", {"setps": 3, "promt": "b"})
    assert all(name in str(error.value) for name in SETTINGS.keys() - {"prompt"})


def test_a_request_is_checked_against_all_that_a_pipeline_can_do():
    capabilities = Capabilities(("ddim",), factor=16, texts=frozenset({"a"}), timing_errors=lambda sampling: ["late"])
    request = make_request("b", {"size": (24, 32), "sampler": "euler", "decoder": "refiner", "spacing": "karras"})
    assert request_errors(request, capabilities) == [
        "unknown sampler 'euler': use one of ddim",
        "unknown spacing 'karras': use one of ",
        "size 32x24 is not a multiple of 16: use 32x32",
        "unknown decoder 'refiner': use one of vae",
        "'b' was not encoded before the text encoder was dropped",
        "'' was not encoded before the text encoder was dropped",
    ]
    good = make_request("a", {"size": (32, 32), "negative_prompt": "a"})
    assert request_errors(good, capabilities) == ["late"]
    assert request_errors(good, dataclasses.replace(capabilities, timing_errors=lambda sampling: [])) == []


TIMES = (1.0, 0.75, 0.5, 0.25)
STEPPED = Capabilities(samplers=("ddim",), step_times=lambda sampling: TIMES[: sampling.steps])
ALONE = "guidance_scale 1 is no guidance"


@pytest.mark.parametrize(
    ("settings", "notice"),
    [
        ({"guidance_scale": 0}, "guidance_scale 0 leaves the prompt no say (other tools take 0 for no guidance)"),
        ({"guidance_scale": 0.5}, "guidance_scale 0.5 gives the prompt less say than no guidance does"),
        ({"guidance_scale": -2}, "guidance_scale -2 leads away from the prompt"),
        ({"guidance_scale": 1, "negative_prompt": "snow"}, f"negative_prompt 'snow' has no effect: {ALONE}"),
        ({"guidance_scale": 1, "guidance_interval": [0, 0.5]}, f"guidance_interval 0 0.5 has no effect: {ALONE}"),
        (
            {"guidance_scale": 1, "negative_prompt": "snow", "guidance_rescale": 0.7},
            f"negative_prompt 'snow' and guidance_rescale 0.7 have no effect: {ALONE}",
        ),
        (
            {"guidance_interval": [0.3, 0.45], "negative_prompt": "snow"},
            "guidance_scale 3 and negative_prompt 'snow' and guidance_interval 0.3 0.45 have no effect: none of the 4 "
            "steps, from 1 to 0.25, begins within the interval",
        ),
        ({"guidance_interval": [0.3, 0.5], "negative_prompt": "snow"}, ""),
        ({"guidance_scale": 1}, ""),
        ({"guidance_scale": 1, "negative_prompt": " "}, ""),
        ({"guidance_scale": 1, "negative_prompt": "snow", "upscale": 2}, ""),
        ({"guidance_scale": 1.01, "negative_prompt": "snow", "guidance_rescale": 0.7}, ""),
        ({"feather": 9}, "feather 9 has no effect: there is no mask and no outpaint"),
        ({"deep_cache": 3, "steps": 1}, "deep_cache 3 has no effect: there is one step"),
        ({"deep_cache": 3, "steps": 2}, ""),
        ({"text_gate": 0.2}, "text_gate 0.2 has no effect: no step after the first begins below it"),
        ({"text_gate": 0.3}, ""),
    ],
)
def test_settings_without_effect_and_scales_below_one_get_a_notice_each(settings, notice):
    request = make_request("a fox", {**PLAIN, "steps": 4, **settings})
    found = setting_notices([request, dataclasses.replace(request, prompt="a dog")], STEPPED)
    assert [text.removesuffix("; 1 is no guidance") for text in found] == ([notice] if notice else [])


def test_no_word_is_lost_on_the_defaults_of_a_release():
    defaults = {"guidance_scale": 0.5, "guidance_interval": (0.0, 0.75), "guidance_rescale": 0.3}
    own = make_request("a fox", {**PLAIN, **defaults})
    assert setting_notices([own], STEPPED, defaults) == []
    unguided = dataclasses.replace(own, guidance=dataclasses.replace(own.guidance, scale=1.0))
    assert setting_notices([unguided], STEPPED, defaults) == []
    assert len(setting_notices([own, unguided], STEPPED)) == 2


def test_a_model_that_takes_the_scale_itself_has_no_use_for_what_acts_by_a_null_pass():
    student = dataclasses.replace(STEPPED, takes_guidance_scale=True)
    request = make_request("a fox", {**PLAIN, "negative_prompt": "snow"})
    [notice] = setting_notices([request], student)
    assert notice.startswith("negative_prompt 'snow' has no effect: this model takes the guidance scale itself")
    assert setting_notices([make_request("a fox", PLAIN)], student) == []


@pytest.mark.parametrize("interval", [(0.8, 0.2), (1, 0), (0.5, -0.5)])
def test_a_reversed_interval_is_an_error_that_shows_it_turned(interval):
    request = make_request("a fox", {**PLAIN, "guidance_interval": interval})
    [error] = request_errors(request, STEPPED)
    assert error.endswith(f"holds no time: give {interval[1]:g} {interval[0]:g}, the lower number first (1 is noise)")


@pytest.mark.parametrize(("scale", "text"), [(3.0, "3"), (7.5, "7.5"), (2.3456789, "2.3456789"), (1 / 3, repr(1 / 3))])
def test_the_guidance_scale_is_told_in_full(scale, text):
    parameters = a1111_parameters(generated(make_request("a fox", {**PLAIN, "guidance_scale": scale})).metadata)
    assert f", CFG scale: {text}, " in parameters
