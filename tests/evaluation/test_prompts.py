"""Prompts and their labels: kept in a file and given back, and refused where they make no sense."""

import json
import re
from dataclasses import replace

import pytest

from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import Placed, Scene
from dalle3_jax.data.scenes.world import Cell
from dalle3_jax.evaluation.prompts import Labels, Prompt, Wanted, check_names, line_of, prompt_of, read_prompts
from dalle3_jax.evaluation.suites import suite

FULL = Prompt(
    id="all-01",
    kind="long descriptions",
    text='a red car between two öwls, "Ü"',
    labels=Labels(
        objects=(Wanted("car", 1, "red", "top left"), Wanted("owl", 2), Wanted("dog")),
        relations=((0, "between", 1, 2), (1, "left of", 2)),
        background="snow",
        style="flat",
        words=("Ü",),
        absent=("frog", "pig"),
    ),
    held_out=True,
    upsampled="A red car.",
    aspect=(7, 4),
    scene=Scene(
        "",
        "",
        (Placed("car", Cell(0.0, 0.25, 0.5, "left"), "red"), Placed("owl", Cell(0.5, 0.0, 0.25, "top"))),
        "snow",
        "flat",
        (Word("Ü", "top", "sign", "red", "Lato"),),
    ),
)
PLAIN = Prompt("one-01", "one object", "a car", Labels((Wanted("car"),)))
ROW = {"id": "x", "kind": "one object", "prompt": "a car", "labels": {"objects": [{"concept": "car"}]}}


@pytest.mark.parametrize("prompt", [FULL, PLAIN, replace(FULL, scene=None)])
def test_a_line_gives_its_prompt_back(prompt):
    assert prompt_of(json.loads(line_of(prompt))) == prompt
    assert "\n" not in line_of(prompt)


def test_every_committed_line_gives_its_prompt_back():
    assert all(prompt_of(json.loads(line_of(prompt))) == prompt for prompt in suite())


def test_only_four_keys_must_be_there():
    assert prompt_of(ROW) == replace(PLAIN, id="x")


def test_prompts_are_read_in_order_without_empty_lines(tmp_path):
    (tmp_path / "suite.jsonl").write_text(f"{line_of(FULL)}\n\n{line_of(PLAIN)}\n", encoding="utf-8")
    assert read_prompts(tmp_path / "suite.jsonl") == [FULL, PLAIN]


def labelled(**labels: object) -> dict[str, object]:
    """A line's values with other labels."""
    return ROW | {"labels": ROW["labels"] | labels}


TWO = [{"concept": "car"}, {"concept": "dog"}]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "a prompt is a JSON object"),
        ({key: ROW[key] for key in ROW if key != "labels"}, "it has no labels"),
        ({"kind": "one object"}, "it has no id, prompt, labels"),
        (ROW | {"labels": {}}, "it has no labels"),
        (ROW | {"prompt": 7}, "prompt must be text"),
        (ROW | {"kind": "portraits"}, "unknown kind 'portraits': use one object, two objects"),
        (ROW | {"colour": "red"}, "unknown keys colour"),
        (ROW | {"text": "a car"}, "unknown keys text"),
        (ROW | {"aspect": [0, 1]}, "aspect [0, 1]: write two whole numbers"),
        (ROW | {"aspect": [1]}, "aspect [1]: write two whole numbers"),
        (ROW | {"aspect": 1.5}, "aspect 1.5: write two whole numbers"),
        (ROW | {"scene": {"objects": []}}, "its scene has no 'background'"),
        (ROW | {"labels": [1]}, "labels must be a JSON object"),
        (labelled(colours=["red"]), "unknown labels colours: use objects, relations"),
        (labelled(words="HI"), "words must be lists"),
        (labelled(objects=[{"concept": "car", "hue": 3}]), "hue"),
        (labelled(objects=[{"concept": "car", "count": 0}]), "0 of 'car'"),
        (labelled(objects=[{"concept": "car", "place": "outside"}]), "no place 'outside'"),
        (labelled(absent=["car"]), "'car' is wanted and absent"),
        *(
            (labelled(objects=TWO, relations=[relation]), f"the relation {relation} is none of left of")
            for relation in (
                [0, "beside", 1],
                [0, "left of", 2],
                [0, "left of", -1],
                [0, "left of", 0],
                [0, "left of"],
                [0, "between", 1],
                [0, "left of", 1, 1],
                [0, 1, 1],
                ["car", "left of", "dog"],
                [True, "left of", 0],
                [],
            )
        ),
    ],
)
def test_what_is_no_prompt_is_refused_with_its_line_and_the_reason(tmp_path, values, reason):
    file = tmp_path / "suite.jsonl"
    file.write_text(f"{line_of(PLAIN)}\n{json.dumps(values)}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=f"suite.jsonl'.*line 2: .*{re.escape(reason)}"):
        read_prompts(file)


def test_every_bad_line_is_named_and_eight_of_many(tmp_path):
    file = tmp_path / "suite.jsonl"
    file.write_text("{\n" * 10, encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1: it is not JSON.*line 8: it is not JSON.*; and 2 more"):
        read_prompts(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"{line_of(PLAIN)}\n{line_of(PLAIN)}\n".encode(), "two prompts have the same id"),
        (b"\n\n", "it holds no prompt"),
        (b"\xff\n", "cannot read the suite"),
    ],
)
def test_files_without_a_suite_are_refused(tmp_path, content, reason):
    file = tmp_path / "suite.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_prompts(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"cannot read the suite .*nowhere\.jsonl"):
        read_prompts(tmp_path / "nowhere.jsonl")


KNOWN = {
    "concepts": ["car", "owl", "dog", "frog", "pig"],
    "tints": ["red"],
    "styles": ["flat"],
    "backgrounds": ["snow"],
}


def test_what_the_reader_knows_passes():
    check_names([FULL, PLAIN], KNOWN)


@pytest.mark.parametrize("kind", KNOWN)
def test_every_name_that_the_reader_does_not_know_is_listed(kind):
    missing = KNOWN[kind][-1]
    with pytest.raises(ValueError, match=f"does not know the {kind} '{missing}'"):
        check_names([FULL, PLAIN], KNOWN | {kind: KNOWN[kind][:-1]})
