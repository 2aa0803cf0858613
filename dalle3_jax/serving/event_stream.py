"""Server-sent events: OpenAI's stream of partial images, and the news of a job."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any

from starlette.responses import Response, StreamingResponse

from dalle3_jax.pipeline.image_formats import encode_png
from dalle3_jax.serving.generation import encode_base64, image_datum, usage
from dalle3_jax.serving.queue import Update
from dalle3_jax.serving.service import Plan, Service

__all__ = ["event_response", "format_event", "partial_event", "stream_images"]

KEEP_ALIVE = ": waiting\n\n"


def format_event(values: Mapping[str, Any]) -> str:
    """One event; a client tells it by `type` in the data as well."""
    name = values.get("type", "error")
    return f"event: {name}\ndata: {json.dumps(values)}\n\n"


def event_response(events: AsyncIterator[str]) -> Response:
    """The answer that sends events as they come, not held back by proxies."""
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


def stream_images(service: Service, plan: Plan, event: str) -> Response:
    """Partial images, then each image, of a submitted job, which is cancelled where the client leaves."""
    return event_response(image_events(service, plan, event))


async def image_events(service: Service, plan: Plan, event: str) -> AsyncIterator[str]:
    """The events of OpenAI's stream; `image_index` tells the images of one call apart."""
    try:
        async with aclosing(plan.job.updates()) as updates:
            async for update in updates:
                if update.kind == "preview":
                    yield format_event({"type": f"{event}.partial_image", **await partial_event(plan, update)})
                elif update.kind == "image":
                    yield format_event({"type": f"{event}.completed", **completed_event(service, plan, update)})
                elif update.kind == "waiting":
                    yield KEEP_ALIVE
        if plan.job.error is not None:
            yield format_event(plan.job.error.body)
    finally:
        service.engine.cancel(plan.job)  # unless it has ended


def image_fields(plan: Plan, update: Update) -> dict[str, Any]:
    """The fields of an image that both events have."""
    assert update.image is not None
    return {
        "image_index": update.image.index,
        "created_at": int(time.time()),
        "size": plan.size,
        "quality": plan.quality,
        "background": "opaque",
        "output_format": plan.output_format,
    }


async def partial_event(plan: Plan, update: Update) -> dict[str, Any]:
    """An image as it will be, so far: a PNG, whatever the image itself becomes."""
    assert update.preview is not None
    content = await asyncio.to_thread(encode_png, update.preview)
    fields = image_fields(plan, update) | {"output_format": "png", "partial_image_index": update.number}
    return {"b64_json": encode_base64(content), **fields}


def completed_event(service: Service, plan: Plan, update: Update) -> dict[str, Any]:
    """An image that is done."""
    assert update.image is not None
    counts = {"usage": usage(service, [update.image.request])}
    return image_datum(service, update.image, ("b64_json",), "") | image_fields(plan, update) | counts
