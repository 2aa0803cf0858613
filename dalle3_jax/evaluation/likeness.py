"""How like true pictures a model's are as a set: distances, precision and recall, and what it may have copied.

All on the features of the scene reader, so that the figures compare with nothing outside this project: they are no FID.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dalle3_jax.data.sources import Source
from dalle3_jax.data.transforms import decode
from dalle3_jax.evaluation.detector import Reader
from dalle3_jax.evaluation.distances import Copying, Distance, copying, frechet, kernel, nearest, precision
from dalle3_jax.evaluation.sheets import Cell, Line, sheet
from dalle3_jax.evaluation.statistics import Rate

Pictures = UInt8[np.ndarray, "n h w 3"]
Features = Float[np.ndarray, "n d"]
LEAST = 100
"""The fewest pictures that make a set."""


class Set(NamedTuple):
    """A set of pictures against as many true ones of other scenes."""

    frechet: Distance
    kernel: Distance
    precision: Rate
    recall: Rate


class Likeness(NamedTuple):
    """The model's pictures and, as the ceiling, true ones of the same prompts; how near the training set both are."""

    pictures: int
    training: int
    features: str
    model: Set
    true: Set
    copying: Copying

    def markdown(self) -> str:
        """The table."""
        rows = [("generated", self.model), ("true scenes of the same prompts", self.true)]
        lines = [
            "| pictures | Frechet distance | kernel distance x 1000 | precision | recall |",
            "| --- | --- | --- | --- | --- |",
            *(f"| {name} | {_numbers(*(found.frechet))} | {_numbers(*(1000 * v for v in found.kernel))} | "
              f"{found.precision.value:.1%} | {found.recall.value:.1%} |" for name, found in rows),
        ]  # fmt: skip
        near = self.copying
        text = (
            f"{self.pictures} pictures, features: {self.features}. Of the generated pictures {near.nearer.value:.1%} "
            f"({near.nearer.low:.1%} to {near.nearer.high:.1%}) are nearer to one of {self.training} training pictures "
            f"than all but 1 % of held-out true pictures; the median distance to the nearest is "
            f"{near.generated_median:.3g} for generated and {near.held_out_median:.3g} for held-out true pictures."
        )
        return ("\n".join(lines) + "\n\n" + text).replace("1 %", "1%").replace("%", " %")


def likeness(
    reader: Reader, generated: Pictures, same: Pictures, other: Pictures, held_out: Pictures, training: Pictures
) -> tuple[Likeness, Image.Image]:
    """Compares generated pictures, and true ones of the `same` prompts, with true ones of `other` scenes.

    `training` pictures and `held_out` ones of their world say whether generated ones are copies. Also a sheet: the
    generated pictures that come nearest to a training picture, each beside that picture.
    """
    sets = (generated, same, other, held_out, training)
    made, true, apart, unseen, seen = (reader.features(pictures).astype(np.float64) for pictures in sets)
    text = f"the scene reader's, {made.shape[1]} means over its grid"
    result = Likeness(
        len(made), len(seen), text, compared(made, apart), compared(true, apart), copying(made, unseen, seen)
    )
    return result, neighbours(made, seen, generated, training)


def compared(features: Features, other: Features) -> Set:
    """One set against another."""
    return Set(
        frechet(features, other), kernel(features, other), precision(features, other), precision(other, features)
    )


def true_scenes(source: Source, count: int, bar: Callable[[Sequence[int], str], Iterable[int]]) -> Pictures:
    """The first pictures of a source; `bar` shows how far it has come."""
    return np.stack([decode(source[index].image) for index in bar(range(count), "drawing true scenes")])


def neighbours(made: Features, seen: Features, generated: Pictures, training: Pictures, shown: int = 8) -> Image.Image:
    """The generated pictures that are nearest to the training set, each above its neighbour."""
    found = nearest(made, seen)
    order = np.argsort(found.distances)[:shown]
    cells = [Cell(Image.fromarray(generated[i]), (Line(f"generated, {found.distances[i]:.3g} from"),)) for i in order]
    cells += [Cell(Image.fromarray(training[found.indices[i]]), (Line("this training picture"),)) for i in order]
    return sheet(cells, columns=shown, width=160, title="nearest to the training set")


def _numbers(value: float, low: float, high: float) -> str:
    return f"{value:.3g} ({low:.3g} to {high:.3g})"
