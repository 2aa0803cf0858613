"""OpenAI's Images API: both shapes, what is said beyond them, streams, and errors as its object everywhere."""

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dalle3_jax.pipeline.edits import nearest_size
from dalle3_jax.pipeline.request import SETTINGS, make_request
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.generation import check_limits, datum_keys
from dalle3_jax.serving.schemas import OWN, Generation

URL = "/v1/images/generations"


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def image_of(datum: dict) -> Image.Image:
    return opened(base64.b64decode(datum["b64_json"]))


def events(text: str) -> list[dict]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def error_of(answer) -> dict:
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    return error


def test_an_answer_holds_what_was_made_and_how(client, pipeline):
    body = {"prompt": "a panda", "n": 2, "seed": 5, "size": "1792x1024", "response_format": "b64_json"}
    answer = client.post(URL, json=body).json()
    assert (answer["size"], answer["output_format"], answer["background"]) == ("32x16", "png", "opaque")
    assert [datum["seed"] for datum in answer["data"]] == [5, 6]
    assert any("1792x1024" in warning for warning in answer["warnings"])
    expected = pipeline(["a panda"], n=2, seed=5, size=(16, 32), batch_size=2)
    for datum, picture in zip(answer["data"], expected, strict=True):
        image = image_of(datum)
        assert image.size == (32, 16)
        difference = np.asarray(image, np.int16) - np.asarray(picture.image, np.int16)
        assert np.abs(difference).max() <= 1
        assert json.loads(image.info["dalle3_jax"]) == datum["metadata"]
        assert "url" not in datum
    usage = answer["usage"]
    assert usage["input_tokens"] == len("a panda") + 1
    assert usage["output_tokens"] == 2 * 2 * 4
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_the_batch_size_of_an_image_gives_its_bits_again(client):
    body = {"prompt": "a panda", "n": 2, "seed": 5}
    first = client.post(URL, json=body).json()["data"][0]
    assert first["metadata"]["batch_size"] == 2
    again = client.post(URL, json={**body, "n": 1, "batch_size": 2}).json()["data"][0]
    assert again["b64_json"] == first["b64_json"]


def test_seeds_differ_where_none_is_said(client):
    seeds = {client.post(URL, json={"prompt": "a"}).json()["data"][0]["seed"] for _ in range(2)}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("model", "response_format", "keys"),
    [
        ("gpt-image-1", None, ("b64_json",)),
        ("chatgpt-image-latest", None, ("b64_json",)),
        ("dall-e-3", None, ("url",)),
        ("anything", None, ("b64_json", "url")),
        (None, None, ("b64_json", "url")),
        ("gpt-image-1", "url", ("url",)),
        ("dall-e-3", "b64_json", ("b64_json",)),
    ],
)
def test_the_form_is_what_is_asked_for_or_what_the_client_of_a_model_expects(model, response_format, keys):
    assert datum_keys(model, response_format) == keys


def test_a_url_leads_to_the_file_and_nobody_guesses_its_name(client):
    datum = client.post(URL, json={"prompt": "a", "model": "dall-e-3", "seed": 1}).json()["data"][0]
    assert "b64_json" not in datum
    assert datum["url"].startswith("http://testserver/files/")
    name = datum["url"].rpartition("/")[2].removesuffix(".png")
    assert len(bytes.fromhex(name)) == 16
    file = client.get(datum["url"])
    assert file.headers["content-type"] == "image/png"
    both = client.post(URL, json={"prompt": "a", "seed": 1}).json()["data"][0]
    assert base64.b64decode(both["b64_json"]) == client.get(both["url"]).content == file.content
    assert error_of(client.get(f"/files/{'0' * 32}.png"))["code"] == "file_not_found"


@pytest.mark.parametrize(("output_format", "form"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_files_are_of_the_format_that_is_asked_for(client, output_format, form):
    body = {"prompt": "a", "seed": 1, "output_format": output_format, "output_compression": 10}
    answer = client.post(URL, json=body).json()
    assert (image_of(answer["data"][0]).format, answer["output_format"]) == (form, output_format)


@pytest.mark.parametrize(("quality", "steps"), [("low", 2), ("auto", 4), ("standard", 4), ("high", 8), ("hd", 8)])
def test_quality_is_a_number_of_steps(service, quality, steps):
    from dalle3_jax.serving.generation import quality_steps

    assert {"steps": 4, **quality_steps(service, quality)} == {"steps": steps}


def test_every_setting_is_a_field():
    assert set(SETTINGS) - set(OWN) <= set(Generation.model_fields)
    assert not {"image", "mask", "original_prompt"} & {*Generation.model_fields}
    for name, field in Generation.model_fields.items():
        if name in SETTINGS and name not in OWN:
            assert field.description == SETTINGS[name].help


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((1024, 1024), (128, 128)),
        ((1024, 1792), (128, 224)),
        ((1792, 1024), (224, 128)),
        ((250, 260), (256, 256)),
        ((1000, 1), (224, 128)),
    ],
)
def test_the_nearest_size_is_that_of_nearest_shape_then_area(size, bucket):
    buckets = ((64, 64), (128, 128), (256, 256), (128, 224), (224, 128))
    if size == (1024, 1024):
        buckets = buckets[1:2] + buckets[3:]
    assert nearest_size(size, buckets) == bucket


def test_a_size_that_the_prompt_asks_for(client):
    answer = client.post(URL, json={"prompt": "a panda, 16:9", "size": "auto", "seed": 1}).json()
    assert answer["size"] == "32x16"


def test_unknown_fields_are_ignored_with_a_warning(client):
    answer = client.post(URL, json={"prompt": "a", "seed": 1, "colour": 3, "style": "vivid", "user": "me"})
    assert answer.status_code == 200
    warnings = answer.json()["warnings"]
    assert sum("colour" in warning for warning in warnings) == sum("style" in warning for warning in warnings) == 1


def test_null_is_nothing(client):
    body = dict.fromkeys(Generation.model_fields) | {"prompt": "a", "seed": 1}
    assert client.post(URL, json=body).status_code == 200


def test_a_stream_ends_with_each_image(client):
    body = {"prompt": "a panda", "n": 2, "seed": 5, "stream": True, "partial_images": 2}
    answer = client.post(URL, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    whole = client.post(URL, json={**body, "stream": False}).json()["data"]
    for index in (0, 1):
        *partial, last = [event for event in told if event["image_index"] == index]
        assert [event["type"] for event in partial] == ["image_generation.partial_image"] * 2
        assert [event["partial_image_index"] for event in partial] == [0, 1]
        assert last["type"] == "image_generation.completed"
        assert last["b64_json"] == whole[index]["b64_json"]
        assert last["usage"]["output_tokens"] == 4
        final = np.asarray(image_of(last), np.float32)
        far, near = (np.abs(np.asarray(image_of(event), np.float32) - final).mean() for event in partial)
        assert 0 < near < far


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": "x" * 32_001}, "prompt"),
        ({"prompt": "half \ud800"}, "prompt"),
        ({"prompt": "a", "n": 0}, "n"),
        ({"prompt": "a", "n": 1000}, "n"),
        ({"prompt": "a", "n": 1.5}, "n"),
        ({"prompt": "a", "size": "big"}, "size"),
        ({"prompt": "a", "size": "0x0"}, "size"),
        ({"prompt": "a", "steps": 0}, "steps"),
        ({"prompt": "a", "steps": 999}, "steps"),
        ({"prompt": "a", "tile": 264}, "tile"),
        ({"prompt": "a", "outpaint": "16:9"}, "outpaint"),
        ({"prompt": "a", "strength": 0.5}, "strength"),
        ({"prompt": "a", "sampler": "nope"}, "sampler"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "guidance_scale"),
        ({"prompt": "a", "guidance_interval": [1]}, "guidance_interval"),
        ({"prompt": "a", "seed": -1}, "seed"),
        ({"prompt": "a", "seed": 2**32 - 1, "n": 2}, "seed"),
        ({"prompt": "a", "upscale": 2}, "upscale"),
        ({"prompt": "a", "upsample": "chat"}, "upsample"),
        ({"prompt": "a", "quality": "best"}, "quality"),
        ({"prompt": "a", "background": "transparent"}, "background"),
        ({"prompt": "a", "response_format": "gif"}, "response_format"),
        ({"prompt": "a", "output_compression": 101}, "output_compression"),
        ({"prompt": "a", "partial_images": 11}, "partial_images"),
        ({"prompt": "a", "batch_size": 3}, "batch_size"),
        ({"prompt": "\N{SNOWMAN}" * 9000, "output_format": "jpeg"}, "prompt"),
    ],
)
def test_a_bad_value_is_named(client, body, param):
    answer = client.post(URL, content=json.dumps(body))
    assert answer.status_code == 400
    error = error_of(answer)
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


@pytest.mark.parametrize(
    ("name", "value", "fine"),
    [("tile", 264, 256), ("upscale_tile", 520, 512), ("decoder_temperature", 0.3, 0.25), ("decoder_steps", 201, 200)],
)
def test_numbers_that_would_be_programs_are_chosen_among_few(service, name, value, fine):
    check_limits(service, make_request("a", {"size": (16, 16), name: fine}))
    with pytest.raises(ApiError, match=f"{name}: {value} ") as refused:
        check_limits(service, make_request("a", {"size": (16, 16), name: value}))
    assert (refused.value.status, refused.value.param) == (400, name)


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff", b"[" * 100_000, b'"a"', b"null", b'{"prompt": "a",}'])
def test_a_body_that_is_no_object_is_told_so(client, content):
    answer = client.post(URL, content=content)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "unknown_url"),
        ("GET", URL, 405, "method_not_allowed"),
        ("DELETE", "/v1/models", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
        ("GET", "/v1/images/jobs/nope", 404, "job_not_found"),
    ],
)
def test_what_is_not_there_is_an_error_object_too(client, method, path, status, code):
    answer = client.request(method, path)
    assert (answer.status_code, error_of(answer)["code"]) == (status, code)


def test_models_are_listed_with_the_names_that_programs_know(client):
    listed = client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == ["tiny", "dall-e-3", "dall-e-2", "gpt-image-1"]
    one = client.get("/v1/models/dall-e-3").json()
    assert one in listed["data"]
    assert (one["object"], one["sizes"], one["batch_sizes"]) == ("model", ["16x16", "32x16"], [1, 2])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
BODIES = st.dictionaries(st.sampled_from(sorted({*Generation.model_fields} - {"stream"})), JSON, max_size=6)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(values=BODIES)
def test_no_body_breaks_the_server(client, values):
    """Each is refused in the same words: none of these has a prompt of text, a size and a batch that could be made."""
    answer = client.post(URL, content=json.dumps({**values, "size": "x"}))
    assert answer.status_code == 400
    assert error_of(answer)["param"] in {*Generation.model_fields}
