"""Image prompts over HTTP, of a release that reads images, and how the others refuse them."""

import base64
from collections.abc import Iterator

import numpy as np
import pytest
from starlette.testclient import TestClient

from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.input_images import open_input_image
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.service import Service
from tests.pipeline.test_image_prompts import prompted_release
from tests.serving.test_edit_api import EDITS, PICTURE, PIXELS, VARIATIONS, edit, mask_of
from tests.serving.test_openai_api import URL, error_of, image_of

SHA = open_input_image(PIXELS).sha256
ENCODED = base64.b64encode(PICTURE).decode()


@pytest.fixture(scope="module")
def prompted() -> Pipeline:
    return Pipeline(prompted_release())


@pytest.fixture(scope="module")
def reader(prompted) -> Iterator[TestClient]:
    """A client of a server whose release reads images."""
    service = Service(Engine(prompted, batch_size=1), name="tiny")
    service.describer = lambda pixels: pytest.fail("nothing is to be described")
    with TestClient(build_app(service), raise_server_exceptions=False) as client:
        yield client


def distance(datum: dict, made: GeneratedImage) -> int:
    """The most by which a value of the two images differs."""
    return np.abs(np.asarray(image_of(datum), np.int16) - np.asarray(made.image, np.int16)).max()


def test_an_image_prompt_in_base64_is_that_of_python(reader, prompted):
    body = {"prompt": "a fox", "seed": 5, "steps": 2, "image_prompt_scale": 0.5}
    for text in (ENCODED, f"data:image/png;base64,{ENCODED}"):
        answer = reader.post(URL, json={**body, "image_prompt": text}).json()
        [datum] = answer["data"]
        assert (datum["metadata"]["image_prompt"], datum["metadata"]["image_prompt_scale"]) == (SHA, 0.5)
    [expected] = prompted("a fox", seed=5, steps=2, image_prompt=PIXELS, image_prompt_scale=0.5, batch_size=1)
    assert distance(datum, expected) <= 1
    assert distance(datum, prompted("a fox", seed=5, steps=2, batch_size=1)[0]) > 1
    assert reader.get("/v1/models/tiny").json()["image_prompts"] is True


def test_a_variation_by_the_image_needs_no_description(reader, prompted):
    form = {"by": "image", "seed": "5", "steps": "2"}
    answer = reader.post(VARIATIONS, data=form, files={"image": PICTURE}).json()
    [datum] = answer["data"]
    assert (datum["metadata"]["image_prompt"], answer["warnings"], datum["revised_prompt"]) == (SHA, [], "")
    assert "image" not in datum["metadata"]  # it begins with noise
    [expected] = prompted.variations(PIXELS, by="image", seed=5, steps=2, batch_size=1)
    assert distance(datum, expected) <= 1
    near = reader.post(VARIATIONS, data={**form, "strength": "0.5"}, files={"image": PICTURE}).json()["data"][0]
    assert (near["metadata"]["image"], near["metadata"]["image_prompt"]) == (SHA, SHA)


def test_an_edit_takes_an_image_prompt_as_a_file(reader):
    answer = edit(reader, {"steps": "2"}, image=PICTURE, mask=mask_of("L"), image_prompt=PICTURE)
    assert answer.json()["data"][0]["metadata"]["image_prompt"] == SHA


def test_a_job_takes_an_image_prompt_of_more_than_a_megabyte_of_json(reader):
    body = {"prompt": "a fox", "seed": 5, "steps": 2, "image_prompt": ENCODED + " " * 2**20}
    answer = reader.post("/v1/images/jobs", json=body)
    assert (answer.status_code, error_of(answer)["param"]) == (400, "image_prompt")  # blanks are no base64
    assert reader.post("/v1/images/jobs", json=body | {"image_prompt": ENCODED}).status_code == 202


@pytest.mark.parametrize("value", ["/etc/hostname", "http://127.0.0.1/x.png", "%", base64.b64encode(b"GIF").decode()])
def test_what_is_no_image_in_base64_is_refused(reader, value):
    answer = reader.post(URL, json={"prompt": "a", "image_prompt": value})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "image_prompt")
    in_form = edit(reader, {"image_prompt": value}, image=PICTURE)
    assert (in_form.status_code, error_of(in_form)["param"]) == (400, "image_prompt")


def test_a_release_that_reads_no_images_refuses_them(client):
    body = {"prompt": "a", "image_prompt": ENCODED}
    for answer, param in (
        (client.post(URL, json=body), "image_prompt"),
        (client.post(URL, json={"prompt": "a", "image_prompt_scale": 0.5}), "image_prompt_scale"),
        (client.post(VARIATIONS, data={"by": "image"}, files={"image": PICTURE}), "by"),
        (client.post(EDITS, data={"prompt": "a"}, files={"image": PICTURE, "image_prompt": PICTURE}), "image_prompt"),
    ):
        assert (answer.status_code, error_of(answer)["param"]) == (400, param)
