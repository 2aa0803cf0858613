"""Doctored pictures are judged wrong by the measures that they offend, and by no others."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import Placed, Scene
from dalle3_jax.data.scenes.world import FIRST
from dalle3_jax.evaluation.judge import METRICS, mistake
from dalle3_jax.evaluation.reader import cells, read, truth
from dalle3_jax.evaluation.suite import prompts

SIDE = 64
BACKGROUNDS = [background.name for background in FIRST.backgrounds]
CONCEPTS = [concept.name for concept in FIRST.concepts]


def swapped(shown: Scene) -> Scene:
    """The first two objects in each other's places."""
    one, two, *rest = shown.objects
    return replace(shown, objects=(replace(one, cell=two.cell), replace(two, cell=one.cell), *rest))


def elsewhere(shown: Scene) -> Scene:
    """The object in another place."""
    [placed] = shown.objects
    cell = next(cell for cell in cells(FIRST) if cell != placed.cell)
    return replace(shown, objects=(replace(placed, cell=cell),))


def one_less(shown: Scene) -> Scene:
    """Without the last object."""
    return replace(shown, objects=shown.objects[:-1])


def other_count(shown: Scene) -> Scene:
    """Three where two were asked for, and two where three were."""
    name = shown.objects[0].concept
    [layout] = [layout for layout in FIRST.kind("count").layouts if layout.name != shown.layout]
    return replace(shown, objects=tuple(Placed(name, cell) for cell in layout.cells))


def other_concept(shown: Scene) -> Scene:
    """A stranger in the place of the first object."""
    stranger = next(name for name in CONCEPTS if name not in shown.concepts)
    return replace(shown, objects=(replace(shown.objects[0], concept=stranger), *shown.objects[1:]))


def first_twice(shown: Scene) -> Scene:
    """The first object in the place of the second as well."""
    return replace(shown, objects=(shown.objects[0], replace(shown.objects[1], concept=shown.objects[0].concept)))


def other_background(shown: Scene) -> Scene:
    """The same objects somewhere else."""
    return replace(shown, background=BACKGROUNDS[BACKGROUNDS.index(shown.background) - 1])


def nothing(shown: Scene) -> Scene:
    """The background alone."""
    return replace(shown, objects=())


WHOLE = "the whole scene"
PLACE, OBJECT = "one object, in its place", "one object, anywhere"
COUNT = "count: the object and its number"
PLACES, BOTH = "two objects, both in their places", "two objects, both anywhere"


@pytest.mark.parametrize(
    ("kind", "doctor", "offended", "name"),
    [
        ("one", elsewhere, {PLACE, WHOLE}, "misplaced"),
        ("one", nothing, {PLACE, OBJECT, WHOLE}, "too few"),
        ("one", other_concept, {PLACE, OBJECT, WHOLE}, "foreign object"),
        ("one", other_background, {"background", WHOLE}, "right"),
        ("two", swapped, {PLACES, WHOLE}, "misplaced"),
        ("two", one_less, {PLACES, BOTH, WHOLE}, "too few"),
        ("two", first_twice, {PLACES, BOTH, WHOLE}, "one instead of another"),
        ("two", other_concept, {PLACES, BOTH, WHOLE}, "foreign object"),
        ("two", other_background, {"background", WHOLE}, "right"),
        ("count", other_count, {COUNT, WHOLE}, None),
        ("count", one_less, {COUNT, WHOLE}, "too few"),
        ("count", other_concept, {COUNT, WHOLE}, "foreign object"),
        ("count", other_background, {"background", WHOLE}, "right"),
    ],
)
def test_a_doctored_scene_offends_its_measures(
    kind: str, doctor: Callable[[Scene], Scene], offended: set[str], name: str | None
) -> None:
    scenes = [prompt.scene for prompt in prompts(FIRST, 60, seed=11) if prompt.scene.kind == kind]
    readings = read(FIRST, np.stack([render(FIRST, doctor(shown), SIDE, SIDE) for shown in scenes]))
    for shown, reading in zip(scenes, readings, strict=True):
        wrong = {
            metric
            for metric, (only, right) in METRICS.items()
            if only in (None, kind) and not right(reading, truth(shown))
        }
        assert wrong == offended
        found = mistake(reading, truth(shown))
        assert found == name if name else found in ("too few", "too many")
