"""An application on a port, from its start to a signal: what runs is finished, what waits is refused."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from starlette.applications import Starlette

from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.service import Service

if TYPE_CHECKING:
    import uvicorn

__all__ = ["open_socket", "run_server"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that listens; OSError that names the address where that cannot be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror or error}") from None


def run_server(
    build: Callable[[Callable[[BaseException], None]], Starlette], service: Service, listener: socket.socket
) -> BaseException | None:
    """Serves until SIGTERM or SIGINT; returns what stopped the engine, if anything did.

    A second signal ends the process at once, with 128 and the signal's number as its exit status. `build` makes the
    application, given whom it tells of an engine that could not go on.
    """
    import uvicorn

    from dalle3_jax.serving.connections import configure_server

    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    config = configure_server(build(fail))
    server = uvicorn.Server(config)
    server.capture_signals = functools.partial(capture_signals, server, service.engine)
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=[listener]))
    return failures[0] if failures else None


@contextlib.contextmanager
def capture_signals(server: "uvicorn.Server", engine: Engine) -> Iterator[None]:
    """A context of the running loop in which the first signal begins the end, and a second ends the process at once.

    The second is not left to the loop, which may itself wait for the device's thread.
    """
    loop = asyncio.get_running_loop()

    def stop(number: int, frame: FrameType | None) -> None:
        for one in SIGNALS:
            signal.signal(one, end_process)
        server.should_exit = True
        loop.call_soon_threadsafe(engine.drain)

    handlers = {number: signal.signal(number, stop) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def end_process(number: int, frame: FrameType | None) -> NoReturn:
    """Ends the process within a batch too, for whose thread Python waits at any other exit."""
    os._exit(128 + number)
