"""Reads any picture of the embedded dataset's kind with a trained network, never told what was asked for.

from dalle3_jax.reading.scene_reader import Reader

for reading in Reader.load().read(images):
    print(reading)
"""

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, UInt8

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.models.scene_reader import STRIDE, SceneLogits, SceneReader
from dalle3_jax.reading.scene_probabilities import SceneProbabilities, softmax
from dalle3_jax.typing import Array, Float, Params

SHIPPED = Path(__file__).parents[1] / "releases" / "reader"
NATURAL = "natural"
"""What the network calls an object's own colours; a reading and a label say ""."""

SIDE = 128  # pixels of the shorter side at which a picture is read
BATCH = 32
TWICE = 0.35  # two centres nearer than this, in sides, are one object
FAINTEST = 0.05  # peaks below this are no candidates either
SHARPNESS = 5.4
"""Steepness of a peak's probability over the logit of its heat, which is 1/2 at a reader's threshold. Fitted to the 863
candidates of 256 held-out scenes: the heat itself says 0.65 of objects that are surely there (0.305 nats a candidate,
0.038 with this; concepts and tints need no such correction)."""


@dataclass(frozen=True)
class SeenObject:
    """One object: centre (across, down) as fractions of the frame, side as a fraction of the frame's shorter side."""

    concept: str
    tint: str
    x: float
    y: float
    size: float
    score: float = 1.0


@dataclass(frozen=True)
class SceneReading:
    """The reading of a picture, and how sure it is; None where nobody says, and all is taken for certain."""

    background: str
    style: str
    objects: tuple[SeenObject, ...]
    probabilities: SceneProbabilities | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        names = sorted(f"{seen.tint} {seen.concept}".strip() for seen in self.objects)
        return f"{', '.join(names) or 'nothing'}; {self.background}; {self.style}"


@dataclass(frozen=True, eq=False)
class Reader:
    """A scene reader with its parameters; a peak of the heat counts from `threshold` on."""

    module: SceneReader
    params: Params
    threshold: float = 0.4

    @classmethod
    def load(cls, folder: str | Path = "reader") -> "Reader":
        """The shipped reader, or that of a release folder."""
        release = load_release(SHIPPED if str(folder) == "reader" else folder, ["reader"])
        module = release.modules["reader"]
        if not isinstance(module, SceneReader):
            raise ValueError(f"the reader in {folder} is a {type(module).__name__}: give a release of the reader stage")
        return cls(module, release.params["reader"])

    def read(self, images: UInt8[np.ndarray, "b h w 3"]) -> list[SceneReading]:
        """A reading of each picture."""
        return [
            reading for sight in self._sights(images) for reading in decode_readings(sight, self.module, self.threshold)
        ]

    def features(self, images: UInt8[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b d"]:
        """Features that backgrounds are read from, for distances between sets of pictures."""
        features = [sight.features for sight in self._sights(images)]
        return np.concatenate(features) if features else np.zeros((0, self.module.width), np.float32)

    def _sights(self, images: UInt8[np.ndarray, "b h w 3"]) -> Iterator[SceneLogits]:
        """The network's output for each batch; a short last batch is filled up, so that all run the same program."""
        for start in range(0, len(images), BATCH):
            rows = images[start : start + BATCH]
            filled = np.concatenate([rows, np.repeat(rows[-1:], BATCH - len(rows), axis=0)])
            sight = jax.device_get(run_scene_reader(self.params, filled, module=self.module))
            yield SceneLogits(*(output[: len(rows)] for output in sight))


@functools.partial(jax.jit, static_argnames="module")
def run_scene_reader(params: Params, images: Array, *, module: SceneReader) -> SceneLogits:
    """The network on pictures of any size, brought to `SIDE`."""
    height, width = reading_size(*images.shape[1:3])
    images = images.astype(jnp.float32) / 127.5 - 1.0
    images = jax.image.resize(images, (len(images), height, width, 3), "linear")
    sight = module.apply({"params": params}, images)
    assert isinstance(sight, SceneLogits)  # what Linen's apply declares is wider
    return sight


def reading_size(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a picture is read: multiples of 16, the shorter one `SIDE`."""
    step, scale = 2 * STRIDE, SIDE / min(height, width)
    return round(height * scale / step) * step, round(width * scale / step) * step


def decode_readings(sight: SceneLogits, module: SceneReader, threshold: float) -> list[SceneReading]:
    """Readings of what the network said (as numpy arrays)."""
    scores = 1.0 / (1.0 + np.exp(-sight.heat))
    peaks = peak_mask(scores)
    return [decode_reading(sight, module, threshold, scores, peaks, row) for row in range(len(scores))]


def decode_reading(
    sight: SceneLogits,
    module: SceneReader,
    threshold: float,
    scores: Float[np.ndarray, "b i j"],
    peaks: Bool[np.ndarray, "b i j"],
    row: int,
) -> SceneReading:
    """The reading of one picture: of the peaks those from `threshold` on; all but the faintest are candidates."""
    kept = peaks[row] & (scores[row] >= threshold)
    candidates = {
        object_at(sight, module, scores, row, *at): at
        for at in np.argwhere(peaks[row] & (scores[row] >= min(FAINTEST, threshold))).tolist()
    }
    grid = scores.shape[1:]
    distinct = suppress_duplicates(list(candidates), grid)
    return SceneReading(
        module.backgrounds[sight.backgrounds[row].argmax()],
        module.styles[sight.styles[row][kept.ravel()].sum(0).argmax()],
        tuple(seen for seen in distinct if seen.score >= threshold),
        decode_probabilities(sight, module, threshold, row, distinct, [candidates[seen] for seen in distinct]),
    )


def decode_probabilities(
    sight: SceneLogits,
    module: SceneReader,
    threshold: float,
    row: int,
    candidates: Sequence[SeenObject],
    at: Sequence[Sequence[int]],
) -> SceneProbabilities:
    """The probabilities of a picture's candidates in the cells `at`."""
    cells = [i * sight.heat.shape[2] + j for i, j in at]
    return SceneProbabilities(
        {
            "concepts": module.concepts,
            "tints": tuple("" if tint == NATURAL else tint for tint in module.tints),
            "styles": module.styles,
            "backgrounds": module.backgrounds,
        },
        presence_probability(np.array([seen.score for seen in candidates]), threshold),
        np.array([(seen.x, seen.y) for seen in candidates]).reshape(-1, 2),
        softmax(np.asarray(sight.concepts[row])[cells]),
        softmax(np.asarray(sight.tints[row])[cells]),
        softmax(np.asarray(sight.styles[row])[cells]),
        softmax(np.asarray(sight.backgrounds[row])),
    )


def presence_probability(heat: Float[np.ndarray, " n"], threshold: float) -> Float[np.ndarray, " n"]:
    """The probability that there is an object at peaks of this heat."""
    heat = np.clip(heat, 1e-6, 1.0 - 1e-6)
    logits = np.log(heat / (1.0 - heat)) - np.log(threshold / (1.0 - threshold))
    return 1.0 / (1.0 + np.exp(-SHARPNESS * logits))


def peak_mask(scores: Float[np.ndarray, "b i j"]) -> np.ndarray:
    """Which cells are as hot as the hottest of the nine around them."""
    padded = np.pad(scores, ((0, 0), (1, 1), (1, 1)), constant_values=-1.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return scores >= windows.max(axis=(-2, -1))


def object_at(
    sight: SceneLogits, module: SceneReader, scores: Float[np.ndarray, "b i j"], row: int, i: int, j: int
) -> SeenObject:
    """The object in cell (i, j) of a picture."""
    rows, columns = scores.shape[1:]
    cell = i * columns + j
    down, across, side = sight.boxes[row, cell].tolist()
    tint = module.tints[sight.tints[row, cell].argmax()]
    return SeenObject(
        module.concepts[sight.concepts[row, cell].argmax()],
        "" if tint == NATURAL else tint,
        (j + 0.5 + across) / columns,
        (i + 0.5 + down) / rows,
        math.exp(side) / min(rows, columns),
        float(scores[row, i, j]),
    )


def suppress_duplicates(objects: list[SeenObject], grid: tuple[int, int]) -> tuple[SeenObject, ...]:
    """The objects from the surest on, without those that stand where a surer one does."""
    kept: list[SeenObject] = []
    for new in sorted(objects, key=lambda seen: -seen.score):
        if all(centre_distance(new, old, grid) >= TWICE * min(new.size, old.size) for old in kept):
            kept.append(new)
    return tuple(kept)


def centre_distance(one: SeenObject, two: SeenObject, frame: tuple[int, int]) -> float:
    """Between centres, as a fraction of the shorter side of a frame of this (height, width) or one of its shape."""
    height, width = frame
    return math.hypot((one.x - two.x) * width, (one.y - two.y) * height) / min(height, width)


def true_reading(labels: Mapping[str, Any], height: int, width: int) -> SceneReading:
    """The faultless reading of a record with these labels and this size."""
    objects = []
    for placed in labels["objects"]:
        left, top, right, bottom = placed["box"]
        side = (right - left) * width / min(height, width)
        objects.append(
            SeenObject(placed["concept"], placed.get("tint", ""), (left + right) / 2, (top + bottom) / 2, side)
        )
    return SceneReading(labels["background"], labels.get("style", "3d"), tuple(objects))


def count_matches(reading: SceneReading, expected: SceneReading, frame: tuple[int, int] = (1, 1)) -> int:
    """The number of wanted objects that were read: concept, tint and, to within half a side, place; each once."""
    left, count = list(reading.objects), 0
    for placed in expected.objects:
        near = [
            seen
            for seen in left
            if (seen.concept, seen.tint) == (placed.concept, placed.tint)
            and centre_distance(seen, placed, frame) <= placed.size / 2
        ]
        if near:
            left.remove(min(near, key=lambda seen: centre_distance(seen, placed, frame)))
            count += 1
    return count


def readings_agree(reading: SceneReading, expected: SceneReading, frame: tuple[int, int] = (1, 1)) -> bool:
    """Whether a picture was read wholly right; where nothing is to be seen, nothing has a style."""
    return (
        len(reading.objects) == len(expected.objects) == count_matches(reading, expected, frame)
        and reading.background == expected.background
        and (reading.style == expected.style or not expected.objects)
    )
