"""An image made again from what its file says of itself, and how it differs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dalle3_jax.pipeline.batching import generate_images
from dalle3_jax.pipeline.edit_settings import supply_inputs
from dalle3_jax.pipeline.image_formats import open_generated
from dalle3_jax.pipeline.png import read_metadata
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.request import Request, request_from_metadata

if TYPE_CHECKING:
    from dalle3_jax.pipeline.album import Album
    from dalle3_jax.pipeline.pipeline import Pipeline

__all__ = ["Repetition", "check_release", "describe_difference", "read_repetition", "repeat_image"]

MAX_BATCH = 4096


class Repetition(NamedTuple):
    """An image's file, its request, the size of its batch, and the digest of the release that made it."""

    path: str
    request: Request
    batch_size: int
    digest: str


def read_repetition(path: str, inputs: Mapping[str, Any]) -> Repetition:
    """The repetition that an image's file describes; ValueError where it does not, or is damaged.

    `inputs` are the images that it was made of, which it names by their digests alone.
    """
    made = read_metadata(path)
    request, size, digest = request_from_metadata(made), made.get("batch_size"), str(made.get("checkpoint"))
    request = replace(request, edit=supply_inputs(request.edit, inputs))
    if not isinstance(size, int) or not 1 <= size <= MAX_BATCH:
        raise ValueError(f"the settings in {path} are damaged: a batch size of {size!r}")
    return Repetition(path, request, size, digest)


def check_release(repetition: Repetition, pipeline: "Pipeline", checkpoint: str) -> None:
    """ValueError for a request that cannot be made, or a release that is not the one that made the image."""
    pipeline.check_requests([repetition.request])
    if repetition.digest != pipeline.release.digest:
        raise ValueError(
            f"{repetition.path} was made with the release {repetition.digest[:10]}, and {checkpoint} is "
            f"{pipeline.release.digest[:10]}: give its own --checkpoint"
        )


def repeat_image(
    album: "Album", pipeline: "Pipeline", repetition: Repetition, drop_text_encoder: bool = False
) -> tuple[Path, str]:
    """Makes the image in a batch of the same size and saves it as NAME.repeat.png; its path, and the difference."""
    _, request, batch_size, _ = repetition
    with progress_bar() as (_, progress):
        if drop_text_encoder:
            pipeline.drop_text_encoder(request.texts, batch_size)
        [(_, image)] = generate_images(pipeline, [request], batch_size, progress)
    path = album.path(request, image.checkpoint).with_suffix(".repeat.png")  # whose pixels are exact
    image.save(path)
    with open_generated(repetition.path) as before:
        pixels = np.asarray(before.convert("RGB"), np.int16)
    return path, describe_difference(pixels, np.asarray(image.image, np.int16))


def describe_difference(before: np.ndarray, after: np.ndarray) -> str:
    """The difference of a repeated image's pixels, for people."""
    if before.shape != after.shape:
        return "the picture was resized since it was made"
    difference = np.abs(before - after)
    if not difference.any():
        return "the same in every pixel"
    return f"differs by at most {difference.max()}/255, in {(difference > 0).mean():.2%} of the values"
