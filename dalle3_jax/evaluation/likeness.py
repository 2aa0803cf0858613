"""How like true pictures a model's are as a set: distances, precision and recall, and what it may have copied.

All on the features of the scene reader, so that the figures compare with nothing outside this project: they are no FID.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dalle3_jax.data.batches import source_of
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode
from dalle3_jax.evaluation.distances import Copying, Distance, copying, frechet, kernel, nearest, precision
from dalle3_jax.evaluation.statistics import Rate
from dalle3_jax.evaluation.tables import percent, span, table
from dalle3_jax.pipeline.contact_sheet import Cell, Line, sheet
from dalle3_jax.reading.scene_reader import Reader

Picture = UInt8[np.ndarray, "h w 3"]
Features = Float[np.ndarray, "n d"]
Others = Float[np.ndarray, "m d"]
LEAST = 100
"""The fewest pictures that make a set."""

BLOCK = 256  # true pictures held at a time
OTHER_SEED = 1_000_003  # of true pictures that no training has seen
Bar = Callable[[Sequence[int], str], Iterable[int]]


class Sources(NamedTuple):
    """True pictures: of other scenes than the prompts', of the training's world held out, and the training's own.

    The model was trained on the first `records` of the last.
    """

    other: Source
    held_out: Source
    training: Source
    records: int


class Set(NamedTuple):
    """A set of pictures against as many true ones of other scenes."""

    frechet: Distance
    kernel: Distance
    precision: Rate
    recall: Rate


class Likeness(NamedTuple):
    """The model's pictures and, as the ceiling, true ones of the same prompts; how near the training set both are."""

    pictures: int
    searched: int
    records: int
    features: str
    model: Set
    true: Set
    copying: Copying

    def markdown(self) -> str:
        """The table, and what was found of copies."""
        titles = ["pictures", "Frechet distance", "kernel distance x 1000", "precision", "recall"]
        lines = [
            [
                *(name, _numbers(*found.frechet), _numbers(*(1000 * value for value in found.kernel))),
                *(percent(found.precision.value), percent(found.recall.value)),
            ]
            for name, found in (("generated", self.model), ("true scenes of the same prompts", self.true))
        ]
        near = self.copying
        return (
            f"{table(titles, lines)}\n\n{self.pictures} pictures, features: {self.features}. {self.searched} of "
            f"{self.records} training records were searched for copies: {percent(near.nearer.value)} "
            f"({span(near.nearer)}) of the generated pictures are nearer to one of these than all but 1 % of held-out "
            f"true pictures; the median distance to the nearest is {near.generated_median:.3g} for generated and "
            f"{near.held_out_median:.3g} for held-out true pictures."
        )


def sources(training: Mapping[str, Any], world: str, size: tuple[int, int]) -> Sources:
    """The true pictures of a `size` (height, width) for prompts of a `world`, and a release with this `training`.

    Raises ValueError where there are none: a model of other data, or a world whose words do not fit the size.
    """
    data = training.get("config", {}).get("data", {})
    if not data or data.get("source", "scenes") != "scenes":
        raise ValueError("the release does not say that it was trained on scenes, which alone can be drawn here")
    section = {"world": data.get("world", "first"), "part": data.get("part", {}), "size": size}
    return Sources(
        ScenesSource(world, OTHER_SEED, *size, split="held_out"),
        source_of({**section, "seed": OTHER_SEED, "split": "held_out"}),
        source_of({**section, "seed": data.get("seed", 0), "split": data.get("split", "train")}),
        data.get("latents", 0) or training.get("images", 0),  # on the fly, every picture is another record
    )


def likeness(
    reader: Reader, generated: Sequence[Picture], same: Sequence[Picture], sources: Sources, search: int, bar: Bar
) -> tuple[Likeness, Image.Image]:
    """Compares generated pictures, and true ones of the `same` prompts, with true ones of other scenes.

    `search` of the training records, as far as there are so many, and held-out ones of their world say whether
    generated ones are copies; `bar` shows how far the work is. Also a sheet: the generated pictures that come nearest
    to a training picture, each above that picture. Raises ValueError where nothing can be compared.
    """
    counts = len(generated), max(len(generated), LEAST), min(search, sources.records)
    if len(generated) < LEAST or not counts[2]:
        raise ValueError(
            f"{len(generated)} square pictures of prompts with scenes and {counts[2]} training records: at least "
            f"{LEAST} and 1 are needed"
        )
    made, true = (reader.features(np.stack(pictures)).astype(np.float64) for pictures in (generated, same))
    apart, unseen, seen = (true_features(reader, *pair, bar) for pair in zip(sources[:3], counts, strict=True))
    text = f"the scene reader's, {made.shape[1]} means over its grid"
    sets = compared(made, apart), compared(true, apart)
    result = Likeness(len(made), len(seen), sources.records, text, *sets, copying(made, unseen, seen))
    return result, neighbours(made, seen, generated, sources.training)


def compared(features: Features, other: Others) -> Set:
    """One set against another."""
    return Set(
        frechet(features, other), kernel(features, other), precision(features, other), precision(other, features)
    )


def true_features(reader: Reader, source: Source, count: int, bar: Bar) -> Features:
    """Of the first pictures of a source, of which a block is held at a time."""
    pictures = (decode(source[index].image) for index in bar(range(count), "drawing and reading true scenes"))
    blocks = iter(lambda: list(islice(pictures, BLOCK)), [])
    return np.concatenate([reader.features(np.stack(block)) for block in blocks]).astype(np.float64)


def neighbours(
    made: Features, seen: Others, generated: Sequence[Picture], training: Source, shown: int = 8
) -> Image.Image:
    """The generated pictures that are nearest to the training set, each above its neighbour."""
    found = nearest(made, seen)
    order = np.argsort(found.distances)[:shown]
    cells = [Cell(Image.fromarray(generated[i]), (Line(f"generated, {found.distances[i]:.3g} from"),)) for i in order]
    near = [decode(training[int(found.indices[i])].image) for i in order]
    cells += [Cell(Image.fromarray(picture), (Line("this training picture"),)) for picture in near]
    return sheet(cells, columns=shown, width=160, title="nearest to the training set")


def _numbers(value: float, low: float, high: float) -> str:
    return f"{value:.3g} ({low:.3g} to {high:.3g})"
