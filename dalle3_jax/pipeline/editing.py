"""Edits in words and variations: the prompt behind an image, and what becomes of it."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.pipeline.input_images import InputImage
from dalle3_jax.pipeline.request import shorten
from dalle3_jax.prompting.scene_lexicon import training_lexicon
from dalle3_jax.prompting.upsampler import Backend, Turn, template_backend, upsample

__all__ = [
    "Describe",
    "carried_prompt",
    "carried_seed",
    "describe_image",
    "follow_instruction",
    "instructed_settings",
]

Describe = Callable[[UInt8[np.ndarray, "h w 3"]], str]
"""The pixels of an image -> what it shows: a captioner, as `lambda pixels: captioner.captions([pixels])[0]`."""


def describe_image(image: InputImage, describe: Describe | None = None) -> str:
    """The prompt that an image carries, or else its description; ValueError where there is neither."""
    if carried := carried_prompt(image):
        return carried
    if describe is None:
        raise ValueError(
            f"nothing says what the image {image!r} shows, which carries no prompt: give one, or what describes it"
        )
    described = describe(image.pixels).strip()
    if not described:
        raise ValueError(f"nothing was seen in the image {image!r} that could be described: give a prompt for it")
    return described


def carried_prompt(image: InputImage) -> str:
    """The prompt that an image was made with; "" where it does not say."""
    carried = image.metadata.get("prompt")
    return carried if isinstance(carried, str) and carried.strip() else ""


def carried_seed(image: InputImage) -> int:
    """The seed that an image was made with; 0 where it does not say."""
    seed = image.metadata.get("seed")
    return seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**32 else 0


def follow_instruction(
    instruction: str,
    described: str,
    training: Mapping[str, Any],
    fits: Callable[[str], bool],
    backend: Backend | None = None,
) -> str:
    """The prompt of an image that was `described` so, after an instruction such as "make it night".

    Written by a language model where one is the `backend`, else by templates, which know the words that a model of
    scenes was trained on, as `training` says of it. Raises ValueError for an instruction that is not understood.
    """
    lexicon = training_lexicon(training)
    writes = backend or template_backend(lexicon)
    edited = upsample(instruction, writes, lexicon=lexicon, previous=[Turn(described, described)], fits=fits)
    if edited.notice or edited.revised == described:
        why = edited.notice or "it changes nothing"
        raise ValueError(f"{shorten(instruction)!r} cannot be done to {shorten(described)!r}: {why}")
    return edited.revised


def instructed_settings(
    instruction: str,
    image: InputImage,
    given: Mapping[str, Any],
    training: Mapping[str, Any],
    fits: Callable[[str], bool],
    describe: Describe | None = None,
    backend: Backend | None = None,
) -> dict[str, Any]:
    """The settings of an image edited by an instruction, with those that are `given` (and not None).

    The prompt is what becomes of the one that the image carries, or else of its description, by which the whole of it
    is then inverted; the seed is the image's own. Raises ValueError as `describe_image` and `follow_instruction` do.
    """
    described = describe_image(image, describe)
    prompt = follow_instruction(instruction, described, training, fits, backend)
    settings = {"prompt": prompt, "original_prompt": instruction, "seed": carried_seed(image)}
    if not (carried_prompt(image) or given.get("mask") is not None or given.get("outpaint")):
        settings["source_prompt"] = described
    return settings | {name: value for name, value in given.items() if value is not None}
