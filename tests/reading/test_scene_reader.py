"""The reader of scenes: what the network says becomes what the picture shows, no more and no less."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.models.scene_reader import SceneLogits, SceneReader
from dalle3_jax.reading import scene_reader
from dalle3_jax.reading.scene_reader import (
    BATCH,
    NATURAL,
    Reader,
    SceneReading,
    SeenObject,
    count_matches,
    decode_readings,
    readings_agree,
    true_reading,
)
from dalle3_jax.training.objectives.scene_reader import box_targets, centre_cells, heat_targets
from tests.networks import apply, normal, randomised

MODULE = SceneReader(
    ("cat", "dog", "hat"), (NATURAL, "red", "blue"), ("3d", "flat"), ("beach", "snow"), channels=(4, 8, 8), hidden=8
)


@functools.cache
def random_reader():
    return Reader(MODULE, randomised(MODULE, normal(1, 16, 16, 3)))


def image(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


@functools.partial(jax.jit, static_argnums=(2, 3))
def all_targets(centres, sides, rows, columns):
    """Cells, heat and boxes of objects; no heat where there are none."""
    cells = centre_cells(centres, rows, columns)
    valid = jnp.ones(cells.shape, bool)
    heat = heat_targets(cells, sides, valid, rows, columns) if cells.size else jnp.zeros((1, rows, columns))
    return cells, heat, box_targets(centres, sides, rows, columns)


def said(reading: SceneReading, rows: int = 16, columns: int = 16, certainty: float = 9.0) -> SceneLogits:
    """What a faultless network says of a picture that shows this."""
    objects = reading.objects
    centres = np.array([[[seen.x, seen.y] for seen in objects]], np.float32).reshape(1, -1, 2)
    sides = np.array([[seen.size for seen in objects]], np.float32)
    cells, heat, targets = map(np.asarray, all_targets(centres, sides, rows, columns))
    outputs = {
        "concepts": [MODULE.concepts.index(seen.concept) for seen in objects],
        "tints": [MODULE.tints.index(seen.tint or NATURAL) for seen in objects],
        "styles": [MODULE.styles.index(reading.style) for _ in objects],
    }
    rest = {}
    for name, size in (("concepts", 3), ("tints", 3), ("styles", 2)):
        rest[name] = np.zeros((1, rows * columns, size), np.float32)
        rest[name][0, cells[0], outputs[name]] = certainty
    boxes = np.zeros((1, rows * columns, 3), np.float32)
    boxes[0, cells[0]] = targets[0]
    backgrounds = certainty * np.eye(2, dtype=np.float32)[[MODULE.backgrounds.index(reading.background)]]
    logits = np.array(certainty * (2.0 * heat - 1.0), np.float32)
    return SceneLogits(
        logits, rest["concepts"], rest["tints"], boxes, rest["styles"], backgrounds, np.zeros((1, 16), np.float32)
    )


def read_back(reading: SceneReading, rows: int = 16, columns: int = 16, threshold: float = 0.4) -> SceneReading:
    [back] = decode_readings(said(reading, rows, columns), MODULE, threshold)
    return back


def same(one: SceneReading, two: SceneReading) -> None:
    """Assert that both show the same, objects in any order."""
    assert (one.background, one.style, len(one.objects)) == (two.background, two.style, len(two.objects))
    for a, b in zip(*(sorted(r.objects, key=lambda seen: (seen.x, seen.y)) for r in (one, two)), strict=True):
        assert (a.concept, a.tint) == (b.concept, b.tint)
        assert (a.x, a.y, a.size) == pytest.approx((b.x, b.y, b.size), abs=1e-5)


SCENE = SceneReading(
    "snow",
    "flat",
    (
        SeenObject("cat", "", 0.31, 0.27, 0.4),
        SeenObject("hat", "red", 0.7, 0.8, 0.3),
        SeenObject("cat", "blue", 0.9, 0.1, 0.16),
    ),
)


def test_a_sure_reader_gives_sure_probabilities_and_faint_peaks_are_candidates_alone():
    sight = said(SCENE)
    sight.heat[0, 8, 3] = np.log(0.41 / 0.59)  # about as hot as the threshold: there or not
    sight.heat[0, 12, 2] = np.log(0.1 / 0.9)
    [reading] = decode_readings(sight, MODULE, 0.4)
    known = reading.probabilities
    assert len(reading.objects) == 4
    assert sorted(known.presence.round(3).tolist(), reverse=True) == pytest.approx([1, 1, 1, 0.556, 0.0], abs=1e-3)
    assert known.candidates("hat", "red").max() == pytest.approx(1.0, abs=1e-3)
    assert known.candidates("hat", "blue")[:3].max() < 1e-3
    assert known.candidates("nothing known").tolist() == [0.0] * 5
    assert known.background("snow") == pytest.approx(1.0, abs=1e-3)
    assert known.style("flat") > 0.85
    at = known.centres[known.candidates("hat").argmax()]
    assert at.tolist() == pytest.approx([0.7, 0.8], abs=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 24), (24, 16)])
def test_faultless_answers_are_read_back_exactly(rows, columns):
    same(read_back(SCENE, rows, columns), SCENE)
    same(read_back(replace(SCENE, style="3d", objects=()), rows, columns), replace(SCENE, style="3d", objects=()))


def test_the_style_is_that_of_the_objects_together_and_of_no_other_cell():
    sight = said(SCENE)
    sight.styles[0, ~sight.styles[0].any(axis=-1)] = [50.0, 0.0]  # cells that hold no object
    assert decode_readings(sight, MODULE, 0.4)[0].style == "flat"
    cell = 4 * 16 + 4  # the first object is in doubt, the others outvote it
    assert sight.styles[0, cell].tolist() == [0.0, 9.0]
    sight.styles[0, cell] = [17.0, 0.0]
    assert decode_readings(sight, MODULE, 0.4)[0].style == "flat"
    sight.styles[0, cell] = [19.0, 0.0]
    assert decode_readings(sight, MODULE, 0.4)[0].style == "3d"


def test_neighbours_two_cells_apart_are_both_kept():
    for step in ((2, 0), (0, 2), (2, 2), (3, 0), (0, 3)):
        near = SeenObject("dog", "", (7.5 + step[0]) / 16, (7.5 + step[1]) / 16, 0.16)
        scene = replace(SCENE, objects=(SeenObject("cat", "", 7.5 / 16, 7.5 / 16, 0.16), near))
        same(read_back(scene), scene)


def test_eight_touching_objects_are_kept():
    spots = [(x, y) for x in (0.2, 0.5, 0.8) for y in (0.2, 0.5, 0.8)][:8]
    scene = replace(SCENE, objects=tuple(SeenObject("dog", "red", *spot, 0.3) for spot in spots))
    same(read_back(scene), scene)


def test_only_the_hottest_of_neighbouring_cells_is_an_object():
    sight = said(replace(SCENE, objects=(SeenObject("cat", "", 0.5, 0.5, 0.3),)))
    sight.heat[0, 8, 9] = 3.0  # hot, but beside the centre
    [reading] = decode_readings(sight, MODULE, 0.4)
    assert [seen.concept for seen in reading.objects] == ["cat"]


def test_two_peaks_that_mean_the_same_place_are_one_object_the_surer_one():
    sight = said(replace(SCENE, objects=(SeenObject("cat", "", 8.5 / 16, 0.5, 0.5),)))
    sight.heat[0, 8, 10] = 12.0  # surer, two cells to the right, pointing back
    sight.boxes[0, 8 * 16 + 10] = [0.0, -1.9, np.log(8.0)]
    sight.concepts[0, 8 * 16 + 10] = [0, 0, 5]
    [reading] = decode_readings(sight, MODULE, 0.4)
    assert [seen.concept for seen in reading.objects] == ["hat"]


def test_peaks_count_from_the_threshold_on():
    sight = said(SCENE)
    sight.heat[0][sight.heat[0] > 8.9] = np.log(0.6 / 0.4)
    assert len(decode_readings(sight, MODULE, 0.59)[0].objects) == 3
    assert len(decode_readings(sight, MODULE, 0.61)[0].objects) == 0
    assert decode_readings(sight, MODULE, 0.59)[0].objects[0].score == pytest.approx(0.6)


def test_a_natural_tint_has_no_name():
    assert {seen.tint for seen in read_back(SCENE).objects} == {"", "red", "blue"}


LABELS = {
    "background": "beach",
    "style": "flat",
    "objects": [
        {"concept": "cat", "tint": "red", "box": [0.25, 0.1, 0.5, 0.6]},
        {"concept": "dog", "box": [0.5, 0.5, 0.75, 1.0]},
    ],
}


def test_truth_is_what_the_labels_say():
    wanted = true_reading(LABELS, 64, 128)
    assert wanted == SceneReading(
        "beach", "flat", (SeenObject("cat", "red", 0.375, 0.35, 0.5), SeenObject("dog", "", 0.625, 0.75, 0.5))
    )
    assert true_reading({"background": "beach", "objects": []}, 64, 64) == SceneReading("beach", "3d", ())


def test_a_reading_agrees_with_itself_in_any_order_and_with_nothing_else():
    turned = replace(SCENE, objects=SCENE.objects[::-1])
    assert readings_agree(turned, SCENE)
    assert count_matches(turned, SCENE) == 3
    first, *rest = SCENE.objects
    wrong = [
        replace(SCENE, background="beach"),
        replace(SCENE, style="3d"),
        replace(SCENE, objects=tuple(rest)),
        replace(SCENE, objects=(*SCENE.objects, first)),
        *(
            replace(SCENE, objects=(replace(first, **change), *rest))
            for change in ({"concept": "dog"}, {"tint": "red"}, {"x": first.x + 0.21}, {"y": first.y - 0.21})
        ),
    ]
    assert not any(readings_agree(reading, SCENE) for reading in wrong)
    assert readings_agree(replace(SCENE, objects=(replace(first, x=first.x + 0.19), *rest)), SCENE)


def test_places_are_compared_in_sides_whatever_the_frame():
    one, two = (SceneReading("snow", "flat", (SeenObject("cat", "", x, 0.5, 0.4),)) for x in (0.5, 0.65))
    assert readings_agree(one, two, (64, 64))
    assert not readings_agree(one, two, (64, 128))
    assert readings_agree(one, two, (128, 64))


def test_one_object_is_not_found_twice():
    twice = replace(SCENE, objects=(SCENE.objects[0], SCENE.objects[0]))
    assert count_matches(replace(SCENE, objects=SCENE.objects[:1]), twice) == 1


def test_nothing_has_no_style():
    assert readings_agree(SceneReading("snow", "flat", ()), SceneReading("snow", "3d", ()))


@pytest.mark.parametrize(
    ("size", "read_at"),
    [((64, 64), (128, 128)), ((128, 128), (128, 128)), ((256, 384), (128, 192)), ((96, 64), (192, 128))],
)
def test_pictures_are_read_at_a_shorter_side_of_128(size, read_at):
    assert scene_reader.reading_size(*size) == read_at


def test_any_number_of_pictures_runs_one_program_and_neighbours_do_not_matter():
    images = image(BATCH + 3, 32, 32)
    whole = random_reader().features(images)
    assert whole.shape == (BATCH + 3, MODULE.width)
    before = scene_reader.run_scene_reader._cache_size()
    np.testing.assert_allclose(random_reader().features(images[5:7]), whole[5:7], rtol=1e-4, atol=1e-4)
    assert len(random_reader().read(images)) == BATCH + 3
    assert scene_reader.run_scene_reader._cache_size() == before
    assert random_reader().features(images[:0]).shape == (0, MODULE.width)
    assert random_reader().read(images[:0]) == []
    assert np.abs(whole[0] - whole[1]).max() > 1e-3


def test_pixels_reach_the_network_in_its_range():
    levels = np.broadcast_to(np.array([0, 255], np.uint8)[:, None, None, None], (2, 128, 128, 3))
    given = apply(MODULE, random_reader().params, np.float32(levels / 127.5 - 1.0))
    np.testing.assert_allclose(random_reader().features(levels), given.features, rtol=1e-4, atol=1e-4)


def test_a_release_is_loaded_with_its_names(tmp_path):
    save_release(tmp_path / "reader", Release({"reader": MODULE}, {"reader": random_reader().params}), "float32")
    reader = Reader.load(tmp_path / "reader")
    assert reader.module == MODULE
    images = image(2, 32, 32)
    np.testing.assert_allclose(reader.features(images), random_reader().features(images), rtol=1e-5, atol=1e-5)
