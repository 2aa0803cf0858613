"""OpenAI's Images API: generations, models, and the files that its URLs lead to."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dalle3_jax.serving.bodies import read_json, wait_for_job
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.event_stream import stream_images
from dalle3_jax.serving.generation import answer_body, plan_job
from dalle3_jax.serving.limits import client_name
from dalle3_jax.serving.schemas import Generation, parse_body
from dalle3_jax.serving.service import Plan, Service

__all__ = ["ROUTES", "base_url"]


def base_url(request: Request) -> str:
    """The scheme and host by which the client reached the server."""
    return str(request.base_url)


async def create_images(request: Request) -> Response:
    """POST /v1/images/generations."""
    service: Service = request.app.state.service
    call = parse_body(Generation, await read_json(request, service.most_json))
    plan = await asyncio.to_thread(plan_job, service, call, client_name(request))
    return await answer_plan(request, plan, "image_generation", stream=bool(getattr(call, "stream", False)))


async def answer_plan(request: Request, plan: Plan, event: str, *, stream: bool) -> Response:
    """Submits the job, and answers with its images when they are done, or with a stream of events."""
    service: Service = request.app.state.service
    service.engine.submit(plan.job)
    if stream:
        return stream_images(service, plan, event)
    await wait_for_job(request, service.engine, plan.job)
    return JSONResponse(answer_body(service, plan, base_url(request)))


async def list_models(request: Request) -> Response:
    """GET /v1/models."""
    service: Service = request.app.state.service
    return JSONResponse({"object": "list", "data": [model_object(service, name) for name in service.model_names]})


async def get_model(request: Request) -> Response:
    """GET /v1/models/{id}."""
    service: Service = request.app.state.service
    name = request.path_params["name"]
    if name not in service.model_names:
        raise ApiError(404, f"no model {name[:200]!a}", param="model", code="model_not_found")
    return JSONResponse(model_object(service, name))


def model_object(service: Service, name: str) -> dict[str, Any]:
    """A model as OpenAI describes it, and the sizes and settings that it has by default."""
    pipeline = service.engine.pipeline
    sizes = [f"{width}x{height}" for height, width in service.sizes]
    own = {key: value for key, value in pipeline.defaults.items() if key != "size"}
    capabilities = pipeline.capabilities
    choices = {key: list(getattr(capabilities, key)) for key in ("samplers", "spacings", "decoders")}
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "dalle3_jax",
        "checkpoint": pipeline.release.digest,
        "sizes": sizes,
        "defaults": own,
        "batch_sizes": list(service.engine.sizes),
        "upsample": pipeline.upsample,
        "upscale": list(capabilities.upscale_factors),
        "needs_mask": capabilities.needs_mask,
        "image_prompts": capabilities.takes_image_prompts,
        **choices,
    }


async def get_file(request: Request) -> Response:
    """GET /files/{name}: an image, as long as it is kept."""
    service: Service = request.app.state.service
    stored = service.files.get(request.path_params["name"])
    if stored is None:
        raise ApiError(404, "no such file: it has expired, or never was", code="file_not_found")
    headers = {"Cache-Control": f"private, max-age={service.limits.keep_seconds:.0f}, immutable"}
    return Response(stored.content, media_type=stored.media_type, headers=headers)


ROUTES = [
    Route("/v1/images/generations", create_images, methods=["POST"]),
    Route("/v1/models", list_models),
    Route("/v1/models/{name:path}", get_model),
    Route("/files/{name}", get_file),
]
