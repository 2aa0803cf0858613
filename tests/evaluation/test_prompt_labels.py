"""Labels of prompts as people type them: what is said, or none where a label would ask for something else."""

from pathlib import Path

import numpy as np
import pytest

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.evaluation.prompt_labels import claims_to_labels, label_prompt
from dalle3_jax.evaluation.prompts import VISITORS, Labels, RequestedObject
from dalle3_jax.evaluation.suites import load_suite
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import FAINT, GREEN, RED, SheetLine
from dalle3_jax.prompting.claims import Claims
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.reading.scene_reader import Reader, SceneReading, SeenObject
from scripts.visitors_sheet import draw_prompts, sheet_lines, summary, visitors_sheet
from tests.tiny import tiny_release

LEXICON = world_lexicon(WHOLE)
FILE = Path(__file__).parents[2] / "docs" / "visitors.txt"
PANDA, APPLE = RequestedObject("panda"), RequestedObject("apple")


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        ("bike at night", Labels((RequestedObject("bicycle"),), background="night sky")),
        ("3 red balloons", Labels((RequestedObject("balloon", 3, "red"),))),
        (
            "a red apple and a green apple",
            Labels((RequestedObject("apple", 1, "red"), RequestedObject("apple", 1, "green"))),
        ),
        ("a 🐼 on a 🛹", Labels((PANDA, RequestedObject("skateboard")), ((0, "above", 1),))),
        ("熊猫在海滩上", Labels((PANDA,), background="beach")),
        ("a panda between an apple and a fox", Labels((PANDA, APPLE, RequestedObject("fox")), ((0, "between", 1, 2),))),
        ("an apple in the top left corner", Labels((RequestedObject("apple", place="top left"),))),
        ('a sign that says "HELLO"', Labels(words=("HELLO",))),
    ],
)
def test_what_is_said_is_asked_for(prompt, labels):
    assert label_prompt(prompt, LEXICON) == labels


@pytest.mark.parametrize(
    "prompt", ["a wizard", "a wizard and a panda", "balloons", "a bird", "draw me something nice", ""]
)
def test_what_is_unknown_or_left_open_has_no_labels(prompt):
    assert label_prompt(prompt, LEXICON) is None


@pytest.mark.parametrize(
    "claims",
    [
        Claims({"panda": 1}, backgrounds=("beach", "snow")),
        Claims({"panda": 3}, {"panda": ("red", "blue")}),
        Claims({"panda": 2}, {"panda": ("red", "blue")}, places={"panda": "left"}),
        Claims({"panda": 2, "apple": 1}, {"panda": ("red", "blue")}, (("apple", "above", "panda"),)),
        Claims({"panda": 1}, relations=(("panda", "above", "apple"),)),
        Claims({"panda": 1}, relations=(("panda", "above", "panda"),)),
        Claims({"panda": 1}, words=("TEA SHOP",)),
        Claims({"panda": 1, "apple": 0}),
        Claims(),
    ],
)
def test_what_labels_cannot_say_has_none(claims):
    assert claims_to_labels(claims) is None


def test_numbers_of_relations_count_the_objects_before_them():
    claims = Claims({"apple": 2, "panda": 1}, {"apple": ("red", "blue")}, (), {"panda": "left"})
    both = tuple(RequestedObject("apple", 1, tint) for tint in ("red", "blue"))
    assert claims_to_labels(claims) == Labels((*both, RequestedObject("panda", place="left")))
    more = Claims({**claims.things, "fox": 2}, claims.tints, (("fox", "left of", "panda"),))
    found = claims_to_labels(more)
    assert found
    assert found.relations == ((3, "left of", 2),)


def test_visitors_of_the_suite_are_labelled_as_the_suite_labels_them():
    visitors = [prompt for prompt in load_suite() if prompt.kind == VISITORS]
    for prompt in visitors[::5]:
        assert label_prompt(prompt.text, LEXICON) == prompt.labels, prompt.text


def test_sixty_prompts_are_kept_of_which_the_reader_can_judge_most():
    prompts = FILE.read_text(encoding="utf-8").splitlines()
    assert len(prompts) == len(set(prompts)) == 60
    assert 36 <= sum(label_prompt(prompt, LEXICON) is not None for prompt in prompts) <= 48


class OnePanda(Reader):
    """Sees a panda on a beach in every picture."""

    def read(self, images):
        return [SceneReading("beach", "3d", (SeenObject("panda", "", 0.5, 0.5, 0.5),))] * len(images)


@pytest.mark.parametrize("upsampling", ["none", "template"])
def test_the_sheet_shows_each_prompt_with_what_the_reader_says(upsampling, monkeypatch):
    made = []
    generate = Pipeline.generate
    monkeypatch.setattr(
        Pipeline, "generate", lambda self, rows, **given: made.extend(rows) or generate(self, rows, **given)
    )
    prompts = ["a panda on a beach", "two pandas", "a wizard", 'a sign that says "HI"']
    pipeline = Pipeline(tiny_release())
    found = draw_prompts(pipeline, OnePanda.__new__(OnePanda), None, prompts, upsampling, seed=5)
    assert [request.seed for request in made] == [5, 6, 7, 8]
    assert [one.prompt for one in found] == prompts
    assert [request.prompt for request in made] == [one.revised for one in found]
    assert [one.right for one in found] == [True, False, None, None]
    assert summary(found) == "4 prompts; right by the reader: 1 of 2; by eye: 2"
    ends = [[line for line in sheet_lines(one) if line.colour in (GREEN, RED)] for one in found]
    assert [[line.colour for line in lines] for lines in ends] == [[GREEN], [RED, RED], [], []]
    assert ends[1][-1].text == "wrong: counts"
    assert sheet_lines(found[2])[-1] == SheetLine("by eye", FAINT)
    arrows = [line.text for one in found for line in sheet_lines(one) if line.text.startswith("-> ")]
    assert arrows == ([f"-> {one.revised}" for one in found] if upsampling == "template" else [])
    assert np.asarray(visitors_sheet(found, 2)).ndim == 3
