"""Bodies of calls: JSON objects, and waiting for a job while its client is there."""

import asyncio
import json
from typing import Any

from starlette.requests import Request

from dalle3_jax.serving.engine import Engine
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.queue import Job

__all__ = ["MOST_JSON", "read_json", "wait_for_job"]


MOST_JSON = 2**20
"""Bytes of a body without images."""


async def read_json(request: Request, most: int | None = MOST_JSON) -> dict[str, Any]:
    """The JSON object of a body, whatever its content type; ApiError where it is none, or of more than `most` bytes."""
    body = await request.body()
    if most is not None and len(body) > most:
        raise ApiError(413, f"the body is too large: at most {most:,} bytes of JSON are read here")
    try:
        values = await asyncio.to_thread(json.loads, body) if len(body) > MOST_JSON else json.loads(body or b"{}")
    except (ValueError, RecursionError) as error:
        message = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the body is no JSON: {message}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise ApiError(400, "the body is no JSON object", code="invalid_json")
    return values


async def wait_for_job(request: Request, engine: Engine, job: Job) -> None:
    """Returns when the job is completed, and cancels it where the client leaves; ApiError where it failed."""
    finished = asyncio.create_task(job.finished.wait())
    gone = asyncio.create_task(wait_for_disconnect(request))
    try:
        await asyncio.wait({finished, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        finished.cancel()
        gone.cancel()
        if not job.finished.is_set():
            engine.cancel(job)
    if job.error is not None:
        raise job.error.copy()


async def wait_for_disconnect(request: Request) -> None:
    """Returns when the connection is closed; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
