"""Scores of following captions of one version as prompts: our CLIP score, and what the scene reader finds.

DALL-E 3's figures 4 and 5 ask this of models trained on different captions: of human ones, and of descriptive ones.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.captioning import CaptionModel
from dalle3_jax.data.scenes import World, render_scene
from dalle3_jax.evaluation.checks import CHECKS, ImageReading
from dalle3_jax.evaluation.prompts import Labels, Prompt, RequestedObject
from dalle3_jax.evaluation.score import read_images
from dalle3_jax.evaluation.suites import CAPTION, sample_prompts
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.reading.scene_reader import Reader

__all__ = ["generate_and_score", "render_true_images", "score_images", "version_prompts"]

ImageArray = UInt8[np.ndarray, "h w 3"]
BATCH = 8


def version_prompts(world: World, version: str, count: int, seed: int = 0) -> list[Prompt]:
    """Captions of held-out scenes, as many of each kind, whose labels ask for what the caption names.

    Captions that name nothing are left out; descriptive ones name everything.
    """
    prompts = sample_prompts(world, count, seed=seed, version=version)
    if version == CAPTION:
        return prompts
    named = ((prompt, mentioned_concepts(prompt, world)) for prompt in prompts)
    return [
        Prompt(prompt.id, prompt.kind, prompt.text, Labels(wanted), prompt.held_out, scene=prompt.scene)
        for prompt, wanted in named
        if wanted
    ]


def mentioned_concepts(prompt: Prompt, world: World) -> tuple[RequestedObject, ...]:
    """The concepts of the prompt's scene that its text names, in whatever number."""
    text = re.sub(r"[^a-z]+", " ", prompt.text.lower())
    concepts = {}
    for wanted in prompt.labels.objects:
        concept = world.concept(wanted.concept)
        if any(f" {name.lower()} " in f" {text} " for name in (concept.name, concept.plural)):
            concepts[wanted.concept] = RequestedObject(wanted.concept)
    return tuple(concepts.values())


def generate_and_score(
    pipeline: Pipeline, prompts: Sequence[Prompt], reader: Reader, captioner: CaptionModel, **settings: Any
) -> dict[str, float]:
    """The measures of `score_pictures` of one picture a prompt; picture i has the seed i, whatever the model."""
    requests = [pipeline.request(prompt.text, seed=i, **settings) for i, prompt in enumerate(prompts)]
    made = dict(pipeline.generate(requests, batch_size=BATCH))
    return score_images([np.asarray(made[i].image) for i in range(len(prompts))], prompts, reader, captioner)


def render_true_images(prompts: Sequence[Prompt], world: World, size: tuple[int, int]) -> list[ImageArray]:
    """The faultless picture of each prompt: what no model can do better than."""
    return [render_scene(world, prompt.scene, *size) for prompt in prompts if prompt.scene]


def score_images(
    images: Sequence[ImageArray], prompts: Sequence[Prompt], reader: Reader, captioner: CaptionModel
) -> dict[str, float]:
    """`similarity` (100 times the cosine), `objects` (share of the things asked for that are there) and, where asked
    for, the shares of pictures with the right `background`, and `right` in everything.
    """
    sights = read_images(reader, None, images, [False] * len(images))
    labels = [prompt.labels for prompt in prompts]
    scores = {
        "similarity": float(captioner.similarity(images, [prompt.text for prompt in prompts]).mean()),
        "objects": float(
            np.mean([concept_recall(sight, wanted) for sight, wanted in zip(sights, labels, strict=True)])
        ),
    }
    if all(wanted.background for wanted in labels):
        pairs = list(zip(sights, labels, strict=True))
        scores["background"] = float(np.mean([CHECKS["background"](*pair) for pair in pairs]))
        names = "objects", "counts", "nothing else", "places", "relations", "background"
        scores["right"] = float(np.mean([all(CHECKS[name](*pair) for name in names) for pair in pairs]))
    return scores


def concept_recall(sight: ImageReading, labels: Labels) -> float:
    """The share of the concepts asked for that the picture shows."""
    wanted = {one.concept for one in labels.objects}
    return len(wanted & {seen.concept for seen in sight.reading.objects}) / len(wanted)


def flatten_scores(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Version of prompts -> measure -> value, as "version: measure"."""
    return {f"{version}: {name}": value for version, row in scores.items() for name, value in row.items()}
