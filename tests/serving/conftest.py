"""A server on the tiny release, called in this process; and an engine whose batches are made by the test's leave."""

import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.serving import engine as engines
from dalle3_jax.serving import warm_up
from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.connections import configure_server
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.server import open_socket
from dalle3_jax.serving.service import Limits, Service

KEY = "a key"


def bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


def address_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def service(pipeline) -> Service:
    """A service of the tiny release, in batches of one or two."""
    return Service(Engine(pipeline, batch_size=2), name="tiny")


@pytest.fixture(scope="module")
def client(pipeline) -> Iterator[TestClient]:
    """A client of a running server."""
    service = Service(Engine(pipeline, batch_size=2), name="tiny")
    with TestClient(build_app(service), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="module")
def server(pipeline) -> Iterator[tuple[str, Service]]:
    """The address of a server that asks for a key, and its service."""
    service = Service(Engine(pipeline, batch_size=2, places=4), name="tiny", limits=Limits(body_bytes=2**20))
    server = uvicorn.Server(configure_server(build_app(service, keys=(KEY.encode(),)), head_seconds=3.0))
    with open_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield address_of(listener), service
        server.should_exit = True
        thread.join(30)


def until(condition: Callable[[], bool]) -> None:
    """Waits until it holds, on a machine that may be busy."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


COMPILATION = 100.0
"""Seconds that the first batch of a size takes more than those after it."""


class Device:
    """Stands for `run_batch`: batches take the `seconds` of their size, by its own clock, the first one more.

    `made` is how many images each had.
    """

    def __init__(self):
        self.seconds = {1: 1.0, 2: 1.5, 4: 2.5, 8: 4.5}
        self.made: list[int] = []
        self.clock = 0.0
        self._compiled = set[int]()

    def monotonic(self) -> float:
        return self.clock

    def __call__(self, pipeline, requests, size, progress):
        self.made.append(len(requests))
        self.clock += self.seconds[size] + (0.0 if size in self._compiled else COMPILATION)
        self._compiled.add(size)
        return [GeneratedImage(Image.new("RGB", (16, 16)), request, "digest", size) for request in requests]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Every batch of every engine is made here, and takes no time but that of its clock."""
    device = Device()
    monkeypatch.setattr(engines, "run_batch", device)
    for module in (engines, warm_up):
        monkeypatch.setattr(module, "time", device)
    return device


class Gate:
    """Stands for `run_batch`: notes each batch, and makes a step each time that it is let through."""

    def __init__(self):
        self.batches: list[list] = []
        self.steps = 0
        self.error: Exception | None = None
        self._open = threading.Semaphore(0)

    def let_through(self, steps: int = 1000) -> None:
        self._open.release(steps)

    def __call__(self, pipeline, requests, size, progress):
        self.batches.append([request.prompt for request in requests])
        for step in range(1, requests[0].sampling.steps + 1):
            assert self._open.acquire(timeout=60)
            self.steps += 1
            if self.error:
                raise self.error
            progress(step, np.zeros((size, 2, 2, 2), np.float32))
        image = Image.new("RGB", (16, 16))
        return [GeneratedImage(image, request, "digest", size) for request in requests]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Every batch of every engine waits here."""
    gate = Gate()
    monkeypatch.setattr(engines, "run_batch", gate)
    yield gate
    gate.let_through()
