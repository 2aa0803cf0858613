"""An application on a port, from its start to a signal: what runs is finished, what waits is refused."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable

from starlette.applications import Starlette

from dalle3_jax.serving.service import Service

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
    """Serves until SIGTERM or SIGINT, a second of which ends at once; returns what stopped the engine, if anything did.

    `build` makes the application, given whom it tells of an engine that could not go on.
    """
    import uvicorn

    from dalle3_jax.serving.connections import configure_server

    failures: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failures.append(error)
        server.should_exit = True

    config = configure_server(build(fail))
    server = uvicorn.Server(config)

    async def serve() -> None:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            server.force_exit = server.should_exit
            server.should_exit = True
            service.engine.drain()

        for number in SIGNALS:
            loop.add_signal_handler(number, stop)
        server.capture_signals = contextlib.nullcontext  # pyright: ignore[reportAttributeAccessIssue]
        await server.serve(sockets=[listener])

    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(serve())
    return failures[0] if failures else None
