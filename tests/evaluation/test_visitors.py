"""Visitors' prompts: people's language, labels that say what it says and no more, groups that can be counted."""

import hashlib
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.data.scenes.naming import SYNONYMS
from dalle3_jax.data.scenes.scenery import ALSO_THERE
from dalle3_jax.data.scenes.typed import SHARED
from dalle3_jax.evaluation.checks import ImageReading, applicable_checks, run_checks
from dalle3_jax.evaluation.outcomes import Outcome, rate_rows
from dalle3_jax.evaluation.prompts import VISITORS, Labels, Prompt, RequestedObject
from dalle3_jax.evaluation.suites import COMMITTED, is_held_out, load_named_prompts, load_suite, pick_evenly
from dalle3_jax.prompting.claims import parse_claims
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.translation import translate
from dalle3_jax.prompting.unknown_words import unknown_words
from dalle3_jax.reading.scene_reader import SceneReading, SeenObject

ROOT = Path(__file__).parents[2]
LEXICON = world_lexicon(WHOLE)
PROMPTS = [prompt for prompt in load_suite() if prompt.kind == VISITORS]
GROUPS = {
    "one thing on a background": (80, 0),
    "one thing": (25, 0),
    "two things": (0, 25),
    "counts": (0, 20),
    "tints": (8, 12),
    "words": (0, 15),
    "places and relations": (5, 10),
}
"""Prompts whose combination training shows, and those whose combination it never shows."""

FORMER = "02c31d3b965329c41b19a7f87bd54fb1067993bcb155cd42c5fb68d32767934d"


def members(group: str) -> list[Prompt]:
    return [prompt for prompt in PROMPTS if prompt.group == group]


def numbers(prompt: Prompt) -> list[int]:
    return [wanted.count for wanted in prompt.labels.objects]


def test_two_hundred_prompts_stand_behind_the_six_hundred_which_are_as_they_were():
    lines = COMMITTED.read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["kind"] == VISITORS for line in lines] == [False] * 600 + [True] * 200
    assert hashlib.sha256(b"".join(lines[:600])).hexdigest() == FORMER
    assert all(b'"group"' not in line for line in lines[:600])
    assert len({prompt.id for prompt in PROMPTS}) == len({prompt.text for prompt in PROMPTS}) == 200


def test_the_script_writes_the_committed_file(tmp_path):
    file = tmp_path / "suite.jsonl"
    subprocess.run([sys.executable, ROOT / "scripts/make_suite.py", "--file", file], check=True, cwd=ROOT)
    assert file.read_bytes() == COMMITTED.read_bytes()


def test_the_groups_have_their_sizes_and_ids_and_are_held_out_where_anything_is():
    found = Counter((prompt.group, prompt.held_out) for prompt in PROMPTS)
    assert {group: (found[group, False], found[group, True]) for group in GROUPS} == GROUPS
    assert sum(found.values()) == 200
    for group in GROUPS:
        assert [p.id for p in members(group)] == [
            f"visitors-{group.replace(' ', '-')}-{i:02}" for i in range(1, len(members(group)) + 1)
        ]
    for prompt in PROMPTS:
        assert is_held_out(WHOLE, prompt.labels) == prompt.held_out, prompt.id
        assert prompt.scene
        shown = replace(prompt.labels, style=prompt.scene.style, background=prompt.scene.background)
        assert is_held_out(WHOLE, shown) == prompt.held_out, prompt.id


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.id)
def test_a_text_says_what_its_labels_ask_for_and_nothing_else(prompt):
    said, wanted = parse_claims(translate(prompt.text, LEXICON).text, LEXICON), prompt.labels
    names = [one.concept for one in wanted.objects]
    assert said.things == {one.concept: one.count for one in wanted.objects}
    assert {name: tints for name, tints in said.tints.items() if tints} == {
        one.concept: (one.tint,) for one in wanted.objects if one.tint
    }
    assert said.places == {one.concept: one.place for one in wanted.objects if one.place}
    assert said.relations == tuple(
        tuple(names[part] if isinstance(part, int) else part for part in relation) for relation in wanted.relations
    )
    assert said.backgrounds == ((wanted.background,) if wanted.background else ())
    assert said.words == wanted.words
    assert (wanted.style, wanted.absent) == ("", ())
    assert unknown_words(prompt.text, LEXICON) == ()


@pytest.mark.parametrize(
    ("group", "holds"),
    [
        ("one thing on a background", lambda p: numbers(p) == [1] and p.labels.background),
        ("one thing", lambda p: p.labels == Labels(p.labels.objects) and numbers(p) == [1]),
        ("two things", lambda p: numbers(p) == [1, 1] and not p.labels.relations),
        ("counts", lambda p: len(numbers(p)) == 1 and 2 <= numbers(p)[0] <= 5),
        ("tints", lambda p: p.labels.objects and all(one.tint for one in p.labels.objects)),
        ("words", lambda p: [3 <= len(word) <= 8 for word in p.labels.words] == [True]),
        ("places and relations", lambda p: p.labels.relations or p.labels.objects[0].place),
    ],
)
def test_a_group_is_about_what_its_name_says(group, holds):
    assert [prompt.text for prompt in members(group) if not holds(prompt)] == []
    if group in ("tints", "words"):
        assert [prompt.text for prompt in PROMPTS if prompt.group != group and holds(prompt)] == []


def test_one_thing_is_asked_for_exactly_once_and_alone():
    for prompt in members("one thing on a background") + members("one thing"):
        checks = {"objects", "counts", "nothing else"} | ({"background"} if prompt.labels.background else set())
        assert set(applicable_checks(prompt.labels)) == checks
        (wanted,) = prompt.labels.objects
        assert wanted == RequestedObject(wanted.concept)
        once, more = SeenObject(wanted.concept, "", 0.5, 0.5, 0.5), SeenObject("unheard of", "", 0.2, 0.2, 0.1)
        for objects, right in (((once,), True), ((once, once), False), ((once, more), False), ((), False)):
            sight = ImageReading(SceneReading(prompt.labels.background or "sea", "flat", objects), (), (64, 64))
            assert all(run_checks(sight, prompt.labels).values()) == right


def test_things_backgrounds_numbers_and_words_vary():
    alone = [p.labels.objects[0].concept for g in ("one thing on a background", "one thing") for p in members(g)]
    assert len(set(alone)) == 105
    there = Counter(prompt.labels.background for prompt in members("one thing on a background"))
    assert set(there) == {background.name for background in WHOLE.backgrounds}
    assert max(there.values()) - min(there.values()) <= 2
    assert set(Counter(numbers(p)[0] for p in members("counts"))) == {2, 3, 4, 5}
    assert len({word for p in PROMPTS for word in p.labels.words}) == 15
    assert len({p.labels.objects[0].place for p in members("places and relations")} - {""}) == 5
    relations = {relation[1] for p in members("places and relations") for relation in p.labels.relations}
    assert relations == {"left of", "right of", "above", "below", "between"}


def test_no_thing_stands_where_its_background_shows_it_too_nor_has_a_look_that_training_never_showed():
    for prompt in PROMPTS:
        assert prompt.scene
        assert prompt.scene.style == "3d"
        assert not {*prompt.scene.concepts} & ALSO_THERE.get(prompt.scene.background, set())
        assert not {(name, "3d") for name in prompt.scene.concepts} & WHOLE.held_out.styles


def test_people_type_lower_case_digits_other_names_and_leave_articles_out():
    plain = [re.sub('".*?"', "", prompt.text) for prompt in PROMPTS]
    assert [text for text in plain if text != text.lower()] == []
    assert sum(bool(re.search(r"\d", text)) for text in plain) >= 10
    assert sum(text.startswith(("a ", "an ")) for text in plain) < 100
    bare = [p.text for p in members("one thing") if p.text == p.labels.objects[0].concept]
    assert len(bare) >= 4
    other = [
        prompt.text
        for prompt in PROMPTS
        for one in prompt.labels.objects
        if WHOLE.concept(one.concept).name not in prompt.text and WHOLE.concept(one.concept).plural not in prompt.text
    ]
    assert 30 <= len(other) <= 80
    assert all(
        any(name.text in text or name.plural in text for row in SYNONYMS.values() for name in row) for text in other
    )


def test_no_prompt_begins_or_ends_as_the_training_captions_of_that_sort_do():
    begins, ends = (tuple({*SHARED[key]}) for key in ("wish", "filler")), tuple(SHARED["ending"])
    for opening in begins:
        assert [p.text for p in PROMPTS if p.text.startswith(tuple(f"{text} " for text in opening))] == []
    assert [p.text for p in PROMPTS if p.text.endswith(ends)] == []


@pytest.mark.parametrize("name", ["visitors", "two objects"])
def test_a_kind_can_be_asked_for_alone(name):
    prompts, world, problems = load_named_prompts(name)
    assert prompts == [prompt for prompt in load_suite() if prompt.kind == name]
    assert (world, problems) == (WHOLE, [])
    some, _, _ = load_named_prompts(name, 20)
    assert len(some) == 20
    assert {prompt.held_out for prompt in some} == {True, False}
    assert len(load_named_prompts("scenes")[0]) == 800


def test_a_few_of_them_are_of_all_groups():
    assert {prompt.group for prompt in pick_evenly(PROMPTS, 40)} == set(GROUPS)
    assert Counter(p.group for p in PROMPTS[:100])["one thing on a background"] == 40


def outcome(prompt: Prompt, *, right: bool) -> Outcome:
    """A picture that shows the one thing of a prompt, or nothing."""
    there = prompt.labels.background or "sea"
    objects = tuple(SeenObject(one.concept, one.tint, 0.5, 0.5, 0.5) for one in prompt.labels.objects if right)
    sight = ImageReading(SceneReading(there, "3d", objects), (), (8, 8))
    picture = np.zeros((8, 8, 3), np.uint8)
    return Outcome(prompt, "short", 0, 0, picture, sight, run_checks(sight, prompt.labels))


def test_groups_have_lines_of_their_own_and_the_other_kinds_one_together():
    placed, alone = members("one thing on a background")[:4], members("one thing")[:3]
    plain = [Prompt(f"p{i}", "one object", "a car", Labels((RequestedObject("car"),))) for i in range(2)]
    visitors = [outcome(p, right=i < 3) for i, p in enumerate(placed)] + [outcome(p, right=False) for p in alone]
    both = rate_rows([*visitors, *(outcome(p, right=True) for p in plain)], [])
    lines = {name: (row.model.value, row.model.prompts) for name, row in both.items() if not name.startswith("check")}
    assert lines == {
        "all prompts": (pytest.approx(5 / 9), 9),
        "all but visitors": (1.0, 2),
        "visitors": (pytest.approx(3 / 7), 7),
        "visitors: one thing on a background": (0.75, 4),
        "visitors: one thing": (0.0, 3),
        "one object": (1.0, 2),
    }
    assert "all but visitors" not in rate_rows(visitors, [])
    assert not [name for name in rate_rows([outcome(p, right=True) for p in plain], []) if "visitors" in name]


def test_no_two_prompts_ask_for_the_same():
    assert not [(a.text, b.text) for a, b in combinations(PROMPTS, 2) if a.labels == b.labels]
