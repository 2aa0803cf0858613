"""The application: its routes, what stands before them, and how it starts and ends."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dalle3_jax.pipeline import request as requests
from dalle3_jax.serving import a1111_api, edit_api, job_api, openai_api, web_page
from dalle3_jax.serving.errors import ApiError, answer_api_error, answer_http_error, answer_unexpected_error
from dalle3_jax.serving.limits import BodyLimit, KeyCheck, OriginCheck, own_origin
from dalle3_jax.serving.metrics import Metrics
from dalle3_jax.serving.openapi import get_description
from dalle3_jax.serving.service import Service

__all__ = ["build_app"]

LOGGER = logging.getLogger("dalle3_jax.serving")
EXPOSED = ("Retry-After",)


def build_app(
    service: Service,
    *,
    keys: Sequence[bytes] = (),
    origins: Sequence[str] = (),
    hosts: Sequence[str] | None = None,
    warm_up: Sequence[requests.Request] = (),
    on_failure: Callable[[BaseException], None] | None = None,
) -> Starlette:
    """The ASGI application of a service.

    `keys` are those of clients (none: everybody may), `origins` the pages that CORS lets in, `hosts` the names that the
    server answers to (None: any), `warm_up` what is compiled before it is ready. `on_failure` hears of an engine that
    could not go on.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        engine = asyncio.create_task(service.engine.run(warm_up))
        engine.add_done_callback(lambda task: report_failure(task, on_failure))
        yield
        service.engine.drain()
        if not engine.done():
            await service.engine.stop()
            engine.cancel()

    middleware = [
        Middleware(RequestLog, metrics=service.engine.metrics),
        Middleware(OriginCheck, origins=(*origins, own_origin(service.public_url)), hosts=hosts),
        *([Middleware(CORSMiddleware, origins, ("*",), ("*",), expose_headers=EXPOSED)] if origins else []),
        Middleware(KeyCheck, keys=keys),
        Middleware(BodyLimit, most=service.limits.body_bytes, seconds=service.limits.body_seconds),
    ]
    handlers = {
        ApiError: answer_api_error,
        HTTPException: answer_http_error,
        Exception: answer_unexpected_error,
    }
    routes = [
        Route("/healthz", tell_health),
        Route("/readyz", tell_readiness),
        Route("/metrics", tell_metrics),
        Route("/openapi.json", get_description),
        *web_page.ROUTES,
        *job_api.ROUTES,
        *openai_api.ROUTES,
        *edit_api.ROUTES,
        *a1111_api.ROUTES,
    ]
    app = Starlette(routes=routes, middleware=middleware, exception_handlers=handlers, lifespan=lifespan)
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def report_failure(task: "asyncio.Task[None]", on_failure: Callable[[BaseException], None] | None) -> None:
    """Tells of an engine that ended by an error."""
    if not task.cancelled() and (error := task.exception()):
        LOGGER.critical("the engine has stopped", exc_info=error)
        if on_failure is not None:
            on_failure(error)


async def tell_health(request: Request) -> Response:
    """GET /healthz: the process lives."""
    return JSONResponse({"status": "ok"})


async def tell_readiness(request: Request) -> Response:
    """GET /readyz: 200 when what is to be compiled is, 503 before, and when the server is about to end."""
    service: Service = request.app.state.service
    engine = service.engine
    ready = engine.is_ready and not engine.is_draining
    answer = {"ready": ready, "draining": engine.is_draining, "images_waiting": len(engine.queue), "warm": engine.warm}
    return JSONResponse(answer, 200 if ready else 503)


async def tell_metrics(request: Request) -> Response:
    """GET /metrics, in Prometheus's text format."""
    service: Service = request.app.state.service
    return Response(service.engine.metrics.text(), media_type="text/plain; version=0.0.4")


class RequestLog:
    """Counts answers by route and status, and logs them, without what the path names: jobs and files are secrets."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection, as ASGI has it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        started, status = time.monotonic(), 0

        async def counting_send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, counting_send)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, str(status)).inc()
            LOGGER.info("%s %s %d in %.3f s", scope["method"], route, status, time.monotonic() - started)
