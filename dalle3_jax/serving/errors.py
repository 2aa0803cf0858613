"""Errors as OpenAI's API words them: {"error": {"message", "type", "param", "code"}}, whoever notices them."""

import logging
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

__all__ = ["ApiError", "answer_api_error", "answer_http_error", "answer_unexpected_error"]

LOGGER = logging.getLogger("dalle3_jax.serving")
CODES = {401: "invalid_api_key", 413: "request_too_large", 429: "rate_limit_exceeded"}


class ApiError(Exception):
    """An answer to a client: the HTTP status, a message with the remedy, and the parameter that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param = status, message, param
        self.code, self.headers = code or CODES.get(status), dict(headers or {})

    def copy(self) -> "ApiError":
        """The same answer, to be raised: the frames of a traceback hold images, and a job keeps its error for long."""
        return ApiError(self.status, self.message, param=self.param, code=self.code, headers=self.headers)

    @property
    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        kind = "rate_limit_error" if self.status == 429 else kind
        message = self.message.encode("utf-8", "replace").decode()  # half characters are no text
        return {"error": {"message": message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> Response:
        """The answer."""
        return JSONResponse(self.body, self.status, self.headers)


async def answer_api_error(request: Request, error: Exception) -> Response:
    """The answer to a request that we refuse."""
    assert isinstance(error, ApiError)
    return error.response


async def answer_http_error(request: Request, error: Exception) -> Response:
    """The answer to what the framework refuses: paths and methods that are not there, bodies that are no forms."""
    assert isinstance(error, HTTPException)
    method, path = request.method, request.url.path[:200]
    messages = {404: f"no such URL: {method} {path}", 405: f"{method} is not allowed for {path}"}
    message = messages.get(error.status_code, str(error.detail))
    code = {404: "unknown_url", 405: "method_not_allowed"}.get(error.status_code)
    return ApiError(error.status_code, message, code=code, headers=error.headers).response


async def answer_unexpected_error(request: Request, error: Exception) -> Response:
    """The answer where something broke; the log has the traceback and the route, whose path may hold a secret."""
    route = getattr(request.scope.get("route"), "path", "other")
    LOGGER.error("%s %s failed", request.method, route, exc_info=error)
    return ApiError(500, "the server had an error; its log says more").response
