"""Scores a model on prompts with labels: pictures are made, read, and compared with what was asked for.

from dalle3_jax.evaluation.detector import Reader
from dalle3_jax.evaluation.suite import score
from dalle3_jax.evaluation.suites import suite
from dalle3_jax.pipeline import Pipeline

print(score(Pipeline.load("demo"), suite(), Reader.load()).markdown())
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import UInt8

from dalle3_jax.data.scenes import WHOLE, World, render
from dalle3_jax.evaluation.checks import Sight, judge
from dalle3_jax.evaluation.detector import Reader
from dalle3_jax.evaluation.ocr import INSTALL, Ocr
from dalle3_jax.evaluation.outcomes import Outcome, Truth
from dalle3_jax.evaluation.prompts import Prompt, check_names
from dalle3_jax.evaluation.report import Report
from dalle3_jax.pipeline import Pipeline, Progress, to_pixels
from dalle3_jax.typing import Array, Float, Params

PROTOCOLS = ("short", "upsampled")
"""What the model is given: the prompt, or the same at length. Both are judged by what the prompt asks for."""

GRID = 16  # pixels: sides of pictures are multiples of it
Picture = UInt8[np.ndarray, "h w 3"]
Bar = Callable[[Sequence[Any], str], Iterable[Any]]
"""Shows how far a loop over rows has come: (rows, what is being done) -> the rows."""


def silent(rows: Sequence[Any], text: str) -> Iterable[Any]:
    """Shows nothing."""
    return rows


def score(
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
    progress: Progress | None = None,
    bar: Bar = silent,
    **settings: Any,
) -> Report:
    """Makes `seeds` pictures for each prompt and protocol and judges them all.

    Picture i of round k has the seed `seed` + k * (number of prompts) + i, whatever the model and the protocol:
    two models, or two protocols, are compared on the same noise. `settings` are those of a request (size, steps,
    sampler, guidance_scale, ...), the release's own where left out; a prompt of another aspect gets a size of the same
    area. `world` draws the faultless pictures of the prompts that have a scene, for the ceilings.
    Raises ValueError for what cannot be used before anything is computed.
    """
    asked = planned(pipeline, prompts, protocols, seeds, seed, settings)
    check(prompts, reader, protocols)
    requests = [request for _, _, _, request in asked]
    made = dict(pipeline.generate(requests, batch_size=batch_size, progress=progress))
    images = [np.asarray(made[i].image) for i in range(len(asked))]
    labels = [prompt.labels for prompt, *_ in asked]
    sights = look(reader, ocr, images, [bool(label.words) for label in labels], bar)
    outcomes = [
        Outcome(prompt, protocol, round_, request.seed, image, sight, judge(sight, prompt.labels))
        for (prompt, protocol, round_, request), image, sight in zip(asked, images, sights, strict=True)
    ]
    truths = true_pictures(pipeline, prompts, reader, ocr, world, settings, bar)
    used = {"checkpoint": pipeline.release.digest, "world": world.name, "prompts": len(prompts), "seeds": seeds}
    used |= {"seed": seed, "protocols": list(protocols)}
    used |= {name: getattr(requests[0], name) for name in ("steps", "sampler", "guidance_scale", "guidance_interval")}
    used |= {"size": size_of(pipeline, (1, 1), settings), "ocr": ocr.name if ocr else ""}
    return Report(used, outcomes, truths, unmeasured(prompts, ocr, truths))


def planned(
    pipeline: Pipeline,
    prompts: Sequence[Prompt],
    protocols: Sequence[str],
    seeds: int,
    seed: int,
    settings: Mapping[str, Any],
) -> list[tuple[Prompt, str, int, Any]]:
    """(prompt, protocol, round, request) of every picture."""
    found = []
    for protocol in protocols:
        for round_ in range(seeds):
            for i, prompt in enumerate(prompts):
                text = prompt.upsampled or prompt.text if protocol == "upsampled" else prompt.text
                own = {**settings, "size": size_of(pipeline, prompt.aspect, settings)}
                request = pipeline.request(text, seed=seed + round_ * len(prompts) + i, **own)
                found.append((prompt, protocol, round_, request))
    return found


def check(prompts: Sequence[Prompt], reader: Reader, protocols: Sequence[str]) -> None:
    """Raises ValueError where there is nothing to measure, or nobody to measure it."""
    if not prompts:
        raise ValueError("there are no prompts: a suite needs at least one")
    if unknown := sorted(set(protocols) - set(PROTOCOLS)):
        raise ValueError(f"unknown protocols {', '.join(unknown)}: use {', '.join(PROTOCOLS)}")
    if "upsampled" in protocols and not any(prompt.upsampled for prompt in prompts):
        raise ValueError('none of the prompts has an "upsampled" text: leave the protocol out, or add them')
    module = reader.module
    names = {"concepts": module.concepts, "tints": module.tints, "styles": module.styles}
    check_names(prompts, names | {"backgrounds": module.backgrounds})


def size_of(pipeline: Pipeline, aspect: tuple[int, int], settings: Mapping[str, Any]) -> tuple[int, int]:
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


def look(
    reader: Reader, ocr: Ocr | None, images: Sequence[Picture], worded: Sequence[bool], bar: Bar = silent
) -> list[Sight]:
    """What is to be seen in pictures of any sizes; words are looked for where they were asked for."""
    readings = dict(by_size(images, reader.read))
    numbers = [i for i, wanted in enumerate(worded) if wanted and ocr]
    words = {i: ocr.read(images[i]) for i in bar(numbers, "reading words")} if ocr else {}
    nothing = () if ocr else None
    return [Sight(readings[i], words.get(i, nothing), image.shape[:2]) for i, image in enumerate(images)]


def by_size(images: Sequence[Picture], work: Callable[[Any], Any]) -> Iterator[tuple[int, Any]]:
    """(number, result) of work that takes many pictures of one size at once."""
    for size in dict.fromkeys(image.shape for image in images):
        rows = [i for i, image in enumerate(images) if image.shape == size]
        yield from zip(rows, work(np.stack([images[i] for i in rows])), strict=True)


def true_pictures(
    pipeline: Pipeline,
    prompts: Sequence[Prompt],
    reader: Reader,
    ocr: Ocr | None,
    world: World,
    settings: Mapping[str, Any],
    bar: Bar = silent,
) -> list[Truth]:
    """The faultless pictures of the prompts that have a scene, and what the VAE makes of them, with what is read."""
    drawn = [prompt for prompt in prompts if prompt.scene]
    sizes = [size_of(pipeline, prompt.aspect, settings) for prompt in drawn]
    images = [render(world, prompt.scene, *size) for prompt, size in zip(drawn, sizes, strict=True) if prompt.scene]
    vae = functools.partial(reconstructions, pipeline.release.modules["vae"], pipeline.release.params["vae"])
    mirrored = dict(by_size(images, vae))
    copies = [mirrored[i] for i in range(len(images))]
    worded = [bool(prompt.labels.words) for prompt in drawn]
    seen = [look(reader, ocr, pictures, worded, bar) for pictures in (images, copies)]
    return [Truth(*row) for row in zip(drawn, images, copies, *seen, strict=True)]


def unmeasured(prompts: Sequence[Prompt], ocr: Ocr | None, truths: Sequence[Truth]) -> list[str]:
    """What the report cannot say, and why."""
    found = []
    if ocr is None and any(prompt.labels.words for prompt in prompts):
        found.append(f"drawn words: {INSTALL}")
    if missing := len(prompts) - len(truths):
        found.append(f"ceilings: {missing} of {len(prompts)} prompts have no scene, so they are of the others only")
    return found


def reconstructions(
    vae: nn.Module, params: Params, images: UInt8[np.ndarray, "b h w 3"], batch_size: int = 8
) -> UInt8[np.ndarray, "b h w 3"]:
    """The pictures after the VAE's encoder and decoder: no model that paints in its latents is read better."""
    padded = np.concatenate([images, np.repeat(images[-1:], -len(images) % batch_size, 0)])
    batches = np.split(padded.astype(np.float32) / 127.5 - 1.0, len(padded) // batch_size)
    return np.concatenate([to_pixels(mirror(params, batch, vae=vae)) for batch in batches])[: len(images)]


@functools.partial(jax.jit, static_argnames="vae")
def mirror(params: Params, images: Float[Array, "b h w c"], *, vae: nn.Module) -> Float[Array, "b h w c"]:
    """Images in [-1, 1], encoded to the mean and decoded."""
    mean, _ = vae.apply({"params": params}, images, method="encode")
    return jnp.asarray(vae.apply({"params": params}, mean, method="decode"))
