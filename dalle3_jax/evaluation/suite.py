"""Scores a model on prompts whose scenes it never saw: pictures are made, read, and compared with what was asked for.

from dalle3_jax.evaluation.suite import score
from dalle3_jax.pipeline import Pipeline

print(score(Pipeline.load("demo"), count=30).markdown())
"""

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import UInt8

from dalle3_jax.data.scenes.captions import captions
from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import Scene, scene
from dalle3_jax.data.scenes.world import FIRST, World
from dalle3_jax.evaluation.judge import METRICS
from dalle3_jax.evaluation.reader import Reading, read, truth
from dalle3_jax.evaluation.report import Outcome, Report, Row
from dalle3_jax.evaluation.statistics import bootstrap, shuffled
from dalle3_jax.pipeline import Pipeline, Progress, to_pixels
from dalle3_jax.typing import Array, Float, Params

CAPTION = "descriptive"  # the only version that says where everything is
Pictures = UInt8[np.ndarray, "b h w 3"]


@dataclass(frozen=True)
class Prompt:
    """A caption and the scene that it describes."""

    text: str
    scene: Scene


def prompts(world: World, count: int, *, seed: int = 0, split: str = "held_out") -> list[Prompt]:
    """`count` scenes with their captions, as many of each kind of scene; a fixed list for a seed."""
    kinds = [kind.name for kind in world.kinds]
    if count < 2 * len(kinds):
        raise ValueError(f"a count of {count}: at least {2 * len(kinds)} prompts are needed, two of each kind of scene")
    left = {kind: count // len(kinds) + (place < count % len(kinds)) for place, kind in enumerate(kinds)}
    found: list[Prompt] = []
    indices = itertools.count()
    while len(found) < count:
        index = next(indices)
        shown = scene(world, seed, index, split)
        if left[shown.kind]:
            left[shown.kind] -= 1
            found.append(Prompt(captions(world, shown, seed, index)[CAPTION], shown))
    return found


def score(
    pipeline: Pipeline,
    *,
    world: World = FIRST,
    count: int = 300,
    seed: int = 0,
    split: str = "held_out",
    batch_size: int | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Report:
    """Makes a picture for each of `count` prompts, picture i with seed + i, and judges them all.

    `settings` are those of a request (size, steps, sampler, guidance_scale, ...); the release's own where left out.
    Raises ValueError for settings that cannot be used, before anything is computed.
    """
    asked = prompts(world, count, seed=seed, split=split)
    requests = [pipeline.request(prompt.text, seed=seed + i, **settings) for i, prompt in enumerate(asked)]
    made = dict(pipeline.generate(requests, batch_size=batch_size, progress=progress))
    images = np.stack([np.asarray(made[i].image) for i in range(count)])
    scenes = true_pictures(world, asked, *images.shape[1:3])
    mirrored = reconstructions(pipeline.release.modules["vae"], pipeline.release.params["vae"], scenes)
    ceilings = {"true scenes": read(world, scenes), "VAE reconstructions": read(world, mirrored)}
    readings = read(world, images)
    used = {"world": world.name, "split": split, "count": count, "seed": seed, "checkpoint": pipeline.release.digest}
    for name in ("size", "steps", "sampler", "guidance_scale", "guidance_interval", "guidance_rescale"):
        used[name] = getattr(requests[0], name)
    return Report(
        settings=used,
        rows={name: row(name, asked, readings, ceilings) for name in METRICS},
        psnr=decibels(mirrored, scenes),
        outcomes=[
            Outcome(prompt.text, prompt.scene.kind, truth(prompt.scene), reading, image, decibels(image, true))
            for prompt, reading, image, true in zip(asked, readings, images, scenes, strict=True)
        ],
    )


def row(
    metric: str, asked: Sequence[Prompt], readings: Sequence[Reading], ceilings: Mapping[str, Sequence[Reading]]
) -> Row:
    """One measure on the prompts it is for: the model, shuffled prompts, chance, and what the reader gets at most.

    Pictures are shuffled among prompts of one kind. Chance is the same for a model that draws faultless pictures of
    other prompts: how often two prompts ask for the same.
    """
    kind, right = METRICS[metric]
    chosen = [i for i, prompt in enumerate(asked) if kind in (None, prompt.scene.kind)]
    truths = [truth(asked[i].scene) for i in chosen]

    def share(answers: Sequence[Reading]) -> float:
        return float(np.mean([right(answers[i], wanted) for i, wanted in zip(chosen, truths, strict=True)]))

    answers = [readings[i] for i in chosen]
    return Row(
        model=bootstrap(np.array([right(answer, wanted) for answer, wanted in zip(answers, truths, strict=True)])),
        shuffled=shuffled(right, answers, truths),
        chance=shuffled(right, truths, truths).value,
        ceilings={name: share(answers) for name, answers in ceilings.items()},
    )


def true_pictures(world: World, asked: Sequence[Prompt], height: int, width: int) -> Pictures:
    """The faultless picture of each prompt."""
    return np.stack([render(world, prompt.scene, height, width) for prompt in asked])


def reconstructions(vae: nn.Module, params: Params, images: Pictures, batch_size: int = 8) -> Pictures:
    """The pictures after the VAE's encoder and decoder: no model that paints in its latents is read better."""
    padded = np.concatenate([images, np.repeat(images[-1:], -len(images) % batch_size, 0)])
    batches = np.split(padded.astype(np.float32) / 127.5 - 1.0, len(padded) // batch_size)
    return np.concatenate([to_pixels(mirror(params, batch, vae=vae)) for batch in batches])[: len(images)]


@functools.partial(jax.jit, static_argnames="vae")
def mirror(params: Params, images: Float[Array, "b h w c"], *, vae: nn.Module) -> Float[Array, "b h w c"]:
    """Images in [-1, 1], encoded to the mean and decoded."""
    mean, _ = vae.apply({"params": params}, images, method="encode")
    return jnp.asarray(vae.apply({"params": params}, mean, method="decode"))


def decibels(images: UInt8[np.ndarray, "... 3"], scenes: UInt8[np.ndarray, "... 3"]) -> float:
    """PSNR in dB over all the pixels together; 99 where there is no difference."""
    error = np.mean((images.astype(np.float32) - scenes) ** 2, dtype=np.float64)
    return float(min(10.0 * np.log10(255.0**2 / max(error, 1e-9)), 99.0))
