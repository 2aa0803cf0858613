"""The tiny release on a port, for headless Chromium, without which the page's tests are left out, and for Node."""

import shutil
import socket
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from dalle3_jax.serving import engine as engines
from dalle3_jax.serving.app import build_app
from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.server import open_socket
from dalle3_jax.serving.service import Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

collect_ignore = [] if find_spec("playwright") else ["test_page.py"]

KEY = "a key"
SECONDS = 60
QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")


class Pace:
    """Stands before the steps of all batches, which go on while it is open."""

    def __init__(self):
        self._gate = threading.Event()
        self.open()

    def open(self) -> None:
        self._gate.set()

    def close(self) -> None:
        self._gate.clear()

    def run_batch(self, pipeline: Any, requests: Any, size: int, progress: Any) -> Any:
        def wait_and_report(step: int, latents: Any) -> Any:
            told = progress(step, latents)
            assert self._gate.wait(SECONDS)
            return told

        return BATCH(pipeline, requests, size, wait_and_report)


BATCH = engines.run_batch


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pace]:
    """Holds every batch after a piece of its loop, for as long as a test likes."""
    pace = Pace()
    monkeypatch.setattr(engines, "run_batch", pace.run_batch)
    yield pace
    pace.open()


def serve(pipeline: Any, keys: tuple[bytes, ...] = ()) -> Iterator[tuple[str, Service]]:
    """The address of a server in a thread, and its service."""
    service = Service(Engine(pipeline, batch_size=2), name="tiny")
    server = uvicorn.Server(uvicorn.Config(build_app(service, keys=keys), log_config=None, ws="none"))
    with open_socket("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield address_of(listener), service
        server.should_exit = True
        thread.join(SECONDS)


def address_of(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


@pytest.fixture(scope="session")
def server(pipeline) -> Iterator[tuple[str, Service]]:
    """A server that everybody may use."""
    yield from serve(pipeline)


@pytest.fixture(scope="session")
def locked_server(pipeline) -> Iterator[tuple[str, Service]]:
    """A server that asks for a key."""
    yield from serve(pipeline, (KEY.encode(),))


@pytest.fixture
def service(server) -> Service:
    return server[1]


@pytest.fixture(scope="session")
def browser() -> "Iterator[Browser]":
    """Debian's Chromium, or else the build that Playwright has installed."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), chromium_sandbox=False, args=list(QUIET)
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser) -> "Iterator[Page]":
    """A window of a person who was never here; nothing may go wrong in it, a breach of its policy included."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    context.set_default_timeout(1000 * SECONDS)
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    context.close()
    refused = "Failed to load resource"  # answers that a test asks for: 401, 404 and such
    assert [error for error in errors if refused not in error] == []


@pytest.fixture
def page(new_page, server) -> "Page":
    """The page, as it is when it knows what the model can do."""
    new_page.goto(server[0])
    new_page.wait_for_selector("#sizes input")
    return new_page
