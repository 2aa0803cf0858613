"""What variations and outpainting of drawn scenes come to: python -m scripts.variation_figures [--pictures 4]

Pictures of two things are drawn, and those that the scene reader finds right are taken. Printed as two tables:
  variations   things that are still read, how far they moved (as a share of the side), levels from the picture; by its
               description alone, by image to image at several strengths, and where the model has one by an image
               prompt; below each of the others, image to image at as many things kept (interpolated)
  outpainting  to three shapes: pixels that changed within the picture, things still read, the background read of the
               whole, and the step across the picture's edges against steps elsewhere
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from dalle3_jax.evaluation.tables import markdown_table
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.edit_settings import outpaint_borders
from dalle3_jax.pipeline.png import GeneratedImage
from dalle3_jax.reading.scene_reader import Reader, SceneReading
from scripts.edit_figures import IsRight, distance, draw_right_pictures, scene_words, shows

STRENGTHS = (0.4, 0.6, 0.8)
SHAPES = ("16:9", "9:16", "3:1")
Vary = Callable[[GeneratedImage], GeneratedImage]


class Likeness(NamedTuple):
    """Means over pictures: things kept (share), moved (share of the side; NaN where none is kept), levels apart."""

    kept: float
    moved: float
    levels: float

    @property
    def cells(self) -> tuple[str, str, str]:
        """The columns of a row."""
        return f"{self.kept:.0%}", f"{self.moved:.2f}", f"{self.levels:.1f}"


def main() -> None:
    """Draw, vary, read, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=4, help="pictures that are varied (default %(default)s)")
    parser.add_argument("--checkpoint", default="demo", help="a model of scenes (default %(default)s)")
    arguments = parser.parse_args()
    pipeline, reader = Pipeline.load(arguments.checkpoint), Reader.load()
    right, drawn = choose_pictures(pipeline, reader, arguments.pictures)
    print(f"{len(right)} pictures that are right, of {drawn}\n")
    columns = ("variations", "things kept", "moved", "levels apart")
    print(markdown_table(columns, compare_variations(pipeline, reader, right)), end="\n\n")
    columns = (
        "outpainted to",
        "values changed inside",
        "things kept",
        "background kept",
        "step at the edge",
        "elsewhere",
    )
    print(markdown_table(columns, [outpaint_to(pipeline, reader, right, shape) for shape in SHAPES]))


def choose_pictures(
    pipeline: Pipeline, reader: Reader, count: int, is_right: IsRight | None = None
) -> tuple[list[GeneratedImage], int]:
    """Pictures in which the reader finds what their prompts say, and how many were drawn."""
    is_right = is_right or functools.partial(shows, reader, scene_words(pipeline))
    return draw_right_pictures(pipeline, is_right, count)


def compare_variations(pipeline: Pipeline, reader: Reader, pictures: Sequence[GeneratedImage]) -> list[tuple]:
    """The rows of the table of variations."""

    def vary(**settings) -> Vary:
        return lambda picture: pipeline.variations(picture, batch_size=1, **settings)[0]

    near = {strength: measure_variation(reader, pictures, vary(strength=strength)) for strength in STRENGTHS}
    rows = [(f"image to image, strength {strength}", *likeness.cells) for strength, likeness in near.items()]
    others = {"description alone": vary(strength=1)}
    if pipeline.capabilities.takes_image_prompts:
        others |= {"image prompt": vary(by="image"), "image prompt and description": vary_both(pipeline)}
    for name, way in others.items():
        likeness = measure_variation(reader, pictures, way)
        rows += [(name, *likeness.cells), ("image to image at that keeping", *equal_keeping(near, likeness.kept))]
    return rows


def vary_both(pipeline: Pipeline) -> Vary:
    """Variations by an image prompt beside the description that the picture carries."""
    return lambda picture: pipeline.variations(picture, picture.prompt, by="image", batch_size=1, upsample="none")[0]


def measure_variation(reader: Reader, pictures: Sequence[GeneratedImage], vary: Vary) -> Likeness:
    """How like their pictures variations are."""
    kept, moved, levels = [], [], []
    for picture in pictures:
        varied = vary(picture)
        before, after = (reader.read(np.asarray(one.image)[None])[0] for one in (picture, varied))
        shifts = match_things(before, after)
        kept.append(len(shifts) / max(len(before.objects), 1))
        moved += shifts
        levels.append(distance(picture, varied))
    return Likeness(float(np.mean(kept)), float(np.mean(moved)) if moved else np.nan, float(np.mean(levels)))


def match_things(before: SceneReading, after: SceneReading) -> list[float]:
    """How far each thing that is read in both moved, nearest first; a thing is matched once."""
    left, shifts = list(after.objects), []
    for thing in before.objects:
        same = [other for other in left if other.concept == thing.concept]
        if same:
            nearest = min(same, key=lambda other: np.hypot(other.x - thing.x, other.y - thing.y))
            shifts.append(float(np.hypot(nearest.x - thing.x, nearest.y - thing.y)))
            left.remove(nearest)
    return shifts


def equal_keeping(near: dict[float, Likeness], kept: float) -> tuple[str, str, str]:
    """The columns of image to image where it keeps as many things, between the strengths that were measured."""
    points = sorted(near.values())
    shares = [point.kept for point in points]
    if not shares[0] <= kept <= shares[-1]:
        return f"{kept:.0%}", "beyond the strengths tried", ""
    moved, levels = (float(np.interp(kept, shares, [point[i] for point in points])) for i in (1, 2))
    return Likeness(kept, moved, levels).cells


def outpaint_to(pipeline: Pipeline, reader: Reader, pictures: Sequence[GeneratedImage], shape: str) -> tuple:
    """The row of one shape."""
    changed, kept, grounds, steps, usual = 0, [], [], [], []
    for picture in pictures:
        pixels = np.asarray(picture.image)
        height, width = pixels.shape[:2]
        left, top, _, _ = outpaint_borders(shape, (height, width))
        [made] = pipeline.edit(picture, picture.prompt, outpaint=shape, upsample="none", batch_size=1)
        result = np.asarray(made.image)
        changed += int((result[top : top + height, left : left + width] != pixels).sum())
        before, after = (reader.read(image[None])[0] for image in (pixels, result))
        kept.append(len(match_things(before, after)) / max(len(before.objects), 1))
        grounds.append(before.background == after.background)
        edge, rest = edge_steps(result, (top, left, height, width))
        steps.append(edge)
        usual.append(rest)
    shares = f"{np.mean(kept):.0%}", f"{sum(grounds)} of {len(grounds)}"
    return shape, str(changed), *shares, f"{np.mean(steps):.1f}", f"{np.mean(usual):.1f}"


def edge_steps(pixels: np.ndarray, box: tuple[int, int, int, int]) -> tuple[float, float]:
    """Mean step in levels across the edges of a box (top, left, height, width) within an image, and all other steps."""
    top, left, height, width = box
    edges, others = [], []
    for axis, (first, size, whole) in enumerate(((top, height, len(pixels)), (left, width, pixels.shape[1]))):
        steps = np.abs(np.diff(pixels.astype(np.float32), axis=axis)).mean(-1)
        cut = [place - 1 for place in (first, first + size) if 0 < place < whole]
        edges += [*np.take(steps, cut, axis=axis).ravel()]
        others += [*np.delete(steps, cut, axis=axis).ravel()]
    return float(np.mean(edges)), float(np.mean(others))


if __name__ == "__main__":
    main()
