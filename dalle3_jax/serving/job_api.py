"""Jobs that outlive their connections: what a page needs that is loaded again and finds its images.

POST /v1/images/jobs takes the body of /v1/images/generations, or the form of edits, without a prompt of variations, and
answers at once; whoever knows the id, 128 random bits, sees how far the job is, its images, and may stop it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dalle3_jax.serving.bodies import read_json
from dalle3_jax.serving.edit_api import read_form_call
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.event_stream import KEEP_ALIVE, event_response, format_event, partial_event
from dalle3_jax.serving.generation import image_datum, plan_job
from dalle3_jax.serving.limits import client_name
from dalle3_jax.serving.openai_api import base_url
from dalle3_jax.serving.queue import QueuedImage
from dalle3_jax.serving.schemas import Generation, parse_body
from dalle3_jax.serving.service import Plan, Service

__all__ = ["ROUTES"]


async def create_job(request: Request) -> Response:
    """POST /v1/images/jobs."""
    service: Service = request.app.state.service
    if request.headers.get("content-type", "").startswith("multipart/"):
        plan, _ = await read_form_call(request)
    else:
        call = parse_body(Generation, await read_json(request, service.most_json))
        plan = await asyncio.to_thread(plan_job, service, call, client_name(request))
    service.engine.submit(plan.job)
    service.hold_job(plan)
    return JSONResponse(job_object(service, plan, base_url(request)), 202)


def find_job(request: Request) -> Plan:
    """The job of the path; ApiError 404 where there is none, or no more."""
    service: Service = request.app.state.service
    plan = service.jobs.get(request.path_params["id"])
    if plan is None:
        raise ApiError(404, "no such job: it has expired, or never was", code="job_not_found")
    return plan


async def get_job(request: Request) -> Response:
    """GET /v1/images/jobs/{id}."""
    return JSONResponse(job_object(request.app.state.service, find_job(request), base_url(request)))


async def delete_job(request: Request) -> Response:
    """DELETE /v1/images/jobs/{id}: stops it; of one that has ended, the images are deleted."""
    service: Service = request.app.state.service
    plan = find_job(request)
    if plan.job.finished.is_set():
        service.jobs.remove(plan.job.id)
        for image in plan.job.images:
            service.files.remove(image.file)
    else:
        service.engine.cancel(plan.job)
    return JSONResponse(job_object(service, plan, base_url(request)))


async def stream_job(request: Request) -> Response:
    """GET /v1/images/jobs/{id}/events: where it stands, then its news to the end; it goes on without listeners."""
    return event_response(job_events(request.app.state.service, find_job(request), base_url(request)))


async def job_events(service: Service, plan: Plan, url: str) -> AsyncIterator[str]:
    """image_job.progress, .partial_image and .image, and at last .completed, .failed or .cancelled with the job."""
    yield format_event({"type": "image_job.progress", **job_object(service, plan, url)})
    async with aclosing(plan.job.updates()) as updates:
        async for update in updates:
            if update.kind == "waiting":
                yield KEEP_ALIVE
                continue
            values = {"type": f"image_job.{update.kind}"}
            if update.kind == "preview":
                values = {"type": "image_job.partial_image", **await partial_event(plan, update)}
            elif update.image is not None and update.kind == "image":
                values |= job_datum(service, update.image, url)
            values |= job_object(service, plan, url) if update.image is None else job_progress(service, plan)
            yield format_event(values)


def job_object(service: Service, plan: Plan, url: str) -> dict[str, Any]:
    """A job: how far it is, and the images that are done."""
    job = plan.job
    return {
        "id": job.id,
        "object": "image.job",
        "created": job.created,
        **job_progress(service, plan),
        "n": len(job.images),
        "size": plan.size,
        "quality": plan.quality,
        "output_format": plan.output_format,
        "prompt": job.images[0].request.original_prompt or job.images[0].request.prompt,
        "revised_prompt": job.images[0].request.prompt,
        "seed": job.images[0].request.seed,
        "data": [job_datum(service, image, url) for image in job.images if image.is_done],
        "warnings": plan.warnings,
        "error": job.error.body["error"] if job.error else None,
    }


def job_progress(service: Service, plan: Plan) -> dict[str, Any]:
    """A job's progress: the part that is done, how many images come before it, and the seconds that are left, about."""
    before = service.engine.queue.count_before(plan.job)
    left = sum(1 - image.step / image.steps for image in plan.job.images if not image.is_done)
    seconds = 0.0 if plan.job.finished.is_set() else service.engine.seconds_for(before + left)
    return {
        "status": plan.job.status,
        "compiling": plan.job.is_compiling,
        "progress": round(plan.job.progress, 4),
        "images_before": before,
        "eta_seconds": round(seconds, 1),
    }


def job_datum(service: Service, image: QueuedImage, url: str) -> dict[str, Any]:
    """An image that is done; its URL is null once the file has expired."""
    datum = {"image_index": image.index} | image_datum(service, image, ("url",), url)
    return datum if service.files.get(image.file) else datum | {"url": None}


ROUTES = [
    Route("/v1/images/jobs", create_job, methods=["POST"]),
    Route("/v1/images/jobs/{id}", get_job),
    Route("/v1/images/jobs/{id}", delete_job, methods=["DELETE"]),
    Route("/v1/images/jobs/{id}/events", stream_job),
]
