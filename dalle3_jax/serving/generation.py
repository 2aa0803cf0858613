"""From the fields of a call to a job, and from a job to OpenAI's answer: both shapes, and what we say beyond them."""

import base64
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from dalle3_jax.pipeline.edit_settings import Edit, canvas_size
from dalle3_jax.pipeline.edits import nearest_size
from dalle3_jax.pipeline.png import jpeg_errors
from dalle3_jax.pipeline.request import SETTINGS, Request, Sampling
from dalle3_jax.pipeline.revision import revise_prompt, size_notices, truncation_notices, unknown_notes
from dalle3_jax.pipeline.setting_values import format_size, parse_size
from dalle3_jax.prompting.aspect import choose_size
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.queue import Job, QueuedImage, output_size
from dalle3_jax.serving.service import Plan, Service
from dalle3_jax.serving.uploads import open_base64_input

__all__ = ["answer_body", "encode_base64", "image_datum", "make_requests_of_prompt", "plan_job", "usage"]

LOGGER = logging.getLogger("dalle3_jax.serving")
QUALITIES = {"low": 0.5, "high": 2.0, "hd": 2.0, "xhigh": 3.0, "max": 4.0}
"""The steps of a quality, as multiples of the release's own."""
TILES = (0, 256, 512, 1024, 2048)
COMPILED = {"tile": TILES, "upscale_tile": TILES, "decoder_temperature": (0, 0.25, 0.5, 0.75, 1)}
"""The values of numbers for each of which a program is compiled: clients choose among few."""
EDITING = ("image_prompt_scale", "image_prompt", "mask", "outpaint", "strength", "image")
GPT_IMAGE, DALL_E = ("gpt-image", "chatgpt-image"), ("dall-e-2", "dall-e-3")


def plan_job(
    service: Service, call: BaseModel, client: str, own: Mapping[str, Any] = {}, *, knows_prompt: bool = True
) -> Plan:
    """The job of a call; ApiError, before anything is computed, for what cannot be made.

    `own` are values that take the place of the call's: of an edit, the images too. Where the prompt is still to be
    found (`knows_prompt` is False), neither the log nor the warnings speak of the one that stands for it. Takes
    milliseconds, with images more: not for the event loop.
    """
    fields = type(call).model_fields
    values: dict[str, Any] = {name: value for name in fields if (value := getattr(call, name)) is not None}
    values.update(own)
    service.check_model(values.get("model"))
    if values.get("background") == "transparent":
        raise ApiError(400, "background: transparent cannot be had, use opaque", param="background")
    warnings = [f"{name!a} is unknown and was ignored" for name in (call.model_extra or {})][:20]
    if "style" in values:
        warnings.append("style has no effect: say in the prompt how it should look")
    if isinstance(encoded := values.get("image_prompt"), str):  # never the path of a file
        values["image_prompt"] = open_base64_input(encoded, "image_prompt")
    prompt = values["prompt"]
    if knows_prompt and service.logs_prompts:
        LOGGER.info("prompt %r", prompt)
    size = values.get("size", "")
    settings = {name: value for name, value in values.items() if name in SETTINGS and name not in ("prompt", "size")}
    quality = values.get("quality", "auto")
    settings |= quality_steps(service, quality) if "steps" not in settings else {}
    asked = None if size in ("", "auto") else read_size(size)
    requests = make_requests_of_prompt(
        service,
        prompt,
        settings,
        n=values.get("n", 1),
        upsample=values.get("upsample"),
        size=asked,
        chooses_size=size == "auto",
    )
    suffix = f".{values.get('output_format', 'png')}"
    if suffix == ".jpeg" and (errors := jpeg_errors(requests)):
        raise ApiError(400, f"prompt: {errors[0]}", param="prompt")
    made = output_size(requests[0])
    if asked is not None and asked != made:
        warnings.append(f"{format_size(asked)} was asked for, and {format_size(made)} is what can be had")
    warnings += prompt_notices(service, requests[0]) if knows_prompt else []
    warnings += size_notices(requests[:1], service.engine.pipeline.capabilities.sizes)
    job = Job(
        requests,
        client,
        partial_images=values.get("partial_images", 0),
        batch_size=check_batch_size(service, values.get("batch_size")),
        suffix=suffix,
        quality=values.get("output_compression", 95),
    )
    return Plan(job, quality, datum_keys(values.get("model"), values.get("response_format")), warnings)


def read_size(text: str) -> tuple[int, int]:
    """(height, width) of WIDTHxHEIGHT; ApiError for anything else."""
    try:
        height, width = parse_size(text)
    except ValueError as error:
        raise ApiError(400, f"size: {error}, or auto", param="size", code="invalid_value") from None
    if min(height, width) < 1:
        raise ApiError(400, f"size: {text} has no pixels", param="size", code="invalid_value")
    return height, width


def quality_steps(service: Service, quality: str) -> dict[str, int]:
    """The steps of a quality, where they are others than the release's own; a distilled model has its own."""
    defaults = service.engine.pipeline.defaults
    if quality not in QUALITIES or defaults.get("sampler") == "consistency":
        return {}
    steps = round(defaults.get("steps", Sampling().steps) * QUALITIES[quality])
    return {"steps": min(max(steps, 1), service.limits.steps)}


def check_batch_size(service: Service, size: int | None) -> int | None:
    """The size of a batch; ApiError where it is none that is made here."""
    sizes = service.engine.sizes
    if size is not None and size not in sizes:
        raise ApiError(
            400, f"batch_size: {size} is not made here, use {', '.join(map(str, sizes))}", param="batch_size"
        )
    return size


def datum_keys(model: str | None, response_format: str | None) -> tuple[str, ...]:
    """The form of the images: what is asked for, else what clients of this model expect, else both."""
    if response_format is not None:
        return (response_format,)
    if model is not None and model.startswith(GPT_IMAGE):
        return ("b64_json",)
    return ("url",) if model in DALL_E else ("b64_json", "url")


def make_requests_of_prompt(
    service: Service,
    prompt: str,
    settings: Mapping[str, Any],
    *,
    n: int = 1,
    upsample: str | None = None,
    size: tuple[int, int] | None = None,
    chooses_size: bool = False,
) -> list[Request]:
    """Checked requests of `n` images: with seeds one after the other, from a random one where none is said.

    The size is the bucket nearest to `size`, one chosen from the prompt, or the release's first. Raises ApiError that
    names the setting that is wrong.
    """
    pipeline = service.engine.pipeline
    values = read_settings(service, settings)
    seed = values.pop("seed", None)
    seed = secrets.randbelow(2**32 - n) if seed is None else seed
    if (made := request_size(service, prompt, values, size, chooses_size)) is not None:
        values["size"] = made
    revised = revise_prompt(prompt, upsample or pipeline.upsample, pipeline.release.training, pipeline.can_read)
    values |= {"original_prompt": prompt} if revised != prompt else {}
    try:
        first = pipeline.request(revised, seed=seed, **values)
        pipeline.check_requests([replace(first, seed=seed + n - 1)])
    except ValueError as error:
        param = wrong_parameter(service, {**values, "seed": seed + n - 1}, str(error))
        raise ApiError(400, str(error), param=param, code="invalid_value") from None
    check_limits(service, first)
    return [replace(first, seed=seed + index) for index in range(n)]


def check_limits(service: Service, request: Request) -> None:
    """ApiError for more steps than are made here, and for values that are not and would each be a program."""
    for name in ("steps", "decoder_steps", "upscale_steps"):
        if (steps := SETTINGS[name].value(request)) > service.limits.steps:
            message = f"{name}: {steps} are too many, at most {service.limits.steps} are made here"
            raise ApiError(400, message, param=name, code="invalid_value")
    for name, values in COMPILED.items():
        value = SETTINGS[name].value(request)
        if value not in (*values, None, service.engine.pipeline.defaults.get(name)):
            message = f"{name}: {value} is not made here, use {', '.join(map(str, values))}"
            raise ApiError(400, message, param=name, code="invalid_value")


def request_size(
    service: Service, prompt: str, values: Mapping[str, Any], size: tuple[int, int] | None, chooses_size: bool
) -> tuple[int, int] | None:
    """The size at which a request is sampled, one of the release's; None for its default.

    An image with a mask keeps its own size, and is sampled at the nearest: any other would be another program.
    """
    image, outpaint = values.get("image"), values.get("outpaint", "")
    if image is not None and ("mask" in values or outpaint):
        try:
            return nearest_size(canvas_size(Edit(image, outpaint=outpaint)), service.sizes)
        except ValueError:  # which the request says better
            return None
    if size is not None:
        return nearest_size(size, service.sizes)
    return choose_size(prompt, service.sizes, head=service.size_head).size if chooses_size else None


def read_settings(service: Service, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as Python has them; ApiError for the first that is of another kind."""
    values = {}
    for name, value in settings.items():
        try:
            values[name] = SETTINGS[name].type.read(value)
        except ValueError as error:
            raise ApiError(400, str(error), param=name, code="invalid_value") from None
    return values


def wrong_parameter(service: Service, values: Mapping[str, Any], message: str) -> str | None:
    """The first setting whose value alone cannot be used, or of those of an edit the one that the message names."""
    capabilities = service.engine.pipeline.capabilities
    wrong = [name for name, value in values.items() if SETTINGS[name].error(value, capabilities)]
    named = [name for name in EDITING if name in values and (name in message or name.replace("_", " ") in message)]
    return next(iter(wrong + named), None)


def prompt_notices(service: Service, request: Request) -> list[str]:
    """Notices of words that the model does not know or does not read."""
    release, tokenizer = service.engine.pipeline.release, service.engine.pipeline.tokenizer
    return [*unknown_notes([request.prompt], release.training), *truncation_notices([request], release.text, tokenizer)]


def usage(service: Service, requests: Sequence[Request]) -> dict[str, Any]:
    """Tokens of the prompt that are read, and cells of the latents, of an image to begin with too, one token each."""
    pipeline = service.engine.pipeline
    text = min(pipeline.tokenizer.count(requests[0].prompt), pipeline.release.text["length"])
    cells = [row.size[0] * row.size[1] // pipeline.system.latent.factor**2 for row in requests]
    read, written = cells[0] if requests[0].edit.kind else 0, sum(cells)
    return {
        "input_tokens": text + read,
        "input_tokens_details": {"image_tokens": read, "text_tokens": text},
        "output_tokens": written,
        "output_tokens_details": {"image_tokens": written, "text_tokens": 0},
        "total_tokens": text + read + written,
    }


def image_datum(service: Service, image: QueuedImage, keys: Sequence[str], base_url: str) -> dict[str, Any]:
    """An image of an answer: its file, the prompt that it was made of, its seed, and all that is in its metadata."""
    datum: dict[str, Any] = {"revised_prompt": image.request.prompt, "seed": image.request.seed}
    if "b64_json" in keys:  # first: a file that has a URL is the store's
        datum["b64_json"] = encode_base64(image.content)
    if "url" in keys:
        datum["url"] = service.file_url(image, base_url)
    return datum | {"metadata": image.metadata}


def encode_base64(content: bytes | None) -> str:
    """The file as text."""
    return base64.b64encode(content or b"").decode()


def answer_body(service: Service, plan: Plan, base_url: str) -> dict[str, Any]:
    """The answer of a completed job."""
    requests = [image.request for image in plan.job.images]
    return {
        "id": plan.job.id,
        "created": plan.job.created,
        "data": [image_datum(service, image, plan.keys, base_url) for image in plan.job.images],
        "background": "opaque",
        "output_format": plan.output_format,
        "quality": plan.quality,
        "size": plan.size,
        "usage": usage(service, requests),
        "warnings": plan.warnings,
    }
