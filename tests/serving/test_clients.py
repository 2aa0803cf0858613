"""Programs that were written for other servers: the openai client, and what chat programs send."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Callable, Iterator

import httpx2
import openai
import pytest
from PIL import Image

from tests.serving.conftest import KEY, bearer
from tests.serving.test_edit_api import PICTURE, mask_of

BODY = {"prompt": "a panda", "seed": 5}


@pytest.fixture
def client(server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server[0]}/v1", api_key=KEY, max_retries=0, timeout=120) as client:
        yield client


def test_the_openai_client_gets_images(client):
    extra = {"seed": 5, "guidance_scale": 3, "colour": 1}
    answer = client.images.generate(prompt="a panda", n=2, model="gpt-image-1", extra_body=extra)
    assert [datum.seed for datum in answer.data] == [5, 6]
    assert all(base64.b64decode(datum.b64_json).startswith(b"\x89PNG") for datum in answer.data)
    assert (answer.size, answer.usage.output_tokens) == ("16x16", 8)
    assert answer.data[0].revised_prompt == "a panda"


def test_the_openai_client_gets_urls_of_files(client):
    [datum] = client.images.generate(prompt="a panda", model="dall-e-3").data
    assert httpx2.get(datum.url).content.startswith(b"\x89PNG")


def test_the_openai_client_gets_a_stream(client):
    stream = client.images.generate(prompt="a panda", model="gpt-image-1", stream=True, partial_images=2)
    *partial, last = list(stream)
    assert [event.partial_image_index for event in partial] == [0, 1]
    assert (last.type, last.usage.total_tokens) == ("image_generation.completed", 8 + 4)


def test_the_openai_client_lists_models(client):
    assert "dall-e-3" in [model.id for model in client.models.list()]
    assert client.models.retrieve("tiny").owned_by == "dalle3_jax"


def test_the_openai_client_raises_the_error_of_each_kind(client):
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(prompt="a panda", n=100)
    assert (bad.value.param, bad.value.type) == ("n", "invalid_request_error")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="other").models.list()
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")


def test_the_openai_client_comes_again_when_the_queue_is_full(client, server, gate):
    """The first answer is 429 with a second to wait; when it comes again there is room."""
    engine = server[1].engine
    jobs = [httpx2.post(f"{server[0]}/v1/images/jobs", json=BODY, headers=bearer()).json()["id"] for _ in range(3)]
    engine._seconds_per_image = 0.1
    with pytest.raises(openai.RateLimitError):
        client.images.generate(prompt="a panda")
    threading.Timer(0.3, gate.let_through).start()
    assert client.with_options(max_retries=3).images.generate(prompt="a panda").data
    assert len(jobs) == 3


def is_png(text: str) -> bool:
    return base64.b64decode(text).startswith(b"\x89PNG")


def test_the_openai_client_edits(client):
    """With a mask, with a list of images, and as a stream."""
    files = {"image": ("a.png", PICTURE, "image/png"), "mask": ("mask.png", mask_of("RGBA"), "image/png")}
    edited = client.images.edit(prompt="a panda", model="gpt-image-1", n=2, **files)
    assert len(edited.data) == 2
    assert all(is_png(datum.b64_json) for datum in edited.data)
    listed = client.images.edit(prompt="a panda", image=[files["image"]], response_format="b64_json", size="256x256")
    assert is_png(listed.data[0].b64_json)
    *partial, last = client.images.edit(prompt="a panda", image=files["image"], stream=True, partial_images=1)
    assert [event.type for event in partial] == ["image_edit.partial_image"]
    assert (last.type, is_png(last.b64_json)) == ("image_edit.completed", True)


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # OpenAI has none any more
def test_the_openai_client_varies(client):
    varied = client.images.create_variation(image=PICTURE, n=2, response_format="b64_json", size="256x256")
    assert len({datum.b64_json for datum in varied.data}) == 2


def test_the_asynchronous_openai_client_asks_for_several_at_once(server):
    async def script() -> None:
        async with openai.AsyncOpenAI(base_url=f"{server[0]}/v1", api_key=KEY, timeout=120) as client:
            calls = (client.images.generate(prompt="a panda", extra_body={"seed": seed}) for seed in (1, 2, 3))
            answers = await asyncio.gather(*calls)
            assert [datum.seed for answer in answers for datum in answer.data or ()] == [1, 2, 3]
            stream = await client.images.generate(prompt="a panda", stream=True, partial_images=1)
            assert [event.type async for event in stream][-1] == "image_generation.completed"

    asyncio.run(script())


LARGE = "request_too_large"
Call = Callable[[openai.OpenAI], object]
ERRORS: list[tuple[Call, type[openai.APIStatusError], int, str | None]] = [
    (lambda client: client.images.generate(prompt="a panda", n=100), openai.BadRequestError, 400, "invalid_value"),
    (lambda client: client.images.generate(prompt=""), openai.BadRequestError, 400, "invalid_value"),
    (lambda client: client.images.edit(prompt="a", image=b"GIF89a"), openai.BadRequestError, 400, None),
    (lambda client: client.with_options(api_key="x").models.list(), openai.AuthenticationError, 401, "invalid_api_key"),
    (
        lambda client: client.with_options(default_headers={"Origin": "http://elsewhere"}).models.list(),
        openai.PermissionDeniedError,
        403,
        "forbidden_origin",
    ),
    (lambda client: client.models.retrieve("nope"), openai.NotFoundError, 404, "model_not_found"),
    (lambda client: client.chat.completions.create(model="x", messages=[]), openai.NotFoundError, 404, "unknown_url"),
    (
        lambda client: client.images.edit(prompt="a", image=bytes(3 * 2**19)),
        openai.APIStatusError,
        413,
        "request_too_large",
    ),
]


@pytest.mark.parametrize(("call", "kind", "status", "code"), ERRORS)
def test_the_openai_client_raises_the_error_of_each_status(client, call, kind, status, code):
    with pytest.raises(kind) as error:
        call(client)
    assert (error.value.status_code, error.value.code) == (status, code)
    assert error.value.type == "invalid_request_error"


def test_the_openai_client_does_not_try_again_what_does_not_fit_into_the_device(client, gate):
    gate.error = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes")
    gate.let_through(1)
    with pytest.raises(openai.InternalServerError) as error:
        client.with_options(max_retries=3).images.generate(prompt="a panda")
    assert (error.value.status_code, error.value.code) == (503, "out_of_memory")
    assert len(gate.batches) == 1


def test_what_open_webui_sends_to_openais_api(server):
    """It fetches a URL before it looks at anything else, so that there must be none; edits come as a form."""
    address = f"{server[0]}/v1/images"
    body = {"model": "dall-e-2", "prompt": "a panda", "n": 1, "size": "512x512", "response_format": "b64_json"}
    headers = bearer() | {"X-OpenWebUI-User-Name": "me"}
    [datum] = httpx2.post(f"{address}/generations", json=body, headers=headers, timeout=120).json()["data"]
    assert "url" not in datum
    assert is_png(datum["b64_json"])
    files = {"image": ("image.png", PICTURE, "image/png")}
    form = {"model": "gpt-image-1", "prompt": "a panda", "n": "1"}
    [datum] = httpx2.post(f"{address}/edits", data=form, files=files, headers=headers, timeout=120).json()["data"]
    assert "url" not in datum


def test_what_librechat_sends(client, server):
    """Its tool for OpenAI goes through the client, or by a form of `image[]`."""
    fields = {"background": "auto", "output_format": "webp", "output_compression": 100, "quality": "auto"}
    [datum] = client.images.generate(model="gpt-image-1", prompt="a panda", n=1, size="auto", **fields).data
    assert Image.open(io.BytesIO(base64.b64decode(datum.b64_json))).format == "WEBP"
    form = {"model": "gpt-image-1", "prompt": "a panda", "quality": "auto", "size": "auto"}
    files = [("image[]", (f"{name}.png", PICTURE, "image/png")) for name in "ab"]
    answer = httpx2.post(f"{server[0]}/v1/images/edits", data=form, files=files, headers=bearer(), timeout=120)
    assert is_png(answer.json()["data"][0]["b64_json"])
    body = {"prompt": "a panda", "negative_prompt": "x", "cfg_scale": 4.5, "steps": 22, "width": 1024, "height": 1024}
    answer = httpx2.post(f"{server[0]}/sdapi/v1/txt2img", json=body, headers=bearer(), timeout=120).json()
    assert is_png(answer["images"][0].split(",", 1)[0])
    info = json.loads(answer["info"])
    assert {*info} >= {"infotexts", "seed", "width", "height"}
    assert info["infotexts"][0].split("\n").pop().startswith("Steps: 22")
