"""Captions say what the picture shows: all of it, in English, and nothing else."""

import re
from collections import Counter, defaultdict

import pytest

from dalle3_jax.data.scenes import FIRST, make_captions, sample_scene

# What a word says of the first thing's box beside the second's: the axis, and 1 where the first comes earlier on it.
EARLIER = {
    "left": (0, 1),
    "right": (0, -1),
    "above": (1, 1),
    "over": (1, 1),
    "on top of": (1, 1),
    "below": (1, -1),
    "under": (1, -1),
    "underneath": (1, -1),
}
WORDS = "|".join(sorted(EARLIER, reverse=True))


@pytest.fixture(scope="module")
def samples():
    """Scenes and their captions."""
    scenes = [sample_scene(FIRST, 9, index) for index in range(4_000)]
    return [(shown, make_captions(FIRST, shown, 9, index)) for index, shown in enumerate(scenes)]


def mentions(text, word):
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("version", ["descriptive", "short"])
def test_captions_name_every_concept_in_its_number_and_no_other(samples, version):
    forms = {word for concept in FIRST.concepts for word in (concept.name, concept.plural)}
    for shown, said in samples:
        several = shown.kind == "count"
        expected = {FIRST.concept(name).plural if several else name for name in shown.concepts}
        scenery = FIRST.background(shown.background).scenery + FIRST.background(shown.background).phrases
        text = said[version]
        for words in sorted(scenery, key=len, reverse=True):
            text = text.replace(words, "")  # "a night sky with stars and a moon" speaks of other stars
        assert {word for word in forms if mentions(text, word)} == expected


def test_descriptive_captions_tell_background_and_number(samples):
    names = [background.name for background in FIRST.backgrounds]
    for shown, said in samples:
        text = said["descriptive"]
        assert [name for name in names if mentions(text, name)] == [shown.background]
        if shown.kind == "count":
            right, wrong = ("two", "three") if len(shown.objects) == 2 else ("three", "two")
            assert mentions(text, right)
            assert not mentions(text.replace("other two", ""), wrong)


def test_descriptive_captions_tell_the_place_of_one_object(samples):
    words = {"centre": "centre|center|middle", "top": "top|upper", "bottom": "bottom|lower"}
    for shown, said in samples:
        if shown.kind == "one":
            text = said["descriptive"].replace("top hat", "hat")
            told = {
                w for w in ("centre", "top", "bottom", "left", "right") if re.search(rf"\b({words.get(w, w)})\b", text)
            }
            assert told == set(shown.layout.split()), text


def test_descriptive_captions_tell_the_relation_of_two_objects_either_way_round(samples):
    told = Counter()
    for shown, said in samples:
        for first, second in (shown.objects, shown.objects[::-1]) if shown.kind == "two" else ():
            between = (
                rf"\b{first.concept}\b( is| can be seen)? (to the |on the )?({WORDS})( of)? (a|an|the) {second.concept}"
            )
            if match := re.search(between, said["descriptive"]):
                axis, sign = EARLIER[match[3]]
                a, b = ((placed.cell.x, placed.cell.y)[axis] for placed in (first, second))
                assert sign * (b - a) > 0, said["descriptive"]
                told[first is shown.objects[0]] += 1
    assert min(told[True], told[False]) > 250


def test_descriptive_captions_tell_the_place_of_each_of_two_objects(samples):
    phrases = {phrase: place.name for place in FIRST.places for phrase in place.phrases}
    told = 0
    for shown, said in samples:
        for placed in shown.objects if shown.kind == "two" else ():
            match = re.search(
                rf"\b{placed.concept} ({'|'.join(sorted(phrases, reverse=True))})\b(?! of)", said["descriptive"]
            )
            if match:
                assert phrases[match[1]] == placed.cell.place, said["descriptive"]
                told += 1
    assert told > 650


def test_sentences_have_12_to_40_words_and_prompts_fewer(samples):
    patterns = defaultdict(set)
    for shown, said in samples:
        text = said["descriptive"]
        words = len(text.split())
        assert (12 if text.endswith(".") else 3) <= words <= 40, text
        patterns[shown.kind].add(text.endswith("."))
    assert all(both == {True, False} for both in patterns.values())
    for kind in FIRST.kinds:
        assert sum(pattern.endswith(".") for pattern in kind.patterns["descriptive"]) >= 6


def test_articles_fit_and_sentences_begin_with_capitals(samples):
    for _, said in samples:
        text = said["descriptive"]
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", said["short"] + " " + text.lower()), text
        if text.endswith("."):
            assert text[0].isupper()
            assert not re.search(r"\. [a-z]", text)
        assert "{" not in "".join(said.values())
        assert "  " not in text


def test_short_captions_are_the_subject_alone(samples):
    examples = {shown.kind: (shown, said["short"]) for shown, said in samples}
    for kind, (shown, text) in examples.items():
        names = [FIRST.concept(name) for name in shown.concepts]
        number = ("", "one", "two", "three")[len(shown.objects)]
        expected = {
            "one": f"{names[0].article} {names[0].name}",
            "two": " and ".join(f"{c.article} {c.name}" for c in names),
            "count": f"{number} {names[0].plural}",
        }[kind]
        assert text == expected


def test_irregular_plurals_are_real_ones():
    plurals = {concept.name: concept.plural for concept in FIRST.concepts}
    expected = {"mouse": "mice", "sheep": "sheep", "butterfly": "butterflies", "bus": "buses", "fox": "foxes"}
    expected |= {"cactus": "cacti", "snowman": "snowmen"}
    assert {name: plurals[name] for name in expected} == expected
    assert all(plural == name + "s" for name, plural in plurals.items() if name not in expected)
