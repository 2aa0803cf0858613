"""Captions of the whole world: the descriptive ones say everything and nothing false, the others less."""

import re
from collections import Counter
from itertools import permutations

import pytest

from dalle3_jax.data.scenes import SCATTERED, WHOLE, captions, scene
from dalle3_jax.data.scenes.grammar import DETAILS, PICTURES

SAMPLES = [(s := scene(WHOLE, 9, i), captions(WHOLE, s, 9, i)) for i in range(2_500)]
COLOURS = {"red", "orange", "yellow", "green", "blue", "purple", "pink"}
NUMBERS = ("no", "one", "two", "three", "four", "five")
BEFORE = {"left": ("x", 1), "right": ("x", -1)}
BEFORE |= dict.fromkeys(("above", "over", "on top"), ("y", 1)) | dict.fromkeys(
    ("below", "under", "underneath"), ("y", -1)
)


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


def test_every_concept_is_named_in_its_number_and_tint_and_no_other():
    others = {form for concept in WHOLE.concepts for form in (concept.name, concept.plural)}
    for shown, said in SAMPLES:
        text, expected = without_background(shown, said["descriptive"]), groups(shown)
        for name, plural, number in expected:
            told = rf"\b{NUMBERS[number]} {plural}\b" if number > 1 else rf"\b(a|an) {name}\b"
            assert re.search(told, text), said["descriptive"]
            assert not re.search(rf"\b({'|'.join(set(NUMBERS[1:]) - {NUMBERS[number]})}) {plural}\b", text)
        for form in sorted({form for name, plural, _ in expected for form in (name, plural)}, key=len, reverse=True):
            text = text.replace(form, "")
        found = [form for form in re.findall(r"[\w-]+", text) if form in others | COLOURS]
        assert not found, (found, said["descriptive"])


def test_exact_numbers_are_right():
    told = 0
    for shown, said in SAMPLES:
        for number in re.findall(r"exactly (\w+)", said["descriptive"]):
            assert number == NUMBERS[len(shown.objects)]
            told += 1
    assert told > 80


def test_the_background_and_the_style_are_told_and_no_others():
    for shown, said in SAMPLES:
        text = said["descriptive"].lower()
        told = [row.name for row in WHOLE.backgrounds if any(way in text for way in row.scenery + row.phrases)]
        assert shown.background in told
        mine = WHOLE.background(shown.background)
        rest = text
        for way in sorted(mine.scenery + mine.phrases, key=len, reverse=True):
            rest = rest.replace(way, "")
        assert not [row.name for row in WHOLE.backgrounds for way in row.scenery if way in rest], text
        styles = {style for style, ways in PICTURES.items() if any(way.lower() in text for way in ways)}
        assert styles == {shown.style}, text


def test_words_are_quoted_exactly_with_their_colour_and_place():
    for shown, said in SAMPLES:
        text = said["descriptive"]
        assert re.findall(r'"([^"]*)"', text) == [word.text for word in shown.words]
        for word in shown.words:
            (sentence,) = re.findall(rf'(?:^|\. )([^."]*"{word.text}"[^.]*\.)', text)
            assert re.search(rf"\b{word.colour}\b", sentence.lower())
            assert bool(re.search(r"\b(top|upper)\b", sentence)) == (word.slot == "top")
            assert bool(re.search(r"\b(bottom|lower)\b", sentence)) == (word.slot == "bottom")
            assert {"sign": "white sign", "banner": "banner", "free": ""}[word.on] in sentence
            assert ("sign" in sentence, "banner" in sentence) == (word.on == "sign", word.on == "banner")


def test_descriptive_captions_are_sentences_of_20_to_120_words():
    for _, said in SAMPLES:
        text = said["descriptive"]
        assert 20 <= len(text.split()) <= 120, text
        assert text.endswith(".")
        assert not re.search(r"(^|\. )[a-z]|  | [.,;:]|\.\.|\{", text), text
        plain = re.sub(r'"[^"]*"', "", f"{text} {said['short']}").lower()
        assert not re.search(
            r"\ba (?!unicorn)[aeiou]|\ban (?!hourglass)[^aeiou]|\bthe (the|an?)\b|\ban? an?\b", plain
        ), text


def test_places_of_single_objects_are_told():
    phrases = {phrase: place.name for place in WHOLE.places for phrase in place.phrases}
    ways = "|".join(sorted(map(re.escape, phrases), key=len, reverse=True))
    for shown, said in SAMPLES:
        if shown.kind == "one":
            text = without_background(shown, said["descriptive"])
            assert {phrases[way] for way in re.findall(rf"\b({ways})\b", text)} == {shown.layout}, text


def test_relations_of_two_are_told_either_way_round():
    told = Counter()
    words = "|".join(sorted(BEFORE, key=len, reverse=True))
    for shown, said in SAMPLES:
        for a, b in permutations(shown.objects) if shown.kind == "two" else ():
            between = rf"\b{names_of(a)} is (?:to the |on the )?({words})(?: of)? (?:a|an|the) {names_of(b)}\b"
            if match := re.search(between, said["descriptive"], re.IGNORECASE):
                axis, sign = BEFORE[match[1].lower()]
                assert sign * (getattr(b.cell, axis) - getattr(a.cell, axis)) > 0.2, said["descriptive"]
                told[a is shown.objects[0]] += 1
    assert min(told[True], told[False]) > 60


def test_rows_are_listed_from_the_end_that_is_named():
    for shown, said in SAMPLES:
        if shown.kind == "row":
            text, down = without_background(shown, said["descriptive"]), shown.layout.startswith("column")
            axis = "y" if down else "x"
            order = sorted(shown.objects, key=lambda placed, axis=axis: getattr(placed.cell, axis))
            assert ("top to bottom" in text, "left to right" in text) == (down, not down)
            article = r"(?:a|an) "
            listed = ", ".join(article + names_of(placed) for placed in order[:-1])
            listed += " and " + article + names_of(order[-1])
            after = text[text.index("top to bottom" if down else "left to right") :]
            assert re.search(rf"^[\w ]+:? ?(?:they are|one sees|is|) ?{listed}\.", after), text


def test_what_stands_between_is_told():
    for shown, said in SAMPLES:
        if shown.kind == "between":
            x, y, z = (names_of(placed) for placed in shown.objects)
            a, b, c = (rf"(?:a|an) {name}" for name in (x, y, z))
            ways = (
                f"the {x} is between the {y} and the {z}",
                f"{a} stands between {b} and {c}",
                f"between the {y} and the {z} there is {a}",
                f"on one side of the {x} is {b}, and on the other side is {c}; the {x} is between them",
            )
            assert any(re.search(way, said["descriptive"].lower()) for way in ways), said["descriptive"]


def test_short_captions_are_the_things_alone():
    for shown, said in SAMPLES:
        parts = [rf"{NUMBERS[n]} {plural}" if n > 1 else rf"(?:a|an) {name}" for name, plural, n in groups(shown)]
        listed = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
        assert re.fullmatch(listed, said["short"])


def test_alternative_texts_are_short_and_sometimes_wrong():
    wrong = 0
    for shown, said in SAMPLES:
        assert 1 <= len(said["alt"].split()) <= 30
        text = re.sub(r"[\d.|]", " ", said["alt"])
        shown_names = {form for name, plural, _ in groups(shown) for form in (name, plural)}
        for form in sorted(shown_names | {shown.background}, key=len, reverse=True):
            text = text.replace(form, "")
        wrong += any(re.search(rf"\b{re.escape(name)}\b", text) for name in WHOLE.names)
    assert 0.1 < wrong / len(SAMPLES) < 0.25


@pytest.mark.parametrize("index", range(0, 400, 4))
def test_scattered_scenes_are_spoken_of_even_when_empty(index):
    shown = scene(SCATTERED, 2, index)
    said = captions(SCATTERED, shown, 2, index)
    assert said["descriptive"].endswith(".")
    assert "{" not in "".join(said.values())
    assert ("nothing" in said["short"]) == (not shown.objects)
