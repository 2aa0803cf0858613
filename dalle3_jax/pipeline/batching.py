"""Requests in batches: which of them one program makes together, and the images of a batch."""

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from dalle3_jax.pipeline.edit_settings import begin_step
from dalle3_jax.pipeline.edits import edit_rows, paste_edit
from dalle3_jax.pipeline.image_prompts import ImageRows, image_conditions, read_image_rows
from dalle3_jax.pipeline.mesh_rows import gather_rows, shard_rows
from dalle3_jax.pipeline.png import GeneratedImage, to_pixels
from dalle3_jax.pipeline.prompt_cache import PromptKey, SeededPrompt
from dalle3_jax.pipeline.request import Request
from dalle3_jax.pipeline.sampling_loop import EditInputs, StepProgress
from dalle3_jax.typing import Array, Float

if TYPE_CHECKING:
    from dalle3_jax.pipeline.pipeline import Pipeline

__all__ = [
    "MAX_BATCH",
    "Progress",
    "default_batch_size",
    "encode_edits",
    "generate_images",
    "group_requests",
    "program_key",
    "run_batch",
    "upscale_images",
]

MAX_BATCH = 8

Progress = Callable[[int, int, Float[Array, "b h w c"]], None]
"""(steps done, steps in all, the present estimate of the clean latents: `Pipeline.codec` makes a preview of it)."""


def program_key(request: Request) -> Hashable:
    """Equal for requests that one call of a program makes.

    They are of one size, sampling, decoding and upscaling, all guided alike or none, and of images edited in one way,
    whose loops begin at one step; all have an image prompt, or none.
    """
    edit = request.edit.kind, begin_step(request.edit, request.sampling.steps)
    guided = request.guidance.scale == 1, request.guidance.is_projected
    prompted = request.edit.prompt_image is not None
    return request.size, request.sampling, *guided, request.decoding, request.upscaling, edit, prompted


def group_requests(requests: Sequence[Request], size: int) -> list[list[int]]:
    """Indices of the requests of each batch: at most `size` of one program, in their order."""
    groups: dict[Hashable, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(program_key(request), []).append(index)
    return [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]


def default_batch_size(requests: Sequence[Request], devices: int = 1) -> int:
    """A power of two, up to MAX_BATCH, that the largest group needs; a multiple of the devices."""
    largest = max(map(len, group_requests(requests, max(len(requests), 1))), default=1)
    size = min(1 << (largest - 1).bit_length(), MAX_BATCH)
    return -(-size // devices) * devices


def run_batch(
    pipeline: "Pipeline", requests: Sequence[Request], size: int, progress: StepProgress | None = None
) -> list[GeneratedImage]:
    """The images of at most `size` checked requests of one program key.

    A short batch repeats its last request: every batch of a size runs the same program.
    """
    rows = [*requests, *[requests[-1]] * (size - len(requests))]
    image = encode_image_prompts(pipeline, rows) if rows[0].edit.prompt_image is not None else None
    if image is not None and not pipeline.system.reads_text:
        condition, null = image_conditions(image)
    else:
        condition = pipeline.prompts.get([prompt_key(pipeline, row) for row in rows])
        null = pipeline.prompts.get_null([row.negative_prompt for row in rows])
    edit = encode_edits(pipeline, rows) if rows[0].edit.kind else None
    latents = pipeline.sample_latents(condition, null, rows, progress=progress, edit=edit, image=image)
    images = pipeline.codec.decode(latents, rows[0].decoding, [row.seed for row in rows])
    if rows[0].upscaling.factor:
        images = upscale_images(pipeline, images, rows)
    pixels = to_pixels(gather_rows(images, pipeline.mesh))
    if rows[0].edit.kind == "mask":
        pixels = [paste_edit(row.edit, image) for row, image in zip(requests, pixels, strict=False)]
    return [
        GeneratedImage(Image.fromarray(image), request, pipeline.release.digest, size)
        for image, request in zip(pixels, requests, strict=False)
    ]


def prompt_key(pipeline: "Pipeline", request: Request) -> PromptKey:
    """A request's prompt as the cache knows it: with the seed, where each image has a layout of its own."""
    return SeededPrompt(request.prompt, request.seed) if pipeline.samples_layouts else request.prompt


def encode_image_prompts(pipeline: "Pipeline", requests: Sequence[Request]) -> ImageRows:
    """The features of the image prompts of requests that all have one."""
    system, (part, *_) = pipeline.system, pipeline.system.image_parts
    return read_image_rows(pipeline.params[part], [request.edit for request in requests], system)


def encode_edits(pipeline: "Pipeline", requests: Sequence[Request]) -> EditInputs:
    """The inputs with which the sampling loop begins: the images of requests of one size that edit in one way."""
    first, codec = requests[0], pipeline.codec
    images, mask, cells = edit_rows([request.edit for request in requests], first.size, pipeline.capabilities.factor)
    latents = codec.encode(images, first.decoding.tile)
    if first.edit.kind == "inverted":
        return EditInputs(latents, source=pipeline.prompts.get([request.edit.source_prompt for request in requests]))
    if first.edit.kind == "image":
        return EditInputs(latents)
    beside = codec.encode(images * (1 - mask), first.decoding.tile) if pipeline.system.needs_mask else None
    return EditInputs(latents, shard_rows(cells, pipeline.mesh), beside)


def upscale_images(
    pipeline: "Pipeline", images: Float[Array, "b h w 3"], requests: Sequence[Request]
) -> Float[Array, "b H W 3"]:
    """The decoded images of requests, enlarged as they say, all in one way; ValueError without an upscaler."""
    how, upscaler = requests[0].upscaling, pipeline.upscaler
    if upscaler is None:
        raise ValueError("this release has no upscaler")
    prompts, negatives = [row.prompt for row in requests], [row.negative_prompt for row in requests]
    seeds = [row.seed for row in requests]
    if not pipeline.upscaler_shares_text:
        return upscaler(images, how, prompts=prompts, seeds=seeds, negative_prompts=negatives)
    null = pipeline.prompts.get_null(negatives) if upscaler.guidance_scale(how) != 1 else None
    return upscaler.enlarge(images, how, pipeline.prompts.get(prompts), null, seeds)


def generate_images(
    pipeline: "Pipeline", requests: Sequence[Request], size: int | None = None, progress: Progress | None = None
) -> Iterator[tuple[int, GeneratedImage]]:
    """(Index of the request, image) of checked requests, as batches are done; ValueError at once for a bad size."""
    devices = pipeline.mesh.size if pipeline.mesh else 1
    size = default_batch_size(requests, devices) if size is None else size
    if size < 1:
        raise ValueError(f"a batch size of {size}; it must be at least 1")
    return _run_batches(pipeline, requests, size, progress)


def _run_batches(
    pipeline: "Pipeline", requests: Sequence[Request], size: int, progress: Progress | None
) -> Iterator[tuple[int, GeneratedImage]]:
    batches = group_requests(requests, size)
    done, total = 0, sum(_count_steps(requests[batch[0]]) for batch in batches)
    for batch in batches:
        step = progress and functools.partial(_report_overall_progress, progress, done, total)
        yield from zip(batch, run_batch(pipeline, [requests[index] for index in batch], size, step), strict=True)
        done += _count_steps(requests[batch[0]])


def _count_steps(request: Request) -> int:
    """The steps that are taken: of a loop that begins with an image, the last ones."""
    return request.sampling.steps - begin_step(request.edit, request.sampling.steps)


def _report_overall_progress(progress: Progress, done: int, total: int, steps: int, x0: Array) -> None:
    progress(done + steps, total, x0)
