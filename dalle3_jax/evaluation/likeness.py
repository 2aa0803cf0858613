"""Likeness of a model's pictures to true ones as a set: distances, precision and recall, and possible copies.

All on the features of the scene reader, so that the figures compare with nothing outside this project: they are no FID.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dalle3_jax.data.batches import open_source
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.evaluation.distances import (
    Copying,
    Distance,
    frechet_distance,
    kernel_distance,
    measure_copying,
    nearest_neighbours,
    precision,
)
from dalle3_jax.evaluation.row_bars import Bar
from dalle3_jax.evaluation.statistics import Rate
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.reading.scene_reader import Reader

ImageArray = UInt8[np.ndarray, "h w 3"]
Features = Float[np.ndarray, "n d"]
Others = Float[np.ndarray, "m d"]
LEAST = 100
"""The fewest pictures that make a set."""

BLOCK = 256  # true pictures held at a time
OTHER_SEED = 1_000_003  # of true pictures that no training has seen


class TrueSources(NamedTuple):
    """True pictures: of other scenes than the prompts', of the training's world held out, and the training's own.

    The model was trained on the first `records` of the last.
    """

    other: Source
    held_out: Source
    training: Source
    records: int


class SetScores(NamedTuple):
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
    model: SetScores
    true: SetScores
    copying: Copying

    def markdown(self) -> str:
        """The table, and what was found of copies."""
        titles = ["pictures", "Frechet distance", "kernel distance x 1000", "precision", "recall"]
        lines = [
            [
                *(name, _numbers(*likeness.frechet), _numbers(*(1000 * value for value in likeness.kernel))),
                *(format_percent(likeness.precision.value), format_percent(likeness.recall.value)),
            ]
            for name, likeness in (("generated", self.model), ("true scenes of the same prompts", self.true))
        ]
        near = self.copying
        return (
            f"{markdown_table(titles, lines)}\n\n{self.pictures} pictures, features: {self.features}. {self.searched} "
            f"of {self.records} training records were searched for copies: {format_percent(near.nearer.value)} "
            f"({format_interval(near.nearer)}) of the generated pictures are nearer to one of these than all but 1 % "
            f"of held-out true pictures; the median distance to the nearest is {near.generated_median:.3g} for "
            f"generated and {near.held_out_median:.3g} for held-out true pictures."
        )


def find_true_sources(training: Mapping[str, Any], world: str, size: tuple[int, int]) -> TrueSources:
    """The true pictures of a `size` (height, width) for prompts of a `world`, and a release with this `training`.

    Raises ValueError where there are none: a model of other data, or a world whose words do not fit the size.
    """
    data = training.get("config", {}).get("data", {})
    if not data or data.get("source", "scenes") != "scenes":
        raise ValueError("the release does not say that it was trained on scenes, which alone can be drawn here")
    section = {"world": data.get("world", "first"), "part": data.get("part", {}), "size": size}
    return TrueSources(
        ScenesSource(world, OTHER_SEED, *size, split="held_out"),
        open_source({**section, "seed": OTHER_SEED, "split": "held_out"}),
        open_source({**section, "seed": data.get("seed", 0), "split": data.get("split", "train")}),
        data.get("latents", 0) or training.get("images", 0),  # on the fly, every picture is another record
    )


def measure_likeness(
    reader: Reader,
    generated: Sequence[ImageArray],
    same: Sequence[ImageArray],
    sources: TrueSources,
    search: int,
    bar: Bar,
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
    sets = compare_sets(made, apart), compare_sets(true, apart)
    result = Likeness(len(made), len(seen), sources.records, text, *sets, measure_copying(made, unseen, seen))
    return result, neighbours_sheet(made, seen, generated, sources.training)


def compare_sets(features: Features, other: Others) -> SetScores:
    """One set against another."""
    return SetScores(
        frechet_distance(features, other),
        kernel_distance(features, other),
        precision(features, other),
        precision(other, features),
    )


def true_features(reader: Reader, source: Source, count: int, bar: Bar) -> Features:
    """Of the first pictures of a source, of which a block is held at a time."""
    pictures = (decode_image(source[index].image) for index in bar(range(count), "drawing and reading true scenes"))
    blocks = iter(lambda: list(islice(pictures, BLOCK)), [])
    return np.concatenate([reader.features(np.stack(block)) for block in blocks]).astype(np.float64)


def neighbours_sheet(
    generated_features: Features,
    training_features: Others,
    generated: Sequence[ImageArray],
    training: Source,
    count: int = 8,
) -> Image.Image:
    """The generated pictures that are nearest to the training set, each above its neighbour."""
    neighbours = nearest_neighbours(generated_features, training_features)
    order = np.argsort(neighbours.distances)[:count]
    cells = [
        SheetCell(Image.fromarray(generated[i]), (SheetLine(f"generated, {neighbours.distances[i]:.3g} from"),))
        for i in order
    ]
    near = [decode_image(training[int(neighbours.indices[i])].image) for i in order]
    cells += [SheetCell(Image.fromarray(picture), (SheetLine("this training picture"),)) for picture in near]
    return draw_sheet(cells, columns=count, width=160, title="nearest to the training set")


def _numbers(value: float, low: float, high: float) -> str:
    return f"{value:.3g} ({low:.3g} to {high:.3g})"
