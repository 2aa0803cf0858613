"""Captions of the whole world: the descriptive ones say everything and nothing false, the others less."""

import re
from collections import Counter
from itertools import permutations

import pytest

from dalle3_jax.data.scenes import SCATTERED, WHOLE, make_captions, sample_scene, world_of
from dalle3_jax.data.scenes.grammar import PICTURES, SIDES
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
from dalle3_jax.data.scenes.scenery import DETAILS

COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "pink"}
NUMBERS = ("no", "one", "two", "three", "four", "five")
BEFORE = {"left": ("x", 1), "right": ("x", -1)}
BEFORE |= dict.fromkeys(("above", "over"), ("y", 1)) | dict.fromkeys(("below", "under", "underneath"), ("y", -1))
FORMS = sorted({form for row in WHOLE.concepts for form in (row.name, row.plural)}, key=len, reverse=True)
TINTED = f"(?:(?:{'|'.join(COLOURS)}) )?"
NAMES = re.compile(rf"\b({TINTED}(?:{'|'.join(map(re.escape, FORMS))})|{'|'.join(COLOURS)})\b")


@pytest.fixture(scope="module")
def samples():
    """Scenes and their captions."""
    scenes = [sample_scene(WHOLE, 9, index) for index in range(2_500)]
    return [(shown, make_captions(WHOLE, shown, 9, index)) for index, shown in enumerate(scenes)]


def names_of(placed, number=1):
    concept = WHOLE.concept(placed.concept)
    return f"{placed.tint} {concept.name if number == 1 else concept.plural}".strip()


def groups(shown):
    """The objects of a scene by how they are called: name, plural and number."""
    numbers = Counter(placed.concept for placed in shown.objects)
    first = {placed.concept: placed for placed in shown.objects}
    return [(names_of(first[name]), names_of(first[name], 2), number) for name, number in numbers.items()]


def without_background(shown, text):
    """A text in small letters without what it says of the background, and without its sentences about words."""
    text = " ".join(sentence for sentence in re.split(r"(?<=\.) ", text) if '"' not in sentence).lower()
    background = WHOLE.background(shown.background)
    for said in sorted(DETAILS[shown.background] + background.scenery + background.phrases, key=len, reverse=True):
        text = text.replace(said, "")
    return text


def others_named(shown, text):
    """The concepts and colours of which a text speaks beside those that are there."""
    there = {form for name, plural, _ in groups(shown) for form in (name, plural)}
    return [name for name in NAMES.findall(text) if name not in there]


def test_every_concept_is_named_in_its_number_and_tint_and_no_other(samples):
    for shown, said in samples:
        text = without_background(shown, said["descriptive"])
        for name, plural, number in groups(shown):
            told = rf"\b{NUMBERS[number]} {plural}\b" if number > 1 else rf"\b(a|an) {name}\b"
            assert re.search(told, text), said["descriptive"]
            assert not re.search(rf"\b({'|'.join(set(NUMBERS[1:]) - {NUMBERS[number]})}) {plural}\b", text)
        assert not others_named(shown, text), said["descriptive"]


@pytest.mark.parametrize("lie", ["chess pawn", "ears of corn", "purple car", "pink", "teddy bear", "hot dog"])
def test_the_search_for_other_names_finds_those_of_several_words(lie):
    cell = WHOLE.layout("one", "centre").cells[0]
    panda, bear, dog = (
        Scene("one", "centre", (PlacedObject(name, cell),), "beach") for name in ("panda", "bear", "dog")
    )
    assert [
        others_named(shown, f"a panda, a bear and a dog with a {lie} there.")[-1] for shown in (panda, bear, dog)
    ] == [lie] * 3


def test_things_are_introduced_once(samples):
    for shown, said in samples:
        text = without_background(shown, said["descriptive"])
        for name in (name for name, _, number in groups(shown) if number == 1):
            assert len(re.findall(rf"\ban? {name}\b", text)) == 1, said["descriptive"]


def test_exact_numbers_are_right(samples):
    told = 0
    for shown, said in samples:
        for number in re.findall(r"exactly (\w+)", said["descriptive"]):
            assert number == NUMBERS[len(shown.objects)]
            told += 1
    assert told > 80


def test_the_background_and_the_style_are_told_and_no_others(samples):
    ways = {row.name: row.scenery + row.phrases + DETAILS[row.name] for row in WHOLE.backgrounds}
    for shown, said in samples:
        text = said["descriptive"].lower()
        told = [row.name for row in WHOLE.backgrounds if any(way in text for way in row.scenery + row.phrases)]
        assert shown.background in told
        rest = text
        for way in sorted(ways[shown.background], key=len, reverse=True):
            rest = rest.replace(way, "")
        assert not [row for row, others in ways.items() for way in others if way in rest], text
        styles = {style for style, ways in PICTURES.items() if any(way.lower() in text for way in ways)}
        assert styles == {shown.style}, text


def test_words_are_quoted_exactly_with_their_colour_and_place(samples):
    for shown, said in samples:
        text = said["descriptive"]
        assert re.findall(r'"([^"]*)"', text) == [word.text for word in shown.words]
        for word in shown.words:
            (sentence,) = re.findall(rf'(?:^|\. )([^."]*"{word.text}"[^.]*\.)', text)
            assert re.search(rf"\b{word.colour}\b", sentence.lower())
            assert bool(re.search(r"\b(top|upper)\b", sentence)) == (word.slot == "top")
            assert bool(re.search(r"\b(bottom|lower)\b", sentence)) == (word.slot == "bottom")
            assert {"sign": "white sign", "banner": "banner", "free": ""}[word.on] in sentence
            assert ("sign" in sentence, "banner" in sentence) == (word.on == "sign", word.on == "banner")


def test_descriptive_captions_are_sentences_of_20_to_120_words(samples):
    for _, said in samples:
        text = said["descriptive"]
        assert 20 <= len(text.split()) <= 120, text
        assert text.endswith(".")
        assert not re.search(r"(^|\. )[a-z]|  | [.,;:]|\.\.|\{", text), text
        plain = re.sub(r'"[^"]*"', "", f"{text} {said['short']}").lower()
        assert not re.search(
            r"\ba (?!unicorn)[aeiou]|\ban (?!hourglass)[^aeiou]|\bthe (the|an?)\b|\ban? an?\b", plain
        ), text


def test_places_of_single_objects_are_told(samples):
    phrases = {phrase: place.name for place in WHOLE.places for phrase in place.phrases}
    ways = "|".join(sorted(map(re.escape, phrases), key=len, reverse=True))
    for shown, said in samples:
        if shown.kind == "one":
            text = without_background(shown, said["descriptive"])
            assert {phrases[way] for way in re.findall(rf"\b({ways})\b", text)} == {shown.layout}, text


def test_relations_of_two_are_told_either_way_round(samples):
    told = Counter()
    words = "|".join(sorted(BEFORE, key=len, reverse=True))
    for shown, said in samples:
        for a, b in permutations(shown.objects) if shown.kind == "two" else ():
            verbs = "(?:is|has been placed|appears)"
            between = rf"\b{names_of(a)} {verbs} (?:to the |on the )?({words})(?: of)? the {names_of(b)}\b"
            if match := re.search(between, said["descriptive"], re.IGNORECASE):
                axis, sign = BEFORE[match[1].lower()]
                assert sign * (getattr(b.cell, axis) - getattr(a.cell, axis)) > 0.2, said["descriptive"]
                told[a is shown.objects[0]] += 1
    assert min(told[True], told[False]) > 60
    assert not [said for _, said in samples if "on top of" in said["descriptive"]]  # they never touch


def test_rows_are_listed_from_the_end_that_is_named(samples):
    for shown, said in samples:
        if shown.kind == "row":
            text, down = without_background(shown, said["descriptive"]), shown.layout.startswith("column")
            axis = "y" if down else "x"
            order = [names_of(p) for p in sorted(shown.objects, key=lambda p, axis=axis: getattr(p.cell, axis))]
            assert ("from top to bottom" in text, "from left to right" in text) == (down, not down)
            found = re.findall(rf"\b({'|'.join(sorted(map(re.escape, order), key=len, reverse=True))})\b", text)
            assert found == order * 2, said["descriptive"]


def test_what_stands_between_is_told_and_what_is_on_either_side_of_it(samples):
    side = {way: place for place, ways in SIDES.items() for way in ways}
    ways = "|".join(sorted(side, key=len, reverse=True))
    for shown, said in samples:
        if shown.kind == "between":
            text, middle = said["descriptive"].lower(), shown.objects[0]
            name = names_of(middle)
            assert re.search(rf"\bthe {name} (is|has its place) between\b|stands the {name}\b", text)
            for outer in shown.objects[1:]:
                name = names_of(outer)
                told = re.search(rf"\bthe {name} (?:is )?({ways})\b", text) or re.search(
                    rf"\b({ways}) is the {name}\b", text
                )
                assert told, text
                x, y = outer.cell.x - middle.cell.x, outer.cell.y - middle.cell.y
                sides = ("left" if x < 0 else "right") if abs(x) > abs(y) else "top" if y < 0 else "bottom"
                assert side[told[1]] == sides, text


def test_short_captions_are_the_things_alone(samples):
    for shown, said in samples:
        parts = [rf"{NUMBERS[n]} {plural}" if n > 1 else rf"(?:a|an) {name}" for name, plural, n in groups(shown)]
        listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        assert re.fullmatch(listed, said["short"])


def test_alternative_texts_are_short_and_sometimes_wrong(samples):
    others = [others_named(shown, said["alt"].replace(shown.background, "")) for shown, said in samples]
    assert {len(said["alt"].split()) for _, said in samples} <= set(range(1, 31))
    assert 0.1 < sum(map(bool, others)) / len(samples) < 0.25
    pairs = [
        {one, other}
        for (shown, _), found in zip(samples, others, strict=True)
        for one in shown.concepts
        for other in found
    ]
    assert not [pair for pair in pairs if pair in WHOLE.held_out.pairs]


def test_alternative_texts_of_a_world_without_other_concepts_name_its_background():
    world = world_of({"concepts": ["panda"], "backgrounds": ["beach"], "kinds": ["one"], "words": 0})
    said = [
        (shown, make_captions(world, shown, 0, i)["alt"]) for i in range(200) for shown in [sample_scene(world, 0, i)]
    ]
    assert not [text for shown, text in said if others_named(shown, text)]
    assert "panda and beach" in {text for _, text in said}


@pytest.mark.parametrize("index", range(0, 400, 4))
def test_scattered_scenes_are_spoken_of_even_when_empty(index):
    shown = sample_scene(SCATTERED, 2, index)
    said = make_captions(SCATTERED, shown, 2, index)
    assert said["descriptive"].endswith(".")
    assert "{" not in "".join(said.values())
    assert ("nothing" in said["short"]) == (not shown.objects)
