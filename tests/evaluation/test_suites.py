"""The committed suite says what its labels ask for; drawn suites are fixed, even, and true to their scenes."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from dalle3_jax.data.scenes import FIRST, SCATTERED, WHOLE, check_words, layouts, record_labels, world_of
from dalle3_jax.data.scenes.captions import object_name, object_with_article
from dalle3_jax.data.scenes.grammar import PICTURES
from dalle3_jax.data.scenes.held_out import HeldOut
from dalle3_jax.data.scenes.scene import PlacedObject
from dalle3_jax.data.scenes.world import Cell
from dalle3_jax.evaluation.checks import ImageReading, run_checks
from dalle3_jax.evaluation.prompts import KINDS, VISITORS, Labels, Prompt, RequestedObject
from dalle3_jax.evaluation.suites import is_held_out, load_suite, sample_prompts, scene_labels
from dalle3_jax.reading.scene_reader import true_reading

SUITE = [prompt for prompt in load_suite() if prompt.kind != VISITORS]
NUMBERS = layouts.NUMBERS
SAYS = {
    "left of": layouts.TO_THE_LEFT,
    "right of": layouts.TO_THE_RIGHT,
    "above": layouts.OVER,
    "below": layouts.UNDER,
}
INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def placed(wanted: RequestedObject) -> PlacedObject:
    """An object like the one wanted."""
    return PlacedObject(wanted.concept, Cell(0.5, 0.5, 0.5, "centre"), wanted.tint)


def name(wanted: RequestedObject) -> str:
    """The one wanted with its tint, as a regular expression."""
    return re.escape(object_name(WHOLE, placed(wanted)))


def test_the_suite_has_fifty_prompts_of_each_kind_half_of_them_held_out():
    assert len(SUITE) == len({prompt.id for prompt in SUITE}) == 600
    assert Counter((prompt.kind, prompt.held_out) for prompt in SUITE) == {
        (kind, held): 25 for kind in KINDS[:-1] for held in (False, True)
    }
    for kind in KINDS[:-1]:
        assert len({prompt.text for prompt in SUITE if prompt.kind == kind}) == 50


def test_held_out_prompts_ask_for_what_training_never_shows_and_the_others_show_nothing_of_it():
    for prompt in SUITE:
        assert is_held_out(WHOLE, prompt.labels) == prompt.held_out, prompt.id
        assert prompt.scene
        shown = replace(prompt.labels, style=prompt.scene.style, background=prompt.scene.background)
        assert is_held_out(WHOLE, shown) == prompt.held_out, prompt.id


def test_the_held_out_half_has_pairs_counts_styles_and_words():
    lists = {"pairs": 0, "counts": 0, "styles": 0, "words": 0}
    for prompt in SUITE:
        for key in lists:
            only = replace(WHOLE, held_out=HeldOut(**{key: getattr(WHOLE.held_out, key)}))
            lists[key] += is_held_out(only, prompt.labels)
    assert min(lists.values()) >= 25


def test_every_text_names_its_objects_with_their_numbers_and_tints():
    for prompt in SUITE:
        for wanted in prompt.labels.objects:
            if wanted.count == 1:
                article = object_with_article(WHOLE, placed(wanted)).split()[0]
                assert re.search(rf"(?i)\b({article}|one|single) {name(wanted)}\b", prompt.text), prompt
            else:
                many = f"{NUMBERS[wanted.count]} {object_name(WHOLE, placed(wanted), number=2)}"
                assert re.search(rf"(?i)\b{many}\b", prompt.text), prompt
        assert sum(wanted.count for wanted in prompt.labels.objects) <= 5


def test_every_text_names_its_places_and_relations():
    for prompt in SUITE:
        assert all(
            any(phrase in prompt.text for phrase in layouts.PHRASES[wanted.place])
            for wanted in prompt.labels.objects
            if wanted.place
        )
        assert not prompt.labels.relations or said(prompt), prompt


def said(prompt: Prompt) -> bool:
    """Whether the text says the relations that its labels ask for."""
    names = [rf"an? {name(wanted)}" for wanted in prompt.labels.objects]
    first, relation, *others = prompt.labels.relations[0]
    if relation == "between":
        a, b, c = (names[int(i)] for i in (first, *others))
        ways = rf"{a} (in )?between {b} and {c}\b", rf"{b} and {c} with {a} (in )?between them"
    elif len(names) == 2:
        a, b, inverse = *names, INVERSE[str(relation)]
        ways = *(f"{a} {way} {b}" for way in SAYS[str(relation)]), *(f"{b} {way} {a}" for way in SAYS[inverse])
    else:
        line = ", ".join(names[:-1]) + f" and {names[-1]}"
        along = {"left of": "left to right", "above": "top to bottom"}[str(relation)]
        ways = (rf"(?s)(?=.*\b{along}\b).*{line}\b",)
        assert prompt.labels.relations == tuple((i, relation, i + 1) for i in range(len(names) - 1))
    return any(re.search(f"(?i){way}" if not way.startswith("(?") else way, prompt.text) for way in ways)


def test_words_stand_in_double_quotes_letter_by_letter_and_fit_small_pictures():
    for prompt in SUITE:
        for text in (prompt.text, prompt.upsampled):
            assert sorted(re.findall(r'"(.*?)"', text)) == sorted(prompt.labels.words), prompt
        assert max(map(len, prompt.labels.words), default=0) <= 10
    check_words(world_of({"words": 1, "longest_word": 10}), 128, 128)


def test_style_and_background_are_labelled_where_they_are_named_and_nowhere_else():
    ways = {row.name: row.phrases + row.scenery for row in WHOLE.backgrounds}
    for prompt in SUITE:
        text = prompt.text.lower()
        styles = {style for style in WHOLE.styles if re.search(rf"\b{style}\b", text)}
        places = {place for place, phrases in ways.items() if any(phrase in text for phrase in phrases)}
        assert (styles or {""}) == {prompt.labels.style}, prompt
        assert (places or {""}) == {prompt.labels.background}, prompt


def test_absent_concepts_are_refused_in_the_text_and_are_nowhere_else():
    for prompt in SUITE:
        assert bool(prompt.labels.absent) == (prompt.kind == "negation")
        for concept in map(WHOLE.concept, prompt.labels.absent):
            assert re.search(rf"\b(no|any) {concept.plural}\b", prompt.text), prompt
            assert concept.name not in {wanted.concept for wanted in prompt.labels.objects}
            assert not re.search(rf"\b({concept.name}|{concept.plural})\b", prompt.upsampled), prompt


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("one object", lambda p: [w.count for w in p.labels.objects] == [1]),
        ("two objects", lambda p: [w.count for w in p.labels.objects] == [1, 1]),
        ("counting", lambda p: len(p.labels.objects) == 1 and p.labels.objects[0].count > 1),
        ("tints", lambda p: all(w.tint for w in p.labels.objects)),
        ("positions", lambda p: p.labels.relations or p.labels.objects[0].place),
        ("style", lambda p: p.labels.style),
        ("words", lambda p: p.labels.words),
        ("long descriptions", lambda p: len(p.text.split()) > 60 and p.labels.relations and p.labels.background),
        ("rare combinations", lambda p: all(w.tint for w in p.labels.objects) and total(p) >= 4),
        ("aspect ratios", lambda p: p.aspect in ((7, 4), (4, 7)) and shaped(p)),
        ("rows of several", lambda p: len(p.labels.objects) >= 3 and p.labels.relations),
    ],
)
def test_a_kind_is_about_what_its_name_says(kind, holds):
    assert [prompt.text for prompt in SUITE if prompt.kind == kind and not holds(prompt)] == []


def total(prompt: Prompt) -> int:
    """How many objects are asked for."""
    return sum(wanted.count for wanted in prompt.labels.objects)


def shaped(prompt: Prompt) -> bool:
    """Whether the text asks for the shape of the frame, and for a line along it."""
    wide = prompt.aspect[0] > prompt.aspect[1]
    along = {"left of", "right of"} if wide else {"above", "below"}
    named_so = re.search("wide|panoramic" if wide else "tall|vertical", prompt.text)
    return bool(named_so) and {relation[1] for relation in prompt.labels.relations} <= along


def test_only_prompts_about_the_aspect_have_one():
    assert {prompt.kind for prompt in SUITE if prompt.aspect != (1, 1)} == {"aspect ratios"}


def test_upsampled_prompts_say_the_same_and_more():
    for prompt in SUITE:
        text, wanted = prompt.upsampled.lower(), prompt.labels
        assert prompt.scene
        assert any(way.lower() in text for way in PICTURES[prompt.scene.style]), prompt
        assert prompt.scene.style == (wanted.style or prompt.scene.style)
        background = WHOLE.background(prompt.scene.background)
        assert any(way in text for way in background.phrases + background.scenery), prompt
        assert background.name == (wanted.background or background.name)
        for one in wanted.objects:
            plural = object_name(WHOLE, placed(one), number=2)
            assert re.search(rf"\b({name(one)}|{plural})\b", text), prompt
            assert one.count == 1 or f"{NUMBERS[one.count]} {plural}" in text, prompt


@pytest.mark.parametrize("world", [FIRST, WHOLE], ids=lambda world: world.name)
@pytest.mark.parametrize("split", ["train", "held_out"])
def test_drawn_suites_are_even_fixed_and_of_their_split(world, split):
    found = sample_prompts(world, 25, split=split)
    assert len(found) == len({prompt.id for prompt in found}) == 25
    kinds = Counter(prompt.scene.kind for prompt in found if prompt.scene)
    assert set(kinds) == {kind.name for kind in world.kinds if kind.weight}
    assert max(kinds.values()) - min(kinds.values()) <= 1
    assert {prompt.held_out for prompt in found} == {split == "held_out"}
    assert sample_prompts(world, 25, split=split) == found
    assert sample_prompts(world, 25, seed=1, split=split) != found


@pytest.mark.parametrize("world", [FIRST, WHOLE], ids=lambda world: world.name)
def test_the_scenes_of_drawn_prompts_are_what_their_labels_ask_for(world):
    for prompt in sample_prompts(world, 120):
        assert prompt.scene
        reading = true_reading(record_labels(world, prompt.scene, 128, 128), 128, 128)
        judged = run_checks(
            ImageReading(reading, tuple(word.text for word in prompt.scene.words), (128, 128)), prompt.labels
        )
        assert all(judged.values()), (prompt, judged)
        assert ("style" in judged) == (world is WHOLE)
        assert ("relations" in judged) == (prompt.scene.kind in ("two", "row", "between"))
        assert ("places" in judged) == (prompt.scene.kind == "one")
        assert all(word in re.findall(r'"(.*?)"', prompt.text) for word in prompt.labels.words)


@pytest.mark.parametrize("world", [FIRST, WHOLE], ids=lambda world: world.name)
def test_the_texts_of_drawn_prompts_name_every_object(world):
    for prompt in sample_prompts(world, 300):
        for wanted in prompt.labels.objects:
            plural = object_name(world, placed(wanted), number=2)
            assert re.search(rf"(?i)\b({name(wanted)}|{plural})\b", prompt.text), prompt.text


def test_labels_of_a_scene_count_alike_objects_together():
    shown = next(prompt.scene for prompt in sample_prompts(FIRST, 6) if prompt.scene and prompt.scene.layout == "three")
    assert shown
    wanted = RequestedObject(shown.objects[0].concept, 3)
    assert scene_labels(FIRST, shown) == Labels((wanted,), background=shown.background)


def test_a_suite_too_small_for_its_kinds_is_refused():
    with pytest.raises(ValueError, match="a count of 5: at least 6 prompts are needed"):
        sample_prompts(FIRST, 5)


def test_a_world_without_anything_held_out_has_no_held_out_suite():
    with pytest.raises(ValueError, match="'whole' holds nothing out of training"):
        sample_prompts(replace(WHOLE, held_out=HeldOut()), 20)


def test_scattered_scenes_are_no_prompts():
    with pytest.raises(ValueError, match="scenes of the kind anywhere"):
        sample_prompts(SCATTERED, 20, split="train")
