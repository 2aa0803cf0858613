"""The middleware before the routes: API keys, origins and hosts, and bounds of size and time for bodies."""

import asyncio
import base64
import binascii
import hmac
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dalle3_jax.serving.errors import ApiError

__all__ = ["BodyLimit", "KeyCheck", "OriginCheck", "client_name", "own_hosts", "own_origin", "read_keys"]

LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_PATHS = ("/", "/healthz", "/readyz")
OPEN_FOLDERS = ("/files/",)
"""A file's name is a secret of its own: browsers that show it send no key."""


def read_keys(keys: Sequence[str], path: str | None) -> tuple[bytes, ...]:
    """The keys of the command line and of a file, one a line; # begins a comment.

    Raises ValueError for a file of none, and for keys that clients cannot send.
    """
    lines = list(keys)
    if path is not None:
        text = Path(path).read_text(encoding="utf-8-sig", errors="replace")
        own = [line for line in map(str.strip, text.splitlines()) if line and not line.startswith("#")]
        if not own:
            raise ValueError(f"{path} holds no key: write one a line, or leave --api-key-file out")
        lines += own
    if "" in lines:
        raise ValueError("an empty --api-key is none: leave it out, or give one")
    if not all(line.isascii() and line.isprintable() for line in lines):
        where = "--api-key" if path is None else f"--api-key or {path}"
        raise ValueError(f"a key of {where} has characters that not every client can send: use printable ASCII alone")
    return tuple(line.encode() for line in lines)


def own_hosts(address: str, public_url: str) -> tuple[str, ...] | None:
    """The names of a server on this address that asks for no key: on the loopback only its own, elsewhere any."""
    if address not in LOOPBACK:
        return None
    return (*LOOPBACK, *filter(None, [urlsplit(public_url).hostname]))


def own_origin(public_url: str) -> str:
    """The origin of pages that come from there: a proxy may call the server by another name."""
    parts = urlsplit(public_url)
    return f"{parts.scheme}://{parts.netloc}"


def client_name(request: Request) -> str:
    """Who asks, for turns and bounds: the address and the key."""
    address = request.client.host if request.client else ""
    return f"{address} {request.scope.get('key_index', '')}"


class KeyCheck:
    """Lets pass who has a key, as `Authorization: Bearer` or as the password of `Basic`."""

    def __init__(self, app: ASGIApp, keys: Sequence[bytes]):
        self.app, self.keys = app, tuple(keys)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] == "http" and self.keys and not is_open(scope["path"]):
            index = self._find(given_key(Headers(scope=scope).get("authorization", "")))
            if index is None:
                message = "this server needs a key: send it as 'Authorization: Bearer KEY'"
                error = ApiError(401, message, headers={"WWW-Authenticate": "Bearer"})
                return await error.response(scope, receive, send)
            scope["key_index"] = index
        await self.app(scope, receive, send)

    def _find(self, given: bytes) -> int | None:
        """The number of the key; all are compared, each in constant time, so that time tells nothing."""
        equal = [hmac.compare_digest(given, key) for key in self.keys]
        return equal.index(True) if any(equal) else None


def is_open(path: str) -> bool:
    """Whether a path needs no key."""
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDERS)


def given_key(authorization: str) -> bytes:
    """The key of an Authorization header; nothing where there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.encode("latin-1").strip()  # its bytes as they came
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""


class OriginCheck:
    """Refuses what a page of another origin sends, and names of hosts that are not ours on a server of this machine.

    A browser lets any page send forms to any server, and a name that is made to lead here (DNS rebinding) makes a page
    of elsewhere one of ours.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str], hosts: Sequence[str] | None):
        """`origins` are those that CORS allows; `hosts` the names that the server has, None: any."""
        self.app, self.origins, self.hosts = app, tuple(origins), hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] == "http" and (message := self._error(Headers(scope=scope))):
            return await ApiError(403, message, code="forbidden_origin").response(scope, receive, send)
        await self.app(scope, receive, send)

    def _error(self, headers: Headers) -> str:
        host, origin = headers.get("host", ""), headers.get("origin")
        if self.hosts is not None and host_name(host) not in self.hosts:
            return f"this server is not called {host[:100]!a}: start it with --public-url, or with a key"
        if origin is None or "*" in self.origins or origin in self.origins:
            return ""
        own = urlsplit(origin).netloc == host and origin.startswith(("http://", "https://"))
        return "" if own else f"pages of {origin[:100]!a} may not use this server: start it with --cors"


def host_name(host: str) -> str:
    """The name of a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


class BodyLimit:
    """Refuses bodies that are larger than `most` bytes, or that do not come in time."""

    def __init__(self, app: ASGIApp, most: int, seconds: int | float):
        self.app, self.most, self.seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        too_large = ApiError(413, f"the body is too large: at most {self.most:,} bytes are read")
        length = Headers(scope=scope).get("content-length", "")
        deadline = asyncio.get_running_loop().time() + self.seconds
        if length.isdecimal() and int(length) > self.most:
            if int(length) <= 2 * self.most:
                await discard_body(receive, deadline)
            return await too_large.response(scope, receive, send)
        total, is_complete = 0, False

        async def bounded_receive() -> Message:
            nonlocal total, is_complete
            if is_complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), deadline - asyncio.get_running_loop().time())
            except TimeoutError:
                raise ApiError(408, f"the body did not come within {self.seconds:g} s") from None
            total += len(message.get("body", b""))
            if total > self.most:
                raise too_large
            is_complete = not message.get("more_body", False)
            return message

        await self.app(scope, bounded_receive, send)


async def discard_body(receive: Receive, deadline: float) -> None:
    """Takes what is sent, to its end or the deadline: who is still sending when a connection closes reads no answer."""
    more = True
    while more:
        try:
            message = await asyncio.wait_for(receive(), deadline - asyncio.get_running_loop().time())
        except TimeoutError:
            return
        more = message.get("more_body", False)
