"""The server on a real port, as the openai client and others reach it: answers, streams, errors, leaving, ending."""

import base64
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest
import uvicorn

from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.server import open_socket, run_server
from dalle3_jax.serving.service import Service

KEY = "a key"
BODY = {"prompt": "a panda", "seed": 5}


def port_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def server(pipeline) -> Iterator[tuple[str, Service]]:
    """The address of a server that asks for a key, and its service."""
    service = Service(Engine(pipeline, batch_size=2, places=4), name="tiny")
    config = uvicorn.Config(build_app(service, keys=(KEY.encode(),)), log_config=None, ws="none")
    server = uvicorn.Server(config)
    with open_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield port_of(listener), service
        server.should_exit = True
        thread.join(30)


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


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_connection_frees_its_place(server, gate, stream):
    address, service = server
    url, abandoned = f"{address}/v1/images/generations", service.engine.metrics.abandoned._value
    before = abandoned.get()
    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(url, json={**BODY, "stream": stream}, headers=bearer(), timeout=0.5)
    deadline = time.monotonic() + 20
    while abandoned.get() == before and time.monotonic() < deadline:
        gate.let_through(1)
        time.sleep(0.05)
        if service.engine.running:
            assert gate.steps <= 4
    assert abandoned.get() == before + 1


def test_a_signal_ends_what_waits_and_not_what_runs(pipeline, gate):
    service = Service(Engine(pipeline, batch_size=1))
    statuses: dict[str, int] = {}

    def post(name: str) -> None:
        statuses[name] = httpx2.post(f"{address}/v1/images/generations", json=BODY, timeout=30).status_code

    def script() -> None:
        threads = [threading.Thread(target=post, args=(name,)) for name in ("runs", "waits")]
        for count, thread in enumerate(threads):
            thread.start()
            while len(service.engine.running) + len(service.engine.queue) <= count:
                time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        threads[1].join(20)
        gate.let_through()
        threads[0].join(20)

    with open_socket("127.0.0.1", 0) as listener:
        address, beside = port_of(listener), threading.Thread(target=script)
        beside.start()
        assert run_server(lambda fail: build_app(service), service, listener) is None
        beside.join(20)
    assert statuses == {"waits": 503, "runs": 200}


def test_an_engine_that_cannot_go_on_ends_the_server(pipeline, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no device")

    monkeypatch.setattr("dalle3_jax.serving.engine.run_batch", broken)
    service, warm_up = Service(Engine(pipeline)), [pipeline.request("")]
    with open_socket("127.0.0.1", 0) as listener:
        error = run_server(lambda fail: build_app(service, warm_up=warm_up, on_failure=fail), service, listener)
    assert str(error) == "no device"


def test_a_port_that_is_taken_is_told():
    with open_socket("127.0.0.1", 0) as listener, pytest.raises(OSError, match="cannot listen on"):
        open_socket("127.0.0.1", listener.getsockname()[1])
