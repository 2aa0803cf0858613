"""How people speak of scenes: every entry leads to something that scenes have, and none to two things."""

import re

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS
from dalle3_jax.data.scenes.concepts import CONCEPTS
from dalle3_jax.data.scenes.loose_words import (
    BACKGROUND_WORDS,
    CHINESE_WORDS,
    COLOUR_WORDS,
    EMOJI,
    GENERAL,
    RELATED,
    flatten_chinese,
    general_forms,
)
from dalle3_jax.data.scenes.naming import CHINESE, SYNONYMS
from dalle3_jax.data.scenes.tints import TINTS

NAMES = {concept.name for concept in CONCEPTS}
PLACES = {background.name for background in BACKGROUNDS}
FORMS = NAMES | {concept.plural for concept in CONCEPTS}
FORMS |= {form for others in SYNONYMS.values() for other in others for form in (other.text, other.plural)}


def test_general_words_stand_for_concepts_and_are_none_themselves():
    assert {name for names in GENERAL.values() for name in names} <= NAMES
    assert not {singular for singular, _ in GENERAL} & FORMS
    assert general_forms({"leaf/leaves": ["maple leaf"], "bird": ["owl"]}) == {
        ("leaf", "leaves"): ("maple leaf",),
        ("bird", "birds"): ("owl",),
    }


def test_backgrounds_and_colours_have_ways_of_their_own():
    assert {*BACKGROUND_WORDS} == PLACES
    own = {phrase for background in BACKGROUNDS for phrase in (*background.phrases, background.name)}
    ways = [way for others in BACKGROUND_WORDS.values() for way in others]
    assert len(ways) == len({*ways})
    assert not own & {*ways}
    assert [*COLOUR_WORDS] == [*TINTS]
    shades = [shade for others in COLOUR_WORDS.values() for shade in others]
    assert len(shades) == len({*shades})
    assert not {*shades} & {*TINTS}


def test_further_emoji_show_what_scenes_have():
    known = NAMES | PLACES | {f"{tint} {name}" for tint in TINTS for name in NAMES}
    assert {*EMOJI.values()} <= known
    assert all(re.fullmatch(r"[0-9a-f]+(-[0-9a-f]+)*", code) and "fe0f" not in code for code in EMOJI)
    assert not {*EMOJI} & {concept.code.replace("-fe0f", "") for concept in CONCEPTS}


def test_related_words_are_no_names_and_lead_to_some():
    assert {name for names in RELATED.values() for name in names} <= NAMES
    assert all(RELATED.values())
    assert not {*RELATED} & FORMS


def test_a_chinese_name_means_its_concept_before_anything_else():
    for name, words in CHINESE.items():
        assert all(CHINESE_WORDS[word.lower()] == ("thing", name) for word in words)
    flat = flatten_chinese({"places": {"left": ["左边"]}, "relations": {"left of": ["左边", "左"]}, "of": ["的"]})
    assert flat["左边"] == flat["左"] == ("direction", "left")
    assert flat["的"] == ("of", "of")
