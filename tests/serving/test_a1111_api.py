"""stable-diffusion-webui's API as Open WebUI, SillyTavern and LibreChat call it."""

import asyncio
import base64
import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.diffusion.spacing import SPACINGS
from dalle3_jax.pipeline.image_formats import encode_png
from dalle3_jax.serving import a1111_api
from dalle3_jax.serving.a1111_names import split_sampler
from tests.serving.conftest import until
from tests.serving.test_openai_api import error_of

API = "/sdapi/v1"
SAME = {"prompt": "a panda", "seed": 5, "n": 2}


def test_images_are_those_of_the_other_api_and_info_is_json_in_a_string(client):
    """LibreChat parses `info`, and reads infotexts, seed, width and height."""
    body = {"prompt": "a panda", "seed": 5, "batch_size": 2, "width": 512, "height": 512, "cfg_scale": 3}
    answer = client.post(f"{API}/txt2img", json=body).json()
    other = client.post("/v1/images/generations", json={**SAME, "guidance_scale": 3}).json()["data"]
    assert answer["images"] == [datum["b64_json"] for datum in other]
    info = json.loads(answer["info"])
    assert (info["seed"], info["all_seeds"], info["width"], info["height"], info["steps"]) == (5, [5, 6], 16, 16, 4)
    assert info["sampler_name"] == "DDIM"
    assert info["infotexts"][0].startswith("a panda\nSteps: 4, Sampler: DDIM, CFG scale: 3, Seed: 5")
    assert answer["parameters"] == body


def test_what_sillytavern_sends(client):
    """Its body is full of what we do not have; the names are those of the lists."""
    sampler = client.get(f"{API}/samplers").json()[0]["name"]
    scheduler = client.get(f"{API}/schedulers").json()[0]["label"]
    body = {
        **{"prompt": "a <lora:x:1> panda", "negative_prompt": "", "sampler_name": sampler, "scheduler": scheduler},
        **{"steps": 4, "cfg_scale": 2, "width": 512, "height": 512, "restore_faces": False, "enable_hr": True},
        **{"hr_upscaler": "Latent", "hr_scale": 2, "denoising_strength": 0.7, "save_images": True, "clip_skip": 1},
        **{"send_images": True, "do_not_save_grid": False, "do_not_save_samples": False, "seed": -1},
        "override_settings": {"CLIP_stop_at_last_layers": 1, "sd_vae": "x"},
    }
    answer = client.post(f"{API}/txt2img", json=body).json()
    assert len(answer["images"]) == 1
    assert sum("enable_hr" in warning for warning in answer["warnings"]) == 1
    assert json.loads(answer["info"])["prompt"] == "a  panda"


def test_what_open_webui_sends(client):
    assert client.get(f"{API}/options").json()["sd_model_checkpoint"] == "tiny"
    [model] = client.get(f"{API}/sd-models").json()
    assert model["title"] == model["model_name"] == "tiny"
    answer = client.post(f"{API}/options", json={"sd_model_checkpoint": model["title"]})
    assert (answer.status_code, answer.json()) == (200, None)
    body = {"prompt": "a panda", "batch_size": 1, "width": 512, "height": 512}
    [image] = client.post(f"{API}/txt2img", json=body).json()["images"]
    assert Image.open(io.BytesIO(base64.b64decode(image))).size == (16, 16)


@pytest.mark.parametrize(
    ("sampler", "scheduler", "settings"),
    [
        ("Euler a", "", {"sampler": "euler_ancestral"}),
        ("euler a", "Automatic", {"sampler": "euler_ancestral"}),
        ("DPM++ 2M Karras", "", {"sampler": "dpmsolver++", "spacing": "karras"}),
        ("DPM++ 2M", "karras", {"sampler": "dpmsolver++", "spacing": "karras"}),
        ("DPM++ 2M SDE", "SGM Uniform", {"sampler": "dpmsolver++_sde", "spacing": "uniform"}),
        ("unipc", "logsnr", {"sampler": "unipc", "spacing": "logsnr"}),
        ("", "", {}),
    ],
)
def test_samplers_have_the_names_of_both(sampler, scheduler, settings):
    assert split_sampler(sampler, scheduler, SAMPLERS, SPACINGS) == (settings, [])


def test_names_that_nobody_knows_are_passed_over_with_a_warning():
    settings, warnings = split_sampler("Restart", "Beta", SAMPLERS, SPACINGS)
    assert settings == {}
    assert [("Restart" in warning, "Beta" in warning) for warning in warnings] == [(True, False), (False, True)]


def test_every_listed_name_is_one_that_is_understood(client):
    for row in client.get(f"{API}/samplers").json():
        for name in (row["name"], *row["aliases"]):
            assert "sampler" in split_sampler(name, "", SAMPLERS, SPACINGS)[0]
    for row in client.get(f"{API}/schedulers").json():
        for name in (row["name"], row["label"]):
            assert split_sampler("", name, SAMPLERS, SPACINGS)[1] == []


@pytest.mark.parametrize("name", ["latent-upscale-modes", "sd-vae", "loras", "upscalers"])
def test_lists_are_there(client, name):
    assert isinstance(client.get(f"{API}/{name}").json(), list)


def encode_off_the_loop(image: Image.Image) -> bytes:
    """The PNG of an image; fails where an event loop waits for it."""
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()
    return encode_png(image)


def test_progress_shows_the_image_as_it_is_and_interrupt_ends_it(client, gate, monkeypatch):
    engine = client.app.state.service.engine
    black = np.zeros((1, 16, 16, 3), np.float32)
    monkeypatch.setattr(engine.pipeline.codec, "decode", lambda latents, _: np.repeat(black, len(latents), axis=0))
    monkeypatch.setattr(a1111_api, "encode_png", encode_off_the_loop)
    answers = []
    idle = client.get(f"{API}/progress").json()
    assert (idle["progress"], idle["current_image"]) == (0.0, None)
    thread = threading.Thread(target=lambda: answers.append(client.post(f"{API}/txt2img", json={"prompt": "a"})))
    thread.start()
    seen = []

    def is_shown() -> bool:
        seen.append(client.get(f"{API}/progress").json())
        return seen[-1]["current_image"] is not None

    until(lambda: engine.running)
    assert not is_shown()  # and who asks sees what the next step leaves
    gate.let_through(1)
    until(is_shown)
    told = seen[-1]
    assert 0 < told["progress"] < 1
    assert told["state"]["sampling_steps"] == 4
    assert Image.open(io.BytesIO(base64.b64decode(told["current_image"]))).size == (16, 16)
    assert client.post(f"{API}/interrupt").status_code == 200
    thread.join(60)
    gate.let_through()
    assert (answers[0].status_code, answers[0].json()["images"]) == (200, [])


def test_interrupt_leaves_jobs_of_the_other_api_alone(client, gate):
    job = client.post("/v1/images/jobs", json={"prompt": "a"}).json()
    client.post(f"{API}/interrupt")
    assert client.get(f"/v1/images/jobs/{job['id']}").json()["status"] in ("queued", "running")
    client.delete(f"/v1/images/jobs/{job['id']}")


def test_what_a_png_says_of_itself(client):
    [image] = client.post(f"{API}/txt2img", json={"prompt": "a panda", "seed": 5}).json()["images"]
    for text in (image, f"data:image/png;base64,{image}"):
        told = client.post(f"{API}/png-info", json={"image": text}).json()
        assert told["info"] == told["items"]["parameters"]
        assert told["info"].startswith("a panda\n")


def test_image_to_image_paints_what_is_white_in_the_mask(client):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    mask = np.zeros((8, 8), np.uint8)  # of another size, as masks of this API may be
    mask[:, :4] = 255
    image, mask = (base64.b64encode(encode_png(Image.fromarray(array))).decode() for array in (pixels, mask))
    body = {"prompt": "a", "seed": 5, "init_images": [f"data:image/png;base64,{image}"], "denoising_strength": 1}
    for options, kept in (({"mask": mask}, slice(8, 16)), ({"mask": mask, "inpainting_mask_invert": 1}, slice(0, 8))):
        answer = client.post(f"{API}/img2img", json=body | options).json()
        made = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["images"][0]))))
        assert np.array_equal(made[:, kept], pixels[:, kept])
        assert not np.array_equal(made, pixels)
        assert json.loads(answer["info"])["denoising_strength"] == 1
        assert "init_images" not in answer["parameters"]
    whole = client.post(f"{API}/img2img", json=body).json()
    assert len(whole["images"]) == 1


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "init_images"),
        ({"init_images": []}, "init_images"),
        ({"init_images": ["http://127.0.0.1/x.png"]}, "init_images"),
        ({"init_images": ["AAAA"]}, "init_images"),
        ({"denoising_strength": 0}, "denoising_strength"),
        ({"denoising_strength": 2}, "denoising_strength"),
        ({"mask": "%"}, "mask"),
        ({"mask_blur": -1}, "mask_blur"),
    ],
)
def test_a_bad_value_of_image_to_image_is_named(client, body, param):
    image = base64.b64encode(encode_png(Image.new("RGB", (16, 16)))).decode()
    body = body if body.keys() <= {"init_images"} else {"init_images": [image], **body}
    answer = client.post(f"{API}/img2img", content=json.dumps(body))
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


LARGE = encode_png(Image.new("1", (4100, 4100)))  # of more than 2^24 pixels


@pytest.mark.parametrize("content", ["", "%", "http://127.0.0.1/x.png", 3, None, base64.b64encode(LARGE).decode()])
def test_what_is_no_png_is_refused(client, content):
    answer = client.post(f"{API}/png-info", json={"image": content})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "image")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"prompt": 3}, "prompt"),
        ({"batch_size": 4, "n_iter": 4}, "n_iter"),
        ({"steps": 0}, "steps"),
        ({"cfg_scale": 1e999}, "cfg_scale"),
        ({"steps": "x"}, "steps"),
        ({"width": 0}, "width"),
        ({"cfg_scale": [1]}, "cfg_scale"),
        ({"override_settings": 3}, "override_settings"),
    ],
)
def test_a_bad_value_is_named(client, body, param):
    answer = client.post(f"{API}/txt2img", content=json.dumps(body))
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)
