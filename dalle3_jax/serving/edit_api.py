"""OpenAI's edits and variations: forms with an image to begin with, and a mask of what of it may change."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from dalle3_jax.pipeline.editing import carried_prompt, carried_seed, instructed_settings
from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.request import Request as PipelineRequest
from dalle3_jax.serving.errors import ApiError
from dalle3_jax.serving.generation import plan_job
from dalle3_jax.serving.limits import client_name
from dalle3_jax.serving.openai_api import answer_plan
from dalle3_jax.serving.queue import Preparation
from dalle3_jax.serving.schemas import MOST_PROMPT, CommonFields, Edits, Variations, parse_body, read_form_values
from dalle3_jax.serving.service import Plan, Service
from dalle3_jax.serving.uploads import open_image, open_input, read_form, transparent_part

__all__ = ["ROUTES", "read_form_call"]

VARIATION_STRENGTH = 0.8
"""The strength of a variation where none is given."""
UNSAID = "nothing says what the image shows: send a prompt that does"


async def edit_images(request: Request) -> Response:
    """POST /v1/images/edits."""
    plan, call = await read_form_call(request, has_prompt=True)
    return await answer_plan(request, plan, "image_edit", stream=bool(call.stream))


async def vary_image(request: Request) -> Response:
    """POST /v1/images/variations: image to image, by the prompt that the file tells, or else by what it shows."""
    plan, call = await read_form_call(request, has_prompt=False)
    return await answer_plan(request, plan, "image_variation", stream=bool(call.stream))


async def read_form_call(request: Request, has_prompt: bool | None = None) -> tuple[Plan, CommonFields]:
    """The job of a form, an edit or a variation: by whether it says what to do, where `has_prompt` is left out."""
    service: Service = request.app.state.service
    fields, files = await read_form(request)
    has_prompt = not {"prompt", "instruction"}.isdisjoint(fields) if has_prompt is None else has_prompt
    call = parse_body(Edits if has_prompt else Variations, read_form_values(fields))
    if has_prompt:
        check_instruction(call)
    service.engine.check_room(client_name(request))  # before anything is decoded
    return await asyncio.to_thread(plan_form, service, call, files, client_name(request)), call


def plan_form(service: Service, call: CommonFields, files: dict[str, list[bytes]], client: str) -> Plan:
    """The job of a form's fields and files; ApiError, before anything is computed, for what cannot be made.

    An image that carries no prompt, where one is needed, is described as the job's preparation.
    """
    images, notes = open_inputs(files)
    needs_none = getattr(call, "prompt", None) or getattr(call, "by", None) == "image"
    describes = service.describer is not None and not needs_none and not carried_prompt(images["image"])
    make_values = edit_values if isinstance(call, Edits) else variation_values
    values, more = (undescribed_values if describes else make_values)(service, call, images)
    plan = plan_job(service, call, client, values, knows_prompt=not describes)
    plan.warnings[:0] = notes + more

    def describe() -> list[PipelineRequest]:
        """The requests of the job's images, by what the image shows."""
        assert service.describer is not None
        description = service.describer(images["image"].pixels)
        values, more = make_values(service, call, images, description)
        seed = {"seed": plan.job.images[0].request.seed}
        described = plan_job(service, call, client, values | seed)
        plan.warnings[:] = [*notes, *more, *described.warnings]
        return [image.request for image in described.job.images]

    if describes:
        plan.job.preparation = Preparation(plan.job, describe)
    return plan


def check_instruction(call: CommonFields) -> None:
    """ApiError unless an edit has either a prompt or an instruction."""
    prompt, instruction = getattr(call, "prompt", None), getattr(call, "instruction", None)
    if (prompt is None) == (instruction is None):
        message = "send a prompt for the whole of the edited image, or an instruction, as 'make it night'"
        raise ApiError(400, message, param="prompt", code="missing_parameter" if prompt is None else "invalid_value")


def edit_values(
    service: Service, call: CommonFields, images: dict[str, InputImage], description: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The values of an edit; with an instruction the prompt is what becomes of the image's own, or its description."""
    if (instruction := getattr(call, "instruction", None)) is None:
        return {**images}, []
    pipeline, image = service.engine.pipeline, images["image"]
    describe = None if description is None else lambda pixels: description
    own = {name: getattr(call, name) for name in ("seed", "outpaint", "source_prompt")}
    reads = pipeline.release.training, pipeline.can_read
    try:
        values = instructed_settings(instruction, image, {**images, **own}, *reads, describe)
    except ValueError as error:
        raise ApiError(400, f"instruction: {error}", param="instruction", code="invalid_value") from None
    return values | {"upsample": "none"}, []


def variation_values(
    service: Service, call: CommonFields, images: dict[str, InputImage], description: str | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The values of a variation, and warnings: by the image's prompt or description, at 1 by that alone.

    By the image itself it begins with noise, unless there is a strength.
    """
    prompt, strength = getattr(call, "prompt", None), getattr(call, "strength", None)
    prompts = {name: image for name, image in images.items() if name == "image_prompt"}
    if by_image := getattr(call, "by", None) == "image":
        if not service.engine.pipeline.capabilities.takes_image_prompts:
            raise ApiError(400, "by: this model has no part that reads images, use description", param="by")
        prompts = {"image_prompt": images["image"]}
    strength = (1 if by_image else VARIATION_STRENGTH) if strength is None else strength
    values: dict[str, Any] = {"strength": None} if strength == 1 else {**images, "strength": strength}
    values |= prompts
    twice = by_image and "image_prompt" in images
    ignored = ["image_prompt was ignored: by=image takes the image"] if twice else []
    if prompt:
        return values, ignored
    contents = "" if by_image else carried_prompt(images["image"]) or (description or "").strip()
    notes = ignored if contents or by_image else [UNSAID]
    return values | {"prompt": contents[:MOST_PROMPT], "upsample": "none"}, notes


def undescribed_values(
    service: Service, call: CommonFields, images: dict[str, InputImage]
) -> tuple[dict[str, Any], list[str]]:
    """The values of a call whose image is still to be described: all but the words that say what it shows."""
    if (instruction := getattr(call, "instruction", None)) is None:
        return variation_values(service, call, images)[0], []
    seed, source, outpaint = (getattr(call, name) for name in ("seed", "source_prompt", "outpaint"))
    values = {**images, "prompt": instruction, "original_prompt": instruction, "upsample": "none"}
    values["seed"] = carried_seed(images["image"]) if seed is None else seed
    if not ("mask" in images or outpaint or source):
        values["source_prompt"] = instruction  # whose place the description takes
    return values, []


def open_inputs(files: dict[str, list[bytes]]) -> tuple[dict[str, InputImage], list[str]]:
    """The image, the mask and the image prompt of a form, and warnings; ApiError that names what cannot be used.

    Without a mask, what can be seen through in the image is what may change.
    """
    if "image" not in files:
        raise ApiError(400, "image: send the image that is to be edited", param="image", code="missing_parameter")
    contents = files["image"]
    notes = [f"one image is edited: the first of these {len(contents)}"] if len(contents) > 1 else []
    image = open_image(contents[0], "image")
    mask: Any = open_image(files["mask"][0], "mask") if "mask" in files else transparent_part(image)
    opened = {"image": open_input(image, "image")} | ({} if mask is None else {"mask": open_input(mask, "mask")})
    if "image_prompt" in files:
        if (count := len(files["image_prompt"])) > 1:
            notes.append(f"one image prompt is read: the first of these {count}")
        opened["image_prompt"] = open_input(open_image(files["image_prompt"][0], "image_prompt"), "image_prompt")
    return opened, notes


ROUTES = [
    Route("/v1/images/edits", edit_images, methods=["POST"]),
    Route("/v1/images/variations", vary_image, methods=["POST"]),
]
