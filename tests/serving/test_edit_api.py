"""Edits and variations: forms of files, masks as OpenAI has them, and what no file may do."""

import base64
import io
import json
import struct
import threading
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from dalle3_jax.pipeline import editing
from dalle3_jax.pipeline.input_images import InputImage, open_input_image
from dalle3_jax.pipeline.request import Request
from dalle3_jax.serving import edit_api
from dalle3_jax.serving.queue import Job
from dalle3_jax.serving.schemas import Edits, parse_body
from tests.serving.test_openai_api import error_of, events, image_of

EDITS, VARIATIONS = "/v1/images/edits", "/v1/images/variations"


def encoded(image: Image.Image, form: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
PICTURE = encoded(Image.fromarray(PIXELS))


def mask_of(mode: str) -> bytes:
    """A mask of the left half: transparent in RGBA, white in L."""
    if mode == "L":
        left = np.zeros((16, 16), np.uint8)
        left[:, :8] = 255
        return encoded(Image.fromarray(left))
    left = np.full((16, 16, 4), 255, np.uint8)
    left[:, :8, 3] = 0
    return encoded(Image.fromarray(left))


def edit(client, fields: dict | None = None, url: str = EDITS, **files):
    return client.post(url, data={"prompt": "a panda", "seed": "5"} | (fields or {}), files=files)


@pytest.mark.parametrize("mode", ["RGBA", "L"])
def test_nothing_outside_the_mask_changes(client, mode):
    answer = edit(client, {"response_format": "b64_json"}, image=PICTURE, mask=mask_of(mode)).json()
    made = np.asarray(image_of(answer["data"][0]))
    assert np.array_equal(made[:, 8:], PIXELS[:, 8:])
    assert not np.array_equal(made[:, :8], PIXELS[:, :8])
    assert answer["size"] == "16x16"
    assert answer["usage"]["input_tokens_details"]["image_tokens"] == 4


def test_a_masked_image_of_any_size_keeps_it_and_is_sampled_at_one_of_the_models(client):
    image = Image.fromarray(PIXELS).resize((20, 18))
    mask = Image.new("L", image.size)
    mask.paste(255, (0, 0, 9, 9))
    answer = edit(client, {"size": "1024x1024"}, image=encoded(image), mask=encoded(mask)).json()
    made = np.asarray(image_of(answer["data"][0]))
    assert answer["size"] == "20x18"
    assert np.array_equal(made[9:], np.asarray(image)[9:])
    sampled = answer["data"][0]["metadata"]
    assert (sampled["height"], sampled["width"]) == (16, 16)


def test_outpainting_keeps_the_image_in_the_middle(client):
    answer = edit(client, {"outpaint": "2:1"}, image=PICTURE).json()
    made = np.asarray(image_of(answer["data"][0]))
    assert answer["size"] == "32x16"
    assert np.array_equal(made[:, 8:24], PIXELS)


def test_the_transparent_part_of_an_image_is_its_mask(client):
    left = np.dstack([PIXELS, np.full((16, 16), 255, np.uint8)])
    left[:, :8, 3] = 0
    answer = edit(client, image=encoded(Image.fromarray(left))).json()
    made = np.asarray(image_of(answer["data"][0]))
    assert np.array_equal(made[:, 8:], PIXELS[:, 8:])


def test_an_image_without_a_mask_changes_as_much_as_strength_says(client, pipeline):
    """As in Python, whatever size is asked for fits the image into the nearest."""
    for strength in (0.25, 0.75):
        answer = edit(client, {"strength": str(strength), "size": "1024x1024"}, **{"image[]": PICTURE}).json()
        [expected] = pipeline("a panda", seed=5, image=PIXELS, strength=strength, batch_size=1)
        difference = np.asarray(image_of(answer["data"][0]), np.int16) - np.asarray(expected.image, np.int16)
        assert np.abs(difference).max() <= 1
        assert answer["data"][0]["metadata"]["strength"] == strength


def test_a_variation_is_made_of_the_prompt_that_the_image_tells(client):
    [datum] = client.post("/v1/images/generations", json={"prompt": "a red apple", "seed": 1}).json()["data"]
    files = {"image": base64.b64decode(datum["b64_json"])}
    answer = client.post(VARIATIONS, data={"seed": "2", "response_format": "b64_json"}, files=files).json()
    [varied] = answer["data"]
    assert (varied["revised_prompt"], varied["metadata"]["strength"]) == ("a red apple", 0.8)
    assert varied["b64_json"] != datum["b64_json"]
    assert answer["warnings"] == []
    [alone] = client.post(VARIATIONS, data={"seed": "1", "strength": "1"}, files=files).json()["data"]
    assert alone["b64_json"] == datum["b64_json"]
    plain = client.post(VARIATIONS, data={"seed": "2"}, files={"image": PICTURE}).json()
    assert plain["data"][0]["revised_prompt"] == ""
    assert any("nothing says what the image shows" in warning for warning in plain["warnings"])


def test_an_image_that_carries_no_prompt_is_described_where_the_server_can(client, monkeypatch):
    described = []

    def describe(pixels: np.ndarray) -> str:
        described.append(pixels)
        return "a red apple"

    monkeypatch.setattr(client.app.state.service, "describer", describe)
    answer = client.post(VARIATIONS, data={"seed": "2"}, files={"image": PICTURE}).json()
    assert (answer["data"][0]["revised_prompt"], answer["warnings"]) == ("a red apple", [])
    assert np.array_equal(described[0], PIXELS)
    carrying = {"image": base64.b64decode(answer["data"][0]["b64_json"])}
    assert client.post(VARIATIONS, data={"seed": "2"}, files=carrying).json()["data"][0]["seed"] == 2
    assert len(described) == 1


def test_a_describer_that_breaks_is_an_error_of_the_server(client, monkeypatch):
    """And not an image of which nothing can be said."""

    def describe(pixels: np.ndarray) -> str:
        raise ValueError("shapes do not fit")

    monkeypatch.setattr(client.app.state.service, "describer", describe)
    for url, fields in ((VARIATIONS, {}), (EDITS, {"instruction": "make it night"})):
        answer = client.post(url, data=fields, files={"image": PICTURE})
        assert (answer.status_code, error_of(answer)["type"]) == (500, "server_error")


def test_a_job_is_answered_before_its_image_is_described(client, monkeypatch):
    """It says what the image shows as soon as it is known; the images are those of a call that waits."""
    seen = threading.Event()
    monkeypatch.setattr(client.app.state.service, "describer", lambda pixels: seen.wait(60) and "a red apple")
    job = client.post("/v1/images/jobs", data={"strength": "1"}, files={"image": PICTURE}).json()
    assert (job["revised_prompt"], job["progress"], job["warnings"]) == ("", 0, [])
    seen.set()
    last = events(client.get(f"/v1/images/jobs/{job['id']}/events").text)[-1]
    assert (last["revised_prompt"], last["seed"]) == ("a red apple", job["seed"])
    form = {"strength": "1", "seed": str(job["seed"])}
    [direct] = client.post(VARIATIONS, data=form, files={"image": PICTURE}).json()["data"]
    assert client.get(last["data"][0]["url"]).content == base64.b64decode(direct["b64_json"])


@pytest.mark.parametrize(
    ("url", "fields", "param"),
    [
        (VARIATIONS, {"sampler": "none"}, "sampler"),
        (VARIATIONS, {"batch_size": "3"}, "batch_size"),
        (EDITS, {"instruction": "make it night", "steps": "0"}, "steps"),
        (EDITS, {"instruction": "make it night", "outpaint": "up"}, "outpaint"),
        (EDITS, {"instruction": "make it night", "source_prompt": "a", "outpaint": "2:1"}, "outpaint"),
    ],
)
def test_settings_are_checked_before_an_image_is_described(client, monkeypatch, url, fields, param):
    described = []
    monkeypatch.setattr(client.app.state.service, "describer", described.append)
    answer = client.post(url, data=fields, files={"image": PICTURE})
    assert (answer.status_code, error_of(answer)["param"], described) == (400, param, [])


def test_an_instruction_that_cannot_be_done_to_what_the_image_shows_is_told(client, monkeypatch):
    """The tiny model knows no words of scenes: as the answer, and of a job as what became of it."""
    monkeypatch.setattr(client.app.state.service, "describer", lambda pixels: "a red apple")
    form, files = {"instruction": "make it night"}, {"image": PICTURE}
    answer = client.post(EDITS, data=form, files=files)
    assert (answer.status_code, error_of(answer)["param"]) == (400, "instruction")
    job = client.post("/v1/images/jobs", data=form, files=files).json()
    assert job["prompt"] == "make it night"
    last = events(client.get(f"/v1/images/jobs/{job['id']}/events").text)[-1]
    assert (last["type"], last["error"]["param"]) == ("image_job.failed", "instruction")


def test_the_log_and_the_warnings_speak_of_a_prompt_that_is_described_once_it_is_known(service, monkeypatch, caplog):
    monkeypatch.setattr(service, "describer", lambda pixels: "a red apple")
    monkeypatch.setattr(service, "logs_prompts", True)
    monkeypatch.setattr(editing, "follow_instruction", lambda *_: "night " * 50)
    caplog.set_level("INFO")
    call = parse_body(Edits, {"instruction": "make it night " * 50, "colour": "red"})
    plan = edit_api.plan_form(service, call, {"image": [PICTURE]}, "a")
    assert (len(plan.warnings), "colour" in plan.warnings[0], caplog.messages) == (1, True, [])
    assert plan.job.preparation is not None
    plan.job.preparation.compute()
    assert [("colour" in one, "the rest is cut" in one) for one in plan.warnings] == [(True, False), (False, True)]
    assert caplog.messages == [f"prompt {'night ' * 50!r}"]


def test_an_instruction_is_done_to_the_prompt_that_the_image_tells(service, monkeypatch):
    training = {"data": "scenes"}
    asked = []

    def follow(instruction, described, told, *rest):
        asked.append((instruction, described, told))
        return "a red apple at night"

    monkeypatch.setattr(editing, "follow_instruction", follow)
    monkeypatch.setattr(service.engine.pipeline, "release", replace(service.engine.pipeline.release, training=training))
    image = InputImage("0" * 64, metadata={"prompt": "a red apple", "seed": 7})
    call = parse_body(Edits, {"instruction": "make it night"})
    values, notes = edit_api.edit_values(service, call, {"image": image})
    assert asked == [("make it night", "a red apple", training)]
    assert values == {
        **{"image": image, "prompt": "a red apple at night", "original_prompt": "make it night"},
        **{"upsample": "none", "seed": 7},
    }
    assert notes == []


@pytest.mark.parametrize(
    ("fields", "source"),
    [({}, "a red apple"), ({"outpaint": "2:1"}, None), ({"source_prompt": "an apple"}, "an apple")],
)
def test_an_instruction_inverts_an_image_without_a_prompt_that_is_not_outpainted(service, monkeypatch, fields, source):
    monkeypatch.setattr(editing, "follow_instruction", lambda *_: "a red apple at night")
    call = parse_body(Edits, {"instruction": "make it night", **fields})
    values, _ = edit_api.edit_values(service, call, {"image": open_input_image(PIXELS)}, "a red apple")
    assert values.get("source_prompt") == source


def test_an_instruction_that_cannot_be_followed_is_told(client):
    answer = client.post(EDITS, data={"instruction": "make it night"}, files={"image": PICTURE})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "instruction")
    both = edit(client, {"instruction": "make it night"}, image=PICTURE)
    neither = client.post(EDITS, files={"image": PICTURE})
    for answer in (both, neither):
        assert (answer.status_code, error_of(answer)["param"]) == (400, "prompt")


def test_several_images_are_told_to_be_one(client):
    answer = client.post(EDITS, data={"prompt": "a"}, files=[("image[]", PICTURE), ("image[]", b"not looked at")])
    assert any("first of these 2" in warning for warning in answer.json()["warnings"])


def test_an_edit_as_a_stream_and_as_a_job(client):
    told = events(edit(client, {"stream": "true", "partial_images": "1", "strength": "0.75"}, image=PICTURE).text)
    assert [event["type"] for event in told] == ["image_edit.partial_image", "image_edit.completed"]
    job = edit(client, {"strength": "0.75"}, "/v1/images/jobs", image=PICTURE).json()
    assert job["status"] == "queued"
    last = events(client.get(f"/v1/images/jobs/{job['id']}/events").text)[-1]
    assert client.get(last["data"][0]["url"]).content == base64.b64decode(told[-1]["b64_json"])


def test_a_job_that_has_ended_holds_no_pixels(pipeline):
    request = pipeline.request("a", image=Image.fromarray(PIXELS), mask=Image.open(io.BytesIO(mask_of("L"))))
    job = Job([request, Request("b", (16, 16))])
    job.finish("cancelled")
    assert job.images[0].request == request
    assert (job.images[0].request.edit.image.read, job.images[0].request.edit.mask.read) == (None, None)


def bomb() -> bytes:
    """A PNG of a few kilobytes that claims to be 60,000 x 60,000 pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def long_text() -> bytes:
    """A PNG whose compressed text is 2 MB."""
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "x" * 2_000_000, zip=True)
    return encoded(Image.fromarray(PIXELS), pnginfo=info)


def animated() -> bytes:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])


@pytest.mark.parametrize(
    ("files", "param"),
    [
        ({}, "image"),
        ({"image": b""}, "image"),
        ({"image": b"GIF89a"}, "image"),
        ({"image": PICTURE[:90]}, "image"),
        ({"image": bomb()}, "image"),
        ({"image": long_text()}, "image"),
        ({"image": animated()}, "image"),
        ({"image": encoded(Image.new("RGB", (4, 4)))}, "image"),
        ({"image": PICTURE, "mask": b"x"}, "mask"),
        ({"image": PICTURE, "mask": encoded(Image.new("L", (8, 16), 255))}, "mask"),
        ({"image": PICTURE, "mask": encoded(Image.new("L", (16, 16), 0))}, "mask"),
    ],
)
def test_files_that_cannot_be_used_are_named(client, files, param):
    answer = edit(client, **files) if files else client.post(EDITS, files={"other": b""}, data={"prompt": "a"})
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": "0"}, "n"),
        ({"n": "two"}, "n"),
        ({"strength": "2"}, "strength"),
        ({"strength": "nan"}, "strength"),
        ({"outpaint": "up"}, "outpaint"),
        ({"feather": "-1"}, "feather"),
        ({"guidance_interval": "[0.2"}, "guidance_interval"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_fields_that_cannot_be_used_are_named(client, fields, param):
    answer = edit(client, fields, image=PICTURE)
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)


def test_no_file_of_this_machine_is_read_and_nothing_is_fetched(client, tmp_path):
    path = tmp_path / "secret.png"
    path.write_bytes(PICTURE)
    for value in (str(path), "http://127.0.0.1/x.png"):
        for name in ("image", "mask", "image[]"):
            answer = client.post(EDITS, data={"prompt": "a", name: value}, files={"image": PICTURE})
            assert (answer.status_code, error_of(answer)["param"]) == (400, name.removesuffix("[]"))
        told = client.post(
            "/v1/images/generations", json={"prompt": "a", "image": value, "mask": value, "seed": 1}
        ).json()
        assert "image" not in told["data"][0]["metadata"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"{}", "application/json"),
        (b"a=b", "application/x-www-form-urlencoded"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
        (b"nothing", "multipart/form-data"),
        (b"--x\r\nContent-Disposition: form-data\r\n\r\n", "multipart/form-data; boundary=x"),
        (b"".join(b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n1\r\n' for _ in range(500)) + b"--x--",
         "multipart/form-data; boundary=x"),
        (b"--x\r\nA: " + b"b" * 2_000_000 + b"\r\n\r\n1\r\n--x--", "multipart/form-data; boundary=x"),
        (b"--x\r\n" + b"A: b\r\n" * 50_000 + b"\r\n1\r\n--x--", "multipart/form-data; boundary=x"),
        (b"\r\n" * 500_000 + b"--x--", "multipart/form-data; boundary=x"),
        (b"-" * 100_000, "multipart/form-data; boundary=" + "-" * 5000),
    ],
)  # fmt: skip
def test_bodies_that_are_no_forms_are_told_so(client, content, kind):
    answer = client.post(EDITS, content=content, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert error_of(answer)["type"] == "invalid_request_error"


def test_a_full_disk_is_told(client, monkeypatch):
    def write(self, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.SpooledTemporaryFile.write", write)
        answer = edit(client, image=PICTURE)
    assert answer.status_code == 503
    assert "No space left on device" in error_of(answer)["message"]
    assert edit(client, image=PICTURE).status_code == 200


def test_a_setting_that_is_nested_without_end_is_named(client):
    answer = client.post(EDITS, data={"prompt": "a", "guidance_scale": "[" * 20_000}, files={"image": b""})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "guidance_scale")


def test_metadata_that_are_no_text_count_for_nothing(client):
    info = PngImagePlugin.PngInfo()
    info.add_text("dalle3_jax", json.dumps({"prompt": ["a"]}))
    answer = client.post(VARIATIONS, files={"image": encoded(Image.fromarray(PIXELS), pnginfo=info)})
    assert answer.json()["data"][0]["revised_prompt"] == ""
