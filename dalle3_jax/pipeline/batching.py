"""Requests in batches: which of them one program makes together, and the images of a batch."""

import functools
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from PIL import Image

from dalle3_jax.pipeline.edit_settings import begin_step
from dalle3_jax.pipeline.edits import paste_edit
from dalle3_jax.pipeline.mesh_rows import gather_rows
from dalle3_jax.pipeline.png import GeneratedImage, to_pixels
from dalle3_jax.pipeline.request import Request
from dalle3_jax.pipeline.sampling_loop import StepProgress
from dalle3_jax.typing import Array, Float

if TYPE_CHECKING:
    from dalle3_jax.pipeline.pipeline import Pipeline

__all__ = [
    "MAX_BATCH",
    "Progress",
    "default_batch_size",
    "generate_images",
    "group_requests",
    "program_key",
    "run_batch",
]

MAX_BATCH = 8

Progress = Callable[[int, int, Float[Array, "b h w c"]], None]
"""(steps done, steps in all, the present estimate of the clean latents: `Pipeline.decode` makes a preview of it)."""


def program_key(request: Request) -> Hashable:
    """Equal for requests that one call of a program makes.

    They are of one size, sampling, decoding and upscaling, all guided alike or none, and of images edited in one way,
    whose loops begin at one step.
    """
    edit = request.edit.kind, begin_step(request.edit, request.sampling.steps)
    guided = request.guidance.scale == 1, request.guidance.is_projected
    return request.size, request.sampling, *guided, request.decoding, request.upscaling, edit


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
    condition = pipeline.prompts.get([row.prompt for row in rows], pipeline.encode)
    null = pipeline.prompts.get_null([row.negative_prompt for row in rows], pipeline.encode)
    began = {"edit": pipeline.encode_edits(rows)} if rows[0].edit.kind else {}
    latents = pipeline.sample_latents(condition, null, rows, progress=progress, **began)
    images = pipeline.decode(latents, rows[0].decoding, [row.seed for row in rows])
    if rows[0].upscaling.factor:
        images = pipeline.upscale(images, rows)
    pixels = to_pixels(gather_rows(images, pipeline.mesh))
    if rows[0].edit.kind == "mask":
        pixels = [paste_edit(row.edit, image) for row, image in zip(requests, pixels, strict=False)]
    return [
        GeneratedImage(Image.fromarray(image), request, pipeline.release.digest, size)
        for image, request in zip(pixels, requests, strict=False)
    ]


def generate_images(
    pipeline: "Pipeline", requests: Sequence[Request], size: int, progress: Progress | None = None
) -> Iterator[tuple[int, GeneratedImage]]:
    """Yields (index of the request, image) of checked requests, as batches are done."""
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
