"""Prompts and their labels: kept in a file and given back, and refused where they make no sense."""

import json
from dataclasses import replace

import pytest

from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
from dalle3_jax.data.scenes.world import Cell
from dalle3_jax.evaluation.prompts import (
    Labels,
    Prompt,
    RequestedObject,
    parse_prompt,
    prompt_to_json,
    read_prompts,
    unknown_names,
)
from dalle3_jax.evaluation.suites import load_suite

FULL = Prompt(
    id="all-01",
    kind="long descriptions",
    text='a red car between two öwls, "Ü"',
    labels=Labels(
        objects=(RequestedObject("car", 1, "red", "top left"), RequestedObject("owl", 2), RequestedObject("dog")),
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
        (PlacedObject("car", Cell(0.0, 0.25, 0.5, "left"), "red"), PlacedObject("owl", Cell(0.5, 0.0, 0.25, "top"))),
        "snow",
        "flat",
        (Word("Ü", "top", "sign", "red", "Lato"),),
    ),
    group="of two öwls",
)
PLAIN = Prompt("one-01", "one object", "a car", Labels((RequestedObject("car"),)))
ROW = {"id": "x", "kind": "one object", "prompt": "a car", "labels": {"objects": [{"concept": "car"}]}}


@pytest.mark.parametrize("prompt", [FULL, PLAIN, replace(FULL, scene=None)])
def test_a_line_gives_its_prompt_back(prompt):
    assert parse_prompt(json.loads(prompt_to_json(prompt))) == prompt
    assert "\n" not in prompt_to_json(prompt)


def test_every_committed_line_gives_its_prompt_back():
    assert all(parse_prompt(json.loads(prompt_to_json(prompt))) == prompt for prompt in load_suite())


def test_only_four_keys_must_be_there():
    assert parse_prompt(ROW) == replace(PLAIN, id="x")


def test_prompts_are_read_in_order_without_empty_lines(tmp_path):
    (tmp_path / "suite.jsonl").write_text(f"{prompt_to_json(FULL)}\n\n{prompt_to_json(PLAIN)}\n", encoding="utf-8")
    assert read_prompts(tmp_path / "suite.jsonl") == ([FULL, PLAIN], [])


def test_a_byte_order_mark_is_no_part_of_a_suite(tmp_path):
    (tmp_path / "suite.jsonl").write_text(prompt_to_json(FULL), encoding="utf-8-sig")
    assert read_prompts(tmp_path / "suite.jsonl") == ([FULL], [])


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
        (ROW | {"prompt": 7}, "prompt 7 must be text"),
        (ROW | {"upsampled": 5}, "upsampled 5 must be text"),
        (ROW | {"group": ["a"]}, "group ['a'] must be text"),
        (ROW | {"held_out": "no"}, "held_out 'no' must be true or false"),
        (ROW | {"kind": "portraits"}, "unknown kind 'portraits': use one object, two objects"),
        (ROW | {"colour": "red"}, "unknown 'colour' in a prompt: use id, kind, group, prompt"),
        (ROW | {"text": "a car"}, "unknown 'text' in a prompt"),
        (ROW | {"aspect": [0, 1]}, "aspect [0, 1]: write two whole numbers"),
        (ROW | {"aspect": [1]}, "aspect [1]: write two whole numbers"),
        (ROW | {"aspect": 1.5}, "aspect 1.5 must be a list of whole numbers"),
        (ROW | {"aspect": [1.5, 1]}, "aspect [1.5, 1] must be a list of whole numbers"),
        (ROW | {"scene": {"objects": []}}, "its scene has no 'background'"),
        (ROW | {"scene": "a car"}, "scene 'a car' must be a JSON object"),
        (ROW | {"labels": [1]}, "labels [1] must be a JSON object"),
        (ROW | {"labels": {"objects": []}}, "its labels ask for nothing"),
        (ROW | {"labels": {"objects": [], "background": "", "words": []}}, "its labels ask for nothing"),
        (labelled(colours=["red"]), "unknown 'colours' in labels: use objects, relations"),
        (labelled(words="HI"), "words 'HI' must be a list of texts"),
        (labelled(words=[5]), "words [5] must be a list of texts"),
        (labelled(words=["TEA SHOP", ""]), "'TEA SHOP' is not one word; '' is not one word"),
        (labelled(absent=[["pig"]]), "absent [['pig']] must be a list of texts"),
        (labelled(background=["sea"]), "background ['sea'] must be text"),
        (labelled(style=3), "style 3 must be text"),
        (labelled(relations=["left of"]), "relations ['left of'] must be a list of lists"),
        (labelled(objects=["car"]), "objects ['car'] must be a list of JSON objects"),
        (labelled(objects=[{"count": 2}]), "an object has no concept"),
        (labelled(objects=[{"concept": "car", "hue": 3}]), "unknown 'hue' in an object: use concept, count"),
        (labelled(objects=[{"concept": ["a"]}]), "concept ['a'] must be text"),
        (labelled(objects=[{"concept": "car", "tint": 4}]), "tint 4 must be text"),
        (labelled(objects=[{"concept": "car", "count": 1.5}]), "count 1.5 must be a whole number"),
        (labelled(objects=[{"concept": "car", "count": True}]), "count True must be a whole number"),
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
def test_what_is_no_prompt_is_left_out_with_its_line_and_the_reason(tmp_path, values, reason):
    file = tmp_path / "suite.jsonl"
    file.write_text(f"{prompt_to_json(PLAIN)}\n{json.dumps(values)}\n{prompt_to_json(FULL)}\n", encoding="utf-8")
    prompts, (problem,) = read_prompts(file)
    assert prompts == [PLAIN, FULL]
    assert problem.startswith("line 2: ")
    assert reason in problem


def test_the_second_prompt_of_an_id_is_left_out(tmp_path):
    file = tmp_path / "suite.jsonl"
    file.write_text(f"{prompt_to_json(PLAIN)}\n{prompt_to_json(PLAIN)}\n", encoding="utf-8")
    assert read_prompts(file) == ([PLAIN], ["line 2: another prompt has the id 'one-01'"])


def test_a_line_ends_where_the_file_says_and_not_where_unicode_does(tmp_path):
    prompt = replace(PLAIN, text="one\u2028two\x85three")
    line = json.dumps(json.loads(prompt_to_json(prompt)), ensure_ascii=False)
    (tmp_path / "suite.jsonl").write_text(f"{line}\n", encoding="utf-8")
    assert read_prompts(tmp_path / "suite.jsonl") == ([prompt], [])


def test_a_file_of_bad_lines_alone_is_refused_with_eight_of_them(tmp_path):
    file = tmp_path / "suite.jsonl"
    file.write_text("{\n" * 10, encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 1: it is not JSON.*line 8: it is not JSON.*; and 2 more"):
        read_prompts(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
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
    "concept": ["car", "owl", "dog", "frog", "pig"],
    "tint": ["red"],
    "style": ["flat"],
    "background": ["snow"],
}


def test_what_the_reader_knows_passes():
    assert [unknown_names(prompt.labels, KNOWN) for prompt in (FULL, PLAIN)] == ["", ""]


@pytest.mark.parametrize("sort", KNOWN)
def test_every_name_that_the_reader_does_not_know_is_listed(sort):
    assert unknown_names(FULL.labels, KNOWN | {sort: KNOWN[sort][:-1]}) == f"{sort} {KNOWN[sort][-1]!r}"


def test_all_unknown_names_are_listed_together():
    everything = "concept 'car', concept 'owl', concept 'dog', concept 'frog', concept 'pig', "
    everything += "tint 'red', style 'flat', background 'snow'"
    assert unknown_names(FULL.labels, dict.fromkeys(KNOWN, ())) == everything
