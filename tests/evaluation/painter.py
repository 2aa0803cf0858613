"""A model, a VAE and a reader whose answers are known."""

import functools
from collections.abc import Sequence

import numpy as np
from flax import linen as nn
from PIL import Image

from dalle3_jax.data.scenes import FIRST, record_labels, render_scene
from dalle3_jax.evaluation.suites import sample_prompts
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.pipeline.request import Request
from dalle3_jax.reading.scene_reader import Reader, SceneReading, true_reading

SIZE, COUNT = (64, 64), 45
NAMES = SceneReader(
    concepts=tuple(concept.name for concept in FIRST.concepts),
    tints=("natural",),
    styles=("3d",),
    backgrounds=tuple(background.name for background in FIRST.backgrounds),
)
PROMPTS = sample_prompts(FIRST, COUNT)


class Mirror(nn.Module):
    """A VAE that makes everything darker."""

    darker: float = 0.0

    def encode(self, images):
        return images, None

    def decode(self, latents):
        return latents - self.darker


class Oracle(Reader):
    """Knows the true pictures of prompts, even when they are a little off, and sees nothing in any other."""

    def read(self, images):
        return [recognised(image) for image in np.asarray(images)]


def recognised(image: np.ndarray) -> SceneReading:
    """What is to be seen in the true picture that is nearest, if it is near."""
    pictures, readings = known()
    gaps = np.abs(pictures - image).mean((1, 2, 3))
    return readings[gaps.argmin()] if gaps.min() < 4 else SceneReading("beach", "3d", ())


@functools.cache
def known() -> tuple[np.ndarray, list[SceneReading]]:
    """The true pictures of the prompts, and what is to be seen in them."""
    scenes = [prompt.scene for prompt in PROMPTS if prompt.scene]
    pictures = np.stack([render_scene(FIRST, scene, *SIZE) for scene in scenes]).astype(np.float32)
    return pictures, [true_reading(record_labels(FIRST, scene, *SIZE), *SIZE) for scene in scenes]


class Painter(Pipeline):
    """Draws the true scene of the prompt that stands `shift` places further on."""

    shift = 0

    def generate(self, requests: Sequence[Request], **_):
        for index, request in enumerate(requests):
            shown = PROMPTS[(index + self.shift) % len(PROMPTS)]
            yield (
                index,
                GeneratedImage(Image.fromarray(render_scene(FIRST, shown.scene, *request.size)), request, "", 1),
            )
