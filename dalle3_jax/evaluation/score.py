"""Scores a model on prompts with labels: pictures are made, read, and compared with what was asked for.

from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.evaluation.score import score_model
from dalle3_jax.evaluation.suites import load_suite
from dalle3_jax.pipeline import Pipeline

print(score_model(Pipeline.load("demo"), load_suite(), Reader.load()).markdown())
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import UInt8

from dalle3_jax.data.scenes import WHOLE, World, render_scene
from dalle3_jax.evaluation.checks import ImageReading, applicable_checks, run_checks
from dalle3_jax.evaluation.outcomes import Outcome, Truth
from dalle3_jax.evaluation.prompts import Prompt, shorten_errors, unknown_names
from dalle3_jax.evaluation.questions import QuestionPrompt
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.row_bars import Bar, hide_progress
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.batching import Progress
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.pipeline.request import SETTINGS, setting_values
from dalle3_jax.reading.ocr import INSTALL, Ocr, find_ocr
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.typing import Array, Float, Params

PROTOCOLS = ("short", "upsampled")
"""What the model is given: the prompt, or the same at length. Both are judged by what the prompt asks for."""

GRID = 16  # pixels: sides of pictures are multiples of it
ImageArray = UInt8[np.ndarray, "h w 3"]
AnyPrompt = TypeVar("AnyPrompt", Prompt, QuestionPrompt)


def score_model(
    pipeline: Pipeline,
    prompts: Sequence[Prompt],
    reader: Reader,
    ocr: Ocr | None = None,
    *,
    world: World = WHOLE,
    protocols: Sequence[str] = ("short",),
    seeds: int = 1,
    seed: int = 0,
    batch_size: int | None = None,
    ceilings: bool = True,
    left_out: Sequence[str] = (),
    no_ocr: str = INSTALL,
    progress: Progress | None = None,
    bar: Bar = hide_progress,
    **settings: Any,
) -> Report:
    """Makes `seeds` pictures for each prompt and protocol and judges them all.

    Picture i of round k has the seed `seed` + k * (number of prompts) + i, whatever the model and the protocol:
    two models, or two protocols, are compared on the same noise. `settings` are those of a request (size, steps,
    sampler, guidance_scale, ...), the release's own where left out; a prompt of another aspect gets a size of the same
    area. `world` draws the faultless pictures of the prompts that have a scene, for the ceilings; without `ceilings`
    none. What cannot be measured is left out and named in the report, after `left_out`, what the caller left out;
    `no_ocr` says why there is no OCR. Raises ValueError where nothing can be measured, before anything is computed.
    """
    prompts, errors = usable_prompts(prompts, reader, ocr, protocols)
    asked = plan_requests(pipeline, prompts, protocols, seeds, seed, settings)
    rendered, undrawn = render_scenes(pipeline, prompts, world, settings) if ceilings else ([], [])
    requests = [request for _, _, _, request in asked]
    made = dict(pipeline.generate(requests, batch_size=batch_size, progress=progress))
    images = [np.asarray(made[i].image) for i in range(len(asked))]
    labels = [prompt.labels for prompt, *_ in asked]
    sights = read_images(reader, ocr, images, [bool(label.words) for label in labels], bar)
    outcomes = [
        Outcome(prompt, protocol, round_, request.seed, image, sight, run_checks(sight, prompt.labels))
        for (prompt, protocol, round_, request), image, sight in zip(asked, images, sights, strict=True)
    ]
    truths = read_truths(pipeline, rendered, reader, ocr, bar)
    used = {"checkpoint": pipeline.release.digest, "world": world.name, "prompts": len(prompts), "seeds": seeds}
    used |= {"seed": seed, "protocols": list(protocols)}
    used |= {name: value for name, value in setting_values(requests[0]).items() if SETTINGS[name].part}
    used |= {"size": size_for_aspect(pipeline, (1, 1), settings), "ocr": ocr.name if ocr else ""}
    lacking = [*left_out, *errors, *missing_ocr_notes(prompts, ocr, no_ocr), *undrawn]
    if without := len(prompts) - len(truths):
        lacking.append(f"ceilings: {without} of {len(prompts)} prompts have no true picture, they are of the others")
    return Report(used, outcomes, truths, lacking)


def ocr_for(prompts: Sequence[Prompt]) -> Ocr | None:
    """The OCR of this installation, where any prompt asks for words; loading it takes seconds."""
    return find_ocr() if any(prompt.labels.words for prompt in prompts) else None


def plan_requests(
    pipeline: Pipeline,
    prompts: Sequence[AnyPrompt],
    protocols: Sequence[str],
    seeds: int,
    seed: int,
    settings: Mapping[str, Any],
) -> list[tuple[AnyPrompt, str, int, Any]]:
    """(prompt, protocol, round, request) of every picture; only a `Prompt` has a text for the protocol "upsampled"."""
    plan = []
    for protocol in protocols:
        for round_ in range(seeds):
            for i, prompt in enumerate(prompts):
                at_length = protocol == "upsampled" and isinstance(prompt, Prompt) and prompt.upsampled
                own = {**settings, "size": size_for_aspect(pipeline, prompt.aspect, settings)}
                request = pipeline.request(at_length or prompt.text, seed=seed + round_ * len(prompts) + i, **own)
                plan.append((prompt, protocol, round_, request))
    return plan


def usable_prompts(
    prompts: Sequence[Prompt], reader: Reader, ocr: Ocr | None, protocols: Sequence[str]
) -> tuple[list[Prompt], list[str]]:
    """The prompts that can be measured, and why the others cannot; ValueError where none is left."""
    module = reader.module
    known = {"concept": module.concepts, "tint": module.tints, "style": module.styles, "background": module.backgrounds}
    kept, errors = [], []
    for prompt in prompts:
        if foreign := unknown_names(prompt.labels, known):
            errors.append(f"prompt {prompt.id!r}: the reader of pictures does not know the {foreign}")
        elif not applicable_checks(prompt.labels, ocr=ocr is not None):
            nothing = "only for drawn words, and there is no OCR" if prompt.labels.words else "for nothing"
            errors.append(f"prompt {prompt.id!r}: it asks {nothing}")
        else:
            kept.append(prompt)
    if not kept:
        raise ValueError(f"no prompt can be measured: {shorten_errors(errors) or 'a suite needs at least one'}")
    if unknown := sorted(set(protocols) - set(PROTOCOLS)):
        raise ValueError(f"unknown protocols {', '.join(unknown)}: use {', '.join(PROTOCOLS)}")
    if "upsampled" in protocols and not any(prompt.upsampled for prompt in kept):
        raise ValueError('none of the prompts has an "upsampled" text: leave the protocol out, or add them')
    return kept, errors


def size_for_aspect(pipeline: Pipeline, aspect: tuple[int, int], settings: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of pictures of an aspect (width, height): the model's own for the square one.

    For others the release's size of that aspect, or one of about the same area as its first.
    """
    height, width = settings.get("size") or pipeline.defaults["size"]
    across, down = aspect
    if across == down:
        return height, width
    known = [size for size in pipeline.release.sizes if abs(size[1] * down / (size[0] * across) - 1.0) < 0.06]
    if known and not settings.get("size"):
        return known[0]
    side = math.sqrt(height * width)
    fitted = [max(GRID, round(side * math.sqrt(ratio) / GRID) * GRID) for ratio in (down / across, across / down)]
    return fitted[0], fitted[1]


def read_images(
    reader: Reader, ocr: Ocr | None, images: Sequence[ImageArray], worded: Sequence[bool], bar: Bar = hide_progress
) -> list[ImageReading]:
    """Readings of pictures of any sizes; words are looked for where they were asked for."""
    readings = dict(map_by_size(images, reader.read))
    numbers = [i for i, wanted in enumerate(worded) if wanted and ocr]
    words = {i: ocr.read(images[i]) for i in bar(numbers, "reading words")} if ocr else {}
    nothing = () if ocr else None
    return [ImageReading(readings[i], words.get(i, nothing), image.shape[:2]) for i, image in enumerate(images)]


def map_by_size(images: Sequence[ImageArray], work: Callable[[Any], Any]) -> Iterator[tuple[int, Any]]:
    """(number, result) of work that takes many pictures of one size at once."""
    for size in dict.fromkeys(image.shape for image in images):
        rows = [i for i, image in enumerate(images) if image.shape == size]
        yield from zip(rows, work(np.stack([images[i] for i in rows])), strict=True)


def render_scenes(
    pipeline: Pipeline, prompts: Sequence[Prompt], world: World, settings: Mapping[str, Any]
) -> tuple[list[tuple[Prompt, ImageArray]], list[str]]:
    """The faultless pictures of the prompts that have a scene, and which scenes the world cannot draw."""
    rendered, errors = [], []
    for prompt in prompts:
        if prompt.scene:
            try:
                rendered.append(
                    (prompt, render_scene(world, prompt.scene, *size_for_aspect(pipeline, prompt.aspect, settings)))
                )
            except Exception as error:  # a file's scene may hold anything
                why = f"{type(error).__name__}: {error}"
                errors.append(f"ceiling of prompt {prompt.id!r}: its scene cannot be drawn: {why}")
    return rendered, errors


def read_truths(
    pipeline: Pipeline,
    rendered: Sequence[tuple[Prompt, ImageArray]],
    reader: Reader,
    ocr: Ocr | None,
    bar: Bar = hide_progress,
) -> list[Truth]:
    """Faultless pictures and what the VAE makes of them, with what is read in both."""
    prompts, images = [prompt for prompt, _ in rendered], [image for _, image in rendered]
    vae = functools.partial(reconstruct_images, pipeline.release.modules["vae"], pipeline.release.params["vae"])
    mirrored = dict(map_by_size(images, vae))
    copies = [mirrored[i] for i in range(len(images))]
    worded = [bool(prompt.labels.words) for prompt in prompts]
    seen = [read_images(reader, ocr, pictures, worded, bar) for pictures in (images, copies)]
    return [Truth(*row) for row in zip(prompts, images, copies, *seen, strict=True)]


def missing_ocr_notes(prompts: Sequence[Prompt], ocr: Ocr | None, why: str) -> list[str]:
    """Without an OCR: how many prompts are measured in part at most."""
    asking = sum(bool(prompt.labels.words) for prompt in prompts)
    if ocr or not asking:
        return []
    share = f"{asking} of {len(prompts)} prompts ask for them and are in no line of wholly right pictures"
    return [f"drawn words: {why}; {share}"]


def reconstruct_images(
    vae: nn.Module, params: Params, images: UInt8[np.ndarray, "b h w 3"], batch_size: int = 8
) -> UInt8[np.ndarray, "b h w 3"]:
    """The pictures after the VAE's encoder and decoder: no model that paints in its latents is read better."""
    padded = np.concatenate([images, np.repeat(images[-1:], -len(images) % batch_size, 0)])
    batches = np.split(padded.astype(np.float32) / 127.5 - 1.0, len(padded) // batch_size)
    return np.concatenate([to_pixels(reconstruct_batch(params, batch, vae=vae)) for batch in batches])[: len(images)]


@functools.partial(jax.jit, static_argnames="vae")
def reconstruct_batch(params: Params, images: Float[Array, "b h w c"], *, vae: nn.Module) -> Float[Array, "b h w c"]:
    """Images in [-1, 1], encoded to the mean and decoded."""
    mean, _ = vae.apply({"params": params}, images, method="encode")
    return jnp.asarray(vae.apply({"params": params}, mean, method="decode"))
