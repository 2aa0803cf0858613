"""HTTP/1.1 connections: uvicorn's, with a bound to how long a request's head takes, and errors as OpenAI words them."""

import functools
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from dalle3_jax.serving.errors import ApiError

__all__ = ["BoundedConnection", "configure_server"]

HEAD_SECONDS = 30
KEEP_ALIVE_SECONDS = 75
"""More than what proxies and clients keep: who closes first must be they, or a request meets a closed connection."""
NO_HTTP = "this is no request of HTTP/1.1, or its head is longer than 16 KiB"


class BoundedConnection(H11Protocol):
    """A connection that is closed where a request's head does not come in `head_seconds`.

    uvicorn bounds only the time between two requests. What cannot be read, and no application sees, is answered here.
    """

    def __init__(self, head_seconds: float | int, **connection: Any):
        """`connection` is what uvicorn gives its own."""
        super().__init__(**connection)
        self._head_seconds, self._head_timer = head_seconds, None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Bytes of a client: of the head as long as the other side of the protocol is idle."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """The next request may have begun already."""
        super().on_response_complete()
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """The answer to what is no HTTP."""
        self._refuse(ApiError(400, NO_HTTP, code="invalid_http"))

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            error = ApiError(408, f"the head of the request did not come within {self._head_seconds:g} s")
            self._head_timer = self.loop.call_later(self._head_seconds, self._refuse, error)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, error: ApiError) -> None:
        """Answers, unless an answer has begun, and closes."""
        self._stop_waiting()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            answer = error.response
            headers = [*answer.raw_headers, (b"connection", b"close")]
            head = h11.Response(status_code=answer.status_code, headers=headers)
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


def configure_server(app: Starlette, head_seconds: float | int = HEAD_SECONDS) -> uvicorn.Config:
    """uvicorn's settings for the application; heads of requests that take longer are refused."""
    connection: Any = functools.partial(BoundedConnection, head_seconds)
    # The access log is our own: paths hold the names of jobs and files, which are secrets.
    return uvicorn.Config(
        app,
        http=connection,
        log_config=None,
        access_log=False,
        ws="none",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
