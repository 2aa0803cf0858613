"""PyPI's client of stable-diffusion-webui, `webuiapi`, as its own documentation uses it."""

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from tests.serving.conftest import KEY, until
from tests.serving.test_edit_api import PIXELS

if TYPE_CHECKING:
    import webuiapi
else:
    webuiapi = pytest.importorskip("webuiapi", reason="a package of the extra dev")


@pytest.fixture
def api(server) -> "Iterator[webuiapi.WebUIApi]":
    address = urlsplit(server[0])
    login = {"username": "me", "password": KEY}
    api = webuiapi.WebUIApi(address.hostname, address.port, sampler="DDIM", steps=4, **login)
    yield api
    api.session.close()


def test_it_makes_images_and_reads_their_settings_back(api):
    made = api.txt2img(prompt="a panda", negative_prompt="fog", seed=5, batch_size=2, cfg_scale=3)
    assert [image.size for image in made.images] == [(16, 16)] * 2
    assert (made.info["all_seeds"], made.info["sampler_name"]) == ([5, 6], "DDIM")
    assert (made.parameters["prompt"], made.parameters["cfg_scale"]) == ("a panda", 3)
    told = api.png_info(made.images[1])
    assert told.info == made.info["infotexts"][1]
    assert told.info.startswith("a panda\nNegative prompt: fog\nSteps: 4, Sampler: DDIM, CFG scale: 3, Seed: 6")


def test_it_paints_into_a_mask(api):
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 8, 16))
    made = api.img2img(images=[Image.fromarray(PIXELS)], mask_image=mask, prompt="a panda", seed=5, mask_blur=0)
    pixels = np.asarray(made.image)
    assert np.array_equal(pixels[:, 8:], PIXELS[:, 8:])
    assert not np.array_equal(pixels[:, :8], PIXELS[:, :8])
    assert made.info["denoising_strength"] == 0.75


def test_it_finds_models_samplers_and_schedulers_and_sets_options(api, capsys):
    api.util_set_model("tiny")
    assert api.util_get_current_model() == "tiny"
    assert {"Euler a", "DDIM"} <= {*api.util_get_sampler_names()}
    assert "karras" in api.util_get_scheduler_names()
    assert [row["name"] for row in api.get_upscalers()] == ["None"]
    assert [api.get_loras(), api.get_sd_vae(), api.get_latent_upscale_modes()] == [[], [], []]
    assert "model changed to tiny" in capsys.readouterr().out


def test_it_follows_and_interrupts(api, gate, monkeypatch, server):
    engine, made = server[1].engine, []
    monkeypatch.setattr(engine.pipeline.codec, "decode", lambda x: np.zeros((len(x), 16, 16, 3), np.float32))
    thread = threading.Thread(target=lambda: made.append(api.txt2img(prompt="a panda")))
    thread.start()
    until(lambda: bool(engine.running))
    gate.let_through(2)
    until(lambda: api.get_progress()["state"]["sampling_step"] == 2)
    seen = api.get_progress()
    assert (seen["progress"], seen["state"]["job_count"], seen["state"]["sampling_steps"]) == (0.5, 1, 4)
    api.interrupt()
    thread.join(60)
    gate.let_through()
    assert made[0].images == []
    api.util_wait_for_ready(check_interval=0.01)


def test_it_is_told_what_is_wrong(api):
    with pytest.raises(RuntimeError, match="invalid_request_error"):
        api.txt2img(prompt="a panda", steps=9999)
