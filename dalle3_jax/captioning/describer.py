"""Functions that describe an image in words that a model of images reads: a captioner, or the reader of scenes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.captioning.model import CaptionModel
from dalle3_jax.prompting.scene_description import PlacedThing, describe_scene
from dalle3_jax.prompting.scene_lexicon import training_lexicon

__all__ = ["image_describer"]


def image_describer(
    training: Mapping[str, Any], captioner: str | None = None
) -> Callable[[UInt8[np.ndarray, "h w 3"]], str] | None:
    """The function that describes an image: the captioner of this path, or for a model of scenes their shipped reader.

    `training` is what a release says of its own. None for other models without a captioner.
    """
    if captioner is not None:
        model = CaptionModel.load(captioner)
        return lambda pixels: model.captions([pixels])[0]
    if (lexicon := training_lexicon(training)) is None:
        return None
    from dalle3_jax.reading.scene_reader import Reader

    reader = Reader.load()

    def describe(pixels: np.ndarray) -> str:
        [reading] = reader.read(pixels[None])
        things = [PlacedThing(seen.concept, seen.tint, seen.x, seen.y) for seen in reading.objects]
        return describe_scene(things, reading.background, lexicon)

    return describe
