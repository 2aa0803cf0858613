"""The part of stable-diffusion-webui's API by which Open WebUI, SillyTavern and LibreChat reach a server of images."""

import asyncio
import json
import re
import time
from typing import Any

from PIL import Image, ImageOps
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dalle3_jax.pipeline.image_formats import encode_png
from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.png import SAMPLER_TITLES, a1111_parameters
from dalle3_jax.serving.a1111_names import list_samplers, list_schedulers, split_sampler
from dalle3_jax.serving.bodies import read_json, wait_for_job
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.generation import encode_base64, plan_job
from dalle3_jax.serving.limits import client_name
from dalle3_jax.serving.queue import Job, QueuedImage, output_size
from dalle3_jax.serving.schemas import MOST_IMAGES, MOST_PROMPT, Generation, parse_body
from dalle3_jax.serving.service import Service
from dalle3_jax.serving.uploads import decode_base64_image, open_input

__all__ = ["ROUTES", "ImageToImage", "TextToImage"]

LABEL = "a1111"
"""Of jobs that POST /sdapi/v1/interrupt stops."""
LORA = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
NAMES = {"guidance_scale": "cfg_scale", "n": "batch_size", "sampler": "sampler_name", "size": "width"}
NAMES |= {"strength": "denoising_strength", "feather": "mask_blur", "image": "init_images"}
"""Our names of settings, and those of this API."""
PASSED_OVER = ("alwayson_scripts", "script_name", "enable_hr", "restore_faces", "tiling", "refiner_checkpoint")
"""What is passed over with a warning, where it asks for anything."""


class TextToImage(BaseModel):
    """The body of POST /sdapi/v1/txt2img, as far as it counts here; what is left out is the release's own default."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    prompt: str = Field("", max_length=MOST_PROMPT)
    negative_prompt: str | None = Field(None, max_length=MOST_PROMPT)
    seed: int | None = Field(None, description="-1: a random one")
    steps: int | None = None
    cfg_scale: float | None = None
    width: int | None = Field(None, ge=1, le=100_000)
    height: int | None = Field(None, ge=1, le=100_000)
    batch_size: int | None = Field(None, ge=1, le=MOST_IMAGES)
    n_iter: int | None = Field(None, ge=1, le=MOST_IMAGES)
    sampler_name: str | None = None
    sampler_index: str | None = None
    scheduler: str | None = None
    send_images: bool | None = None
    override_settings: dict[str, Any] | None = None


class ImageToImage(TextToImage):
    """The body of POST /sdapi/v1/img2img; of the mask what is white is painted anew."""

    init_images: list[str] = Field(min_length=1, max_length=20)
    denoising_strength: float | None = Field(None, description="default 0.75")
    mask: str | None = None
    mask_blur: int | None = Field(None, description="default 4: how soft the edge within the mask is, in pixels")
    inpainting_mask_invert: int | None = Field(None, description="1: what is black is painted anew")


async def text_to_image(request: Request) -> Response:
    """POST /sdapi/v1/txt2img."""
    return await answer_images(request, parse_body(TextToImage, await read_json(request)), {})


async def image_to_image(request: Request) -> Response:
    """POST /sdapi/v1/img2img."""
    body = parse_body(ImageToImage, await read_json(request, None))
    return await answer_images(request, body, await asyncio.to_thread(open_init_image, body))


def open_init_image(body: ImageToImage) -> dict[str, InputImage]:
    """The image to begin with and its mask; ApiError that names the one that cannot be used."""
    image = ImageOps.exif_transpose(decode_base64_image(body.init_images[0], "init_images"))
    opened = {"image": open_input(image, "image")}
    if body.mask:
        mask = decode_base64_image(body.mask, "mask")
        alpha = mask.convert("RGBA").getchannel("A")
        grey = mask.convert("L") if alpha.getextrema() == (255, 255) else alpha
        grey = ImageOps.invert(grey) if body.inpainting_mask_invert else grey
        opened["mask"] = open_input(grey.resize(image.size, Image.Resampling.NEAREST), "mask")
    return opened


def generation_values(service: Service, body: TextToImage) -> tuple[dict[str, Any], list[str]]:
    """The fields of OpenAI's call that asks for the same images, and warnings of what is passed over."""
    capabilities = service.engine.pipeline.capabilities
    sampler = body.sampler_name or body.sampler_index or ""
    settings, notes = split_sampler(sampler, body.scheduler or "", capabilities.samplers, capabilities.spacings)
    notes += [f"{name} has no effect here" for name in PASSED_OVER if (body.model_extra or {}).get(name)]
    prompt = LORA.sub("", body.prompt)
    if prompt != body.prompt:
        notes.append("networks in <> are not loaded here")
    count = (body.batch_size or 1) * (body.n_iter or 1)
    if count > MOST_IMAGES:
        raise ApiError(400, f"batch_size times n_iter is {count}: at most {MOST_IMAGES} are made", param="n_iter")
    values: dict[str, Any] = {"prompt": prompt.strip() or " ", "n": count, "output_format": "png", **settings}
    values |= {"steps": body.steps, "guidance_scale": body.cfg_scale, "negative_prompt": body.negative_prompt}
    values |= {"seed": None if body.seed is None or body.seed < 0 else body.seed}
    values |= {"model": (body.override_settings or {}).get("sd_model_checkpoint")}
    if isinstance(body, ImageToImage):
        strength = 0.75 if body.denoising_strength is None else body.denoising_strength
        whole = strength == 1 and not body.mask  # which has nothing of the image: here that is no image to image
        values |= {"strength": 0.99 if whole else strength, "feather": body.mask_blur}
    if body.width or body.height:
        side = body.width or body.height
        values["size"] = f"{body.width or side}x{body.height or side}"
    return values, notes


async def answer_images(request: Request, body: TextToImage, images: dict[str, InputImage]) -> Response:
    """Makes a job of the body and answers with its images; of one that was interrupted, with those that are done."""
    service: Service = request.app.state.service
    values, notes = generation_values(service, body)
    try:
        call = parse_body(Generation, values)
        plan = await asyncio.to_thread(plan_job, service, call, client_name(request), images)
    except ApiError as error:
        error.param = NAMES.get(error.param or "", error.param)
        raise
    plan.warnings[:0] = notes
    plan.job.label = LABEL
    service.engine.submit(plan.job)
    try:
        await wait_for_job(request, service.engine, plan.job)
    except ApiError:
        if plan.job.status != "cancelled":
            raise
    done = [image for image in plan.job.images if image.is_done]
    files = [] if body.send_images is False else [encode_base64(image.content) for image in done]
    hidden = {*(body.model_extra or {}), "init_images", "mask"}
    parameters = body.model_dump(exclude_none=True, exclude=hidden)
    info = json.dumps(describe_images(service, plan.job.images, done))
    return JSONResponse({"images": files, "parameters": parameters, "info": info, "warnings": plan.warnings})


def describe_images(service: Service, images: list[QueuedImage], done: list[QueuedImage]) -> dict[str, Any]:
    """The content of the field `info`, as JSON in a string."""
    request = images[0].request
    height, width = output_size(request)
    return {
        "prompt": request.prompt,
        "all_prompts": [image.request.prompt for image in images],
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [image.request.negative_prompt for image in images],
        "seed": request.seed,
        "all_seeds": [image.request.seed for image in images],
        "subseed": 0,
        "all_subseeds": [0 for _ in images],
        "subseed_strength": 0,
        "width": width,
        "height": height,
        "sampler_name": SAMPLER_TITLES.get(request.sampling.sampler, request.sampling.sampler),
        "cfg_scale": request.guidance.scale,
        "steps": request.sampling.steps,
        "batch_size": len(images),
        "restore_faces": False,
        "sd_model_name": service.model_names[0],
        "sd_model_hash": service.engine.pipeline.release.digest[:10],
        "denoising_strength": request.edit.strength,
        "extra_generation_params": {},
        "index_of_first_image": 0,
        "infotexts": [a1111_parameters(image.metadata) for image in done],
        "styles": [],
        "job_timestamp": time.strftime("%Y%m%d%H%M%S", time.localtime(images[0].job.created)),
        "clip_skip": 1,
    }


async def get_options(request: Request) -> Response:
    """GET /sdapi/v1/options: what programs ask for, the name of the model above all."""
    service: Service = request.app.state.service
    digest = service.engine.pipeline.release.digest
    return JSONResponse(
        {"sd_model_checkpoint": service.model_names[0], "sd_checkpoint_hash": digest, "samples_format": "png"}
    )


async def set_options(request: Request) -> Response:
    """POST /sdapi/v1/options: nothing can be set; another model is refused where the server is strict."""
    service: Service = request.app.state.service
    name = (await read_json(request)).get("sd_model_checkpoint")
    service.check_model(name if isinstance(name, str) else None)
    return JSONResponse(None)


async def list_models(request: Request) -> Response:
    """GET /sdapi/v1/sd-models."""
    service: Service = request.app.state.service
    name, digest = service.model_names[0], service.engine.pipeline.release.digest
    fields = {"hash": digest[:10], "sha256": digest, "filename": name, "config": None}
    return JSONResponse([{"title": name, "model_name": name, **fields}])


async def get_samplers(request: Request) -> Response:
    """GET /sdapi/v1/samplers."""
    return JSONResponse(list_samplers(request.app.state.service.engine.pipeline.capabilities.samplers))


async def get_schedulers(request: Request) -> Response:
    """GET /sdapi/v1/schedulers."""
    return JSONResponse(list_schedulers(request.app.state.service.engine.pipeline.capabilities.spacings))


async def list_upscalers(request: Request) -> Response:
    """GET /sdapi/v1/upscalers: none, and the release's own."""
    service: Service = request.app.state.service
    rows = [("None", 1), *((f"{service.model_names[0]} x{factor}", factor) for factor in upscale_factors(service))]
    fields = {"model_name": None, "model_path": None, "model_url": None}
    return JSONResponse([{"name": name, "scale": factor, **fields} for name, factor in rows])


def upscale_factors(service: Service) -> tuple[int, ...]:
    """By how much the release's upscaler enlarges."""
    return service.engine.pipeline.capabilities.upscale_factors


async def list_nothing(request: Request) -> Response:
    """GET of what stable-diffusion-webui may have and we do not: other VAEs, LoRAs, upscaling of latents."""
    return JSONResponse([])


async def get_progress(request: Request) -> Response:
    """GET /sdapi/v1/progress: of the caller's own images, the present one as it is, unless skip_current_image."""
    service: Service = request.app.state.service
    jobs = client_jobs(service, client_name(request))
    images = [image for image in service.engine.running if image.job in jobs]
    state = {"skipped": False, "interrupted": False, "job": "", "job_count": len(jobs), "job_timestamp": "0"}
    state |= {"job_no": 0, "sampling_step": 0, "sampling_steps": 0}
    answer: dict[str, Any] = {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None}
    if images:
        job, image = images[0].job, images[0]
        left = sum(1 - one.step / one.steps for one in job.images if not one.is_done)
        state |= {"job": job.id, "sampling_step": image.step, "sampling_steps": image.steps}
        answer |= {"progress": job.progress, "eta_relative": round(service.engine.seconds_for(left), 2)}
        if request.query_params.get("skip_current_image", "").lower() not in ("true", "1"):
            job.wants_preview = True
            if image.preview is not None:
                answer["current_image"] = encode_base64(await asyncio.to_thread(encode_png, image.preview))
    compiling = any(job.is_compiling for job in jobs)
    return JSONResponse(answer | {"textinfo": "Compiling for this size, once" if compiling else None})


def client_jobs(service: Service, client: str) -> list[Job]:
    """The caller's jobs that wait or run, the oldest first."""
    engine = service.engine
    jobs = dict.fromkeys([*(image.job for image in engine.running), *engine.queue.jobs()])
    own = [job for job in jobs if isinstance(job, Job) and job.client == client and job.label == LABEL]
    return [job for job in own if not job.finished.is_set()]


async def interrupt(request: Request) -> Response:
    """POST /sdapi/v1/interrupt: stops the caller's jobs; those that are done are answered."""
    service: Service = request.app.state.service
    for job in client_jobs(service, client_name(request)):
        service.engine.cancel(job)
    return JSONResponse({})


async def read_png_info(request: Request) -> Response:
    """POST /sdapi/v1/png-info: what a PNG says of how it was made."""
    texts = await asyncio.to_thread(png_texts, (await read_json(request, None)).get("image"))
    return JSONResponse({"info": texts.get("parameters", ""), "items": texts, "parameters": {}})


def png_texts(text: Any) -> dict[str, str]:
    """The texts of a PNG in base64; ApiError for what is no image."""
    image = decode_base64_image(text, "image")
    texts = {**image.info, **getattr(image, "text", {})}  # the second has what follows the pixels
    return {key: value for key, value in texts.items() if isinstance(value, str)}


ROUTES = [
    Route("/sdapi/v1/txt2img", text_to_image, methods=["POST"]),
    Route("/sdapi/v1/img2img", image_to_image, methods=["POST"]),
    Route("/sdapi/v1/options", get_options),
    Route("/sdapi/v1/options", set_options, methods=["POST"]),
    Route("/sdapi/v1/sd-models", list_models),
    Route("/sdapi/v1/samplers", get_samplers),
    Route("/sdapi/v1/schedulers", get_schedulers),
    Route("/sdapi/v1/upscalers", list_upscalers),
    *(Route(f"/sdapi/v1/{name}", list_nothing) for name in ("latent-upscale-modes", "sd-vae", "loras")),
    Route("/sdapi/v1/progress", get_progress),
    Route("/sdapi/v1/interrupt", interrupt, methods=["POST"]),
    Route("/sdapi/v1/png-info", read_png_info, methods=["POST"]),
]
