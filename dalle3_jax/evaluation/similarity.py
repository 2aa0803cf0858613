"""Our CLIP score: how near a captioner finds pictures to their prompts, with controls."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dalle3_jax.captioning import CaptionModel
from dalle3_jax.evaluation.outcomes import Outcome, Truth
from dalle3_jax.evaluation.statistics import Rate, bootstrap
from dalle3_jax.evaluation.tables import table

__all__ = ["Similarity", "markdown", "similarity"]


class Similarity(NamedTuple):
    """100 times the cosine of pictures and prompts: the model's, with other prompts, and of faultless pictures."""

    model: Rate
    shuffled: float
    true: float | None


def similarity(captioner: CaptionModel, outcomes: Sequence[Outcome], truths: Sequence[Truth]) -> Similarity:
    """Of pictures made of prompts of one protocol, at the captioner's size; of long prompts it reads what fits."""
    texts = [said(one) for one in outcomes]
    images, vectors = captioner.image_vectors([one.image for one in outcomes]), captioner.text_vectors(texts)
    own = 100 * np.einsum("nv,nv->n", images, vectors)
    others = 100 * np.einsum("nv,nv->n", images, np.roll(vectors, 1, 0))
    pairs = [(one.image, one.prompt.text) for one in truths]
    true = captioner.similarity([image for image, _ in pairs], [text for _, text in pairs]).mean() if pairs else None
    return Similarity(bootstrap(own), float(others.mean()), None if true is None else float(true))


def said(one: Outcome) -> str:
    """What the model was given."""
    return one.prompt.upsampled or one.prompt.text if one.protocol == "upsampled" else one.prompt.text


def markdown(found: dict[str, Similarity]) -> str:
    """A row a protocol."""
    rows = [
        [
            *(name, f"{one.model.value:.1f}", f"{one.model.low:.1f} to {one.model.high:.1f}", f"{one.shuffled:.1f}"),
            "-" if one.true is None else f"{one.true:.1f}",
        ]
        for name, one in found.items()
    ]
    return table(["prompts", "100 x cosine", "95 % interval", "other prompts", "true scenes"], rows)
