"""The reader says exactly what a picture shows, as long as a person could, and notices everything that is changed."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import Placed, Scene, scene
from dalle3_jax.data.scenes.world import FIRST
from dalle3_jax.evaluation.reader import PRESENT, arrangements, cells, read, truth

SIDE, COUNT = 64, 300


def pictures(scenes: list[Scene], height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.stack([render(FIRST, one, height, width) for one in scenes])


def agreement(images: np.ndarray, scenes: list[Scene]) -> float:
    """The share of pictures that are read exactly as their scenes are."""
    return float(np.mean([reading == truth(one) for reading, one in zip(read(FIRST, images), scenes, strict=True)]))


def blurred(images: np.ndarray, radius: float) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius))) for image in images])


def bytes_of(images: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(images), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    found = [scene(FIRST, 7, index, split) for split in ("held_out", "train") for index in range(COUNT // 2)]
    assert {one.kind for one in found} == {kind.name for kind in FIRST.kinds}
    return found


@pytest.fixture(scope="module")
def images(scenes: list[Scene]) -> np.ndarray:
    return pictures(scenes)


def test_true_scenes_are_read_exactly(scenes: list[Scene], images: np.ndarray) -> None:
    assert agreement(images, scenes) == 1.0


def test_every_concept_is_read_in_every_cell() -> None:
    shown = [
        Scene("one", "", (Placed(concept.name, cell),), FIRST.backgrounds[(i + j) % len(FIRST.backgrounds)].name)
        for i, concept in enumerate(FIRST.concepts)
        for j, cell in enumerate(cells(FIRST))
    ]
    assert agreement(pictures(shown), shown) == 1.0


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 96), (256, 128)])
def test_other_sizes_and_shapes_are_read_exactly(scenes: list[Scene], height: int, width: int) -> None:
    part = scenes[:8]
    assert agreement(pictures(part, height, width), part) == 1.0


def test_soft_noisy_and_pale_pictures_are_read_nearly_so(scenes: list[Scene], images: np.ndarray) -> None:
    part, some = scenes[:150], images[:150]
    bare = pictures([replace(one, objects=()) for one in part]).astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 25, some.shape)
    assert agreement(blurred(some, 1.5), part) >= 0.98
    assert agreement(bytes_of(some + noise), part) >= 0.98
    assert agreement(bytes_of(blurred(some, 1.0) + noise), part) >= 0.98
    assert agreement(np.roll(some, (1, 1), (1, 2)), part) >= 0.98
    assert agreement(bytes_of(bare + 0.7 * (some - bare)), part) >= 0.98


def test_nothing_is_seen_where_nothing_is(scenes: list[Scene]) -> None:
    bare = [replace(one, objects=()) for one in scenes[:60]]
    plain = pictures(bare)
    assert agreement(plain, bare) == 1.0
    assert agreement(bytes_of(plain + np.random.default_rng(1).normal(0, 25, plain.shape)), bare) == 1.0
    assert agreement(blurred(plain, 1.5), bare) == 1.0


def test_blotches_are_seldom_taken_for_objects() -> None:
    """Strong ones of the size of a sprite's parts; the nearest concept alone would be found in every second picture."""
    bare = [Scene("", "", (), FIRST.backgrounds[i % len(FIRST.backgrounds)].name) for i in range(100)]
    blotches = np.random.default_rng(0).normal(0, 60, (100, SIDE // 8, SIDE // 8, 3)).repeat(8, 1).repeat(8, 2)
    readings = read(FIRST, bytes_of(pictures(bare) + blotches))
    assert np.mean([bool(reading.objects) for reading in readings]) < 0.2


def test_an_object_that_is_hardly_there_is_not_counted(scenes: list[Scene], images: np.ndarray) -> None:
    part = scenes[:60]
    bare = pictures([replace(one, objects=()) for one in part]).astype(np.float32)
    trace, ghost = (bytes_of(bare + strength * (images[:60] - bare)) for strength in (0.2, PRESENT - 0.15))
    assert not any(reading.objects for reading in read(FIRST, trace))
    assert not any(reading.objects & truth(one).objects for reading, one in zip(read(FIRST, ghost), part, strict=True))


def test_arrangements_that_the_world_never_draws_are_read_too() -> None:
    corners = [cell for cell in cells(FIRST) if " " in cell.place]
    names = [concept.name for concept in FIRST.concepts]
    four = Scene("", "", tuple(Placed("panda", cell) for cell in corners), "beach")
    mixed = Scene("", "", tuple(Placed(names[i], cell) for i, cell in enumerate(corners[:3])), "snow")
    assert len(corners) == 4
    assert agreement(pictures([four, mixed]), [four, mixed]) == 1.0


def test_arrangements_are_all_sets_of_boxes_that_do_not_overlap() -> None:
    left, right, middle = (0, 0, 4, 4), (4, 0, 8, 4), (2, 0, 6, 4)
    sets = {tuple(row) for row in arrangements((left, right, middle)).tolist()}
    assert sets == {(False,) * 3, (True, False, False), (False, True, False), (True, True, False), (False, False, True)}


def test_a_world_that_moves_objects_is_refused(images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="only fixed cells"):
        read(replace(FIRST, jitter=0.1), images[:1])


def test_a_reading_does_not_depend_on_the_pictures_beside_it(images: np.ndarray) -> None:
    together = read(FIRST, images[:12])
    assert together == [read(FIRST, image[None])[0] for image in images[:12]]
