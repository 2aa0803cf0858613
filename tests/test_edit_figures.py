"""The scripts that measure edits and variations, on a tiny model and a reader that sees nothing of use."""

import dataclasses

import numpy as np
import pytest

from dalle3_jax.pipeline import Pipeline
from dalle3_jax.reading.scene_reader import SceneReading, SeenObject
from scripts import edit_figures, variation_figures
from tests.tiny import tiny_release


class Eyes:
    """A reader that finds a fox in the left half and an owl in the right one of every picture."""

    def read(self, images):
        things = SeenObject("fox", "", 0.25, 0.5, 0.3), SeenObject("owl", "", 0.75, 0.5, 0.3)
        return [SceneReading("beach", "3d", things) for _ in images]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    training = {"config": {"data": {"source": "scenes", "world": "first"}}}
    release = dataclasses.replace(tiny_release(), training=training, text={"length": 320})
    return Pipeline(dataclasses.replace(release, sampling={**release.sampling, "steps": 2}))


def test_edits_are_counted_beside_their_controls(pipeline, monkeypatch):
    monkeypatch.setattr(edit_figures, "ROUND_TRIPS", (2,))
    monkeypatch.setattr(edit_figures, "BATCH", 1)
    rows, sheet = edit_figures.measure_edits(pipeline, Eyes(), 2, lambda picture, prompt: True)
    assert [row[0] for row in rows] == [
        "drawn right",
        *(f"in words: {kind}" for kind in ("background", "thing", "place")),
        "inpainting: thing in the left half",
        "inversion: 2 steps there and back",
    ]
    assert rows[0][1] == "2 of 2"
    assert rows[1][1] == "2 of 2 (100% to 100%)"
    assert "as it was 2, drawn anew 2" in rows[1][2]
    assert "values changed outside 0" in rows[4][2]
    assert [len(row) for row in sheet] == [5, 5]


def test_a_model_that_draws_nothing_right_is_not_measured(pipeline, monkeypatch):
    monkeypatch.setattr(edit_figures, "BATCH", 1)
    monkeypatch.setattr(edit_figures, "MOST_DRAWN", 1)
    with pytest.raises(ValueError, match="none of 2 pictures is right: this model is too weak"):
        edit_figures.measure_edits(pipeline, Eyes(), 2, lambda picture, prompt: False)


def test_prompts_of_scenes_differ_and_meet_every_place():
    prompts = edit_figures.scene_prompts(0, 120)
    assert len({*prompts}) == 120
    assert all(sum(f"in the {place}." in prompt for prompt in prompts) == 24 for place in edit_figures.PLACES)


def test_variations_and_outpainting_are_measured(pipeline, monkeypatch):
    monkeypatch.setattr(edit_figures, "BATCH", 1)
    monkeypatch.setattr(variation_figures, "STRENGTHS", (0.5,))
    pictures, _ = variation_figures.choose_pictures(pipeline, Eyes(), 1, lambda picture, prompt: True)
    rows = variation_figures.compare_variations(pipeline, Eyes(), pictures)
    assert [row[:3] for row in rows] == [
        ("image to image, strength 0.5", "100%", "0.00"),
        ("description alone", "100%", "0.00"),
        ("image to image at that keeping", "100%", "0.00"),
    ]
    assert all(float(row[3]) > 0 for row in rows)
    shape, changed, kept, ground, *steps = variation_figures.outpaint_to(pipeline, Eyes(), pictures, "2:1")
    assert (shape, changed, kept, ground) == ("2:1", "0", "100%", "1 of 1")
    assert all(float(step) > 0 for step in steps)


def test_things_are_matched_once_by_their_names():
    fox, owl = Eyes().read([None])[0].objects
    far = dataclasses.replace(fox, x=0.75, y=0.9)
    before, after = SceneReading("", "", (fox, fox, owl)), SceneReading("", "", (far,))
    [shift] = variation_figures.match_things(before, after)
    assert shift == pytest.approx(np.hypot(0.5, 0.4))


def test_image_to_image_is_compared_at_equal_keeping():
    near = {s: variation_figures.Likeness(kept, 0.1, levels) for s, kept, levels in ((0.4, 0.8, 10), (0.8, 0.4, 30))}
    assert variation_figures.equal_keeping(near, 0.6) == ("60%", "0.10", "20.0")
    assert variation_figures.equal_keeping(near, 0.3)[1] == "beyond the strengths tried"


def test_steps_across_an_edge_are_told_from_others():
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:] = 50
    assert variation_figures.edge_steps(pixels, (0, 2, 4, 6)) == (50.0, 0.0)
