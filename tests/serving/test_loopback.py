"""The server on a real port: clients that leave, signals, engines that fail."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.server import open_socket, run_server
from dalle3_jax.serving.service import Service
from tests.serving.conftest import address_of, bearer, until
from tests.serving.test_edit_api import PICTURE

BODY = {"prompt": "a panda", "seed": 5}
ENDLESS = """
import sys, threading
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.serving import engine
from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.server import open_socket, run_server
from dalle3_jax.serving.service import Service

def run_batch(*arguments):
    print("begun", flush=True)
    threading.Event().wait()

engine.run_batch = run_batch
pipeline = Pipeline.load(sys.argv[1])
service = Service(engine.Engine(pipeline))
warm_up = [pipeline.request("")] if sys.argv[2] == "warm-up" else []
with open_socket("127.0.0.1", 0) as listener:
    print(listener.getsockname()[1], flush=True)
    run_server(lambda fail: build_app(service, warm_up=warm_up, on_failure=fail), service, listener)
"""
"""A server whose batches have no end: arguments are the release's folder, and "warm-up" where that has none either."""


@pytest.mark.parametrize("stream", [False, True])
def test_a_closed_connection_frees_its_place(server, gate, stream):
    address, engine = server[0].removeprefix("http://"), server[1].engine
    abandoned = engine.metrics.abandoned._value
    until(lambda: not engine.running and not len(engine.queue))  # what tests before left
    before, body = abandoned.get(), json.dumps({**BODY, "stream": stream})
    head = (f"{name}: {value}" for name, value in {**bearer(), "Host": address, "Content-Length": len(body)}.items())
    with socket.create_connection(address.split(":")) as connection:
        words = ["POST /v1/images/generations HTTP/1.1", *head, "Content-Type: application/json", "", body]
        connection.sendall("\r\n".join(words).encode())
        until(lambda: engine.running and gate.batches)
        [image] = engine.running
    until(image.job.finished.is_set)
    gate.let_through(1)
    until(lambda: abandoned.get() == before + 1)
    assert gate.steps == 1


def test_an_image_is_described_in_turn_and_for_no_client_that_has_left(server, gate, monkeypatch):
    """Two images to vary behind an image that is made: one client leaves, of the other the description is made."""
    address, service = server
    described: list[int] = []
    monkeypatch.setattr(service, "describer", lambda pixels: described.append(len(pixels)) or "a red apple")
    job = httpx2.post(f"{address}/v1/images/jobs", json={"prompt": "blocking"}, headers=bearer()).json()
    until(lambda: bool(service.engine.running))

    async def vary_twice() -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=address, headers=bearer(), timeout=60) as client:
            files = {"image": ("a.png", PICTURE, "image/png")}
            staying, leaving = (asyncio.create_task(client.post("/v1/images/variations", files=files)) for _ in "ab")
            await asyncio.to_thread(until, lambda: len(service.engine.queue) == 2)
            leaving.cancel()
            await asyncio.to_thread(until, lambda: len(service.engine.queue) == 1)
            assert described == []
            gate.let_through()
            return await staying

    answer = asyncio.run(vary_twice())
    assert answer.json()["data"][0]["revised_prompt"] == "a red apple"
    assert described == [16]
    httpx2.delete(f"{address}/v1/images/jobs/{job['id']}", headers=bearer())


def test_a_signal_ends_what_waits_and_not_what_runs(pipeline, gate):
    service = Service(Engine(pipeline, batch_size=1))
    statuses: dict[str, int] = {}
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def post(name: str) -> None:
        statuses[name] = httpx2.post(f"{address}/v1/images/generations", json=BODY, timeout=60).status_code

    def script() -> None:
        threads = [threading.Thread(target=post, args=(name,)) for name in ("runs", "waits")]
        for count, thread in enumerate(threads):
            thread.start()
            until(lambda: len(service.engine.running) + len(service.engine.queue) > count)  # noqa: B023
        os.kill(os.getpid(), signal.SIGTERM)
        threads[1].join(60)
        gate.let_through()
        threads[0].join(60)

    with open_socket("127.0.0.1", 0) as listener:
        address, beside = address_of(listener), threading.Thread(target=script)
        beside.start()
        assert run_server(lambda fail: build_app(service), service, listener) is None
        beside.join(60)
    assert statuses == {"waits": 503, "runs": 200}
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.parametrize(("batch", "second"), [("job", signal.SIGTERM), ("warm-up", signal.SIGINT)])
def test_a_second_signal_ends_the_process_within_a_batch(release_folder, batch, second):
    command = [sys.executable, "-c", ENDLESS, str(release_folder), batch]
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            if batch == "job":
                httpx2.post(f"http://127.0.0.1:{port}/v1/images/jobs", json=BODY, timeout=60).raise_for_status()
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            until(lambda: not is_open(port))
            time.sleep(0.5)  # until it waits for nothing but the batch
            assert process.poll() is None
            process.send_signal(second)
            assert process.wait(20) == 128 + second
        finally:
            process.kill()


def is_open(port: int) -> bool:
    """Whether anybody listens on a port of this machine."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


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


def exchange(address: str, sent: bytes) -> tuple[int, dict]:
    """The status and the JSON of the last answer to these bytes, after which the server closes the connection."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
        answer = b""
        while more := connection.recv(65536):
            answer += more
    head, _, body = answer.rpartition(b"HTTP/1.1 ")[2].partition(b"\r\n\r\n")
    return int(head.split()[0]), json.loads(body)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"GARBAGE\r\n\r\n", 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, 400, "invalid_http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, "invalid_http"),
        (b"", 408, None),
        (b"GET / HTTP/1.1\r\nHo", 408, None),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /", 408, None),
    ],
)
def test_what_no_application_sees_is_answered_by_the_same_object(server, sent, status, code):
    """Bytes that are no HTTP, and heads that do not come, of a second request too."""
    answer, body = exchange(server[0], sent)
    assert (answer, body["error"]["code"]) == (status, code)
    assert body["error"]["message"]


@pytest.mark.parametrize("phase", ["head", "body", "waiting", "answer"])
def test_a_connection_that_is_dropped_leaves_nothing_behind(server, gate, phase):
    address, service = server
    host, port = address.removeprefix("http://").split(":")
    engine, body = service.engine, json.dumps(BODY).encode()
    head = f"POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer()['Authorization']}\r\n"
    whole = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    if phase == "waiting":
        httpx2.post(f"{address}/v1/images/jobs", json={"prompt": "blocking"}, headers=bearer())
        until(lambda: bool(engine.running))
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(whole[: {"head": 40, "body": -5}.get(phase)])
        if phase == "waiting":
            until(lambda: len(engine.queue) == 1)
        if phase == "answer":
            gate.let_through()
            assert connection.recv(4) == b"HTTP"
    if phase == "waiting":
        until(lambda: len(engine.queue) == 0)
        gate.let_through()
    until(lambda: not engine.running and not len(engine.queue))
    assert gate.batches == {"waiting": [["blocking"]], "answer": [[BODY["prompt"]]]}.get(phase, [])
    assert httpx2.get(f"{address}/readyz").status_code == 200
