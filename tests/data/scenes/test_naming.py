"""Other names of the concepts: one concept each, formed as people say them, and refused where they clash."""

import json
from importlib.resources import files

import pytest

from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS
from dalle3_jax.data.scenes.concepts import CONCEPTS
from dalle3_jax.data.scenes.layouts import CENTRES
from dalle3_jax.data.scenes.naming import CHINESE, RESERVED, SYNONYMS, Synonym, parse_synonym, read_names
from dalle3_jax.data.scenes.tints import TINTS
from dalle3_jax.prompting.lexicon import COLOURS, NUMBERS, PLACES, RELATIONS

PAIR = tuple(concept for concept in CONCEPTS if concept.name in ("dog", "cat"))
HEADER = "name,synonyms,chinese\n"


def refusal(text, reserved=()):
    with pytest.raises(ValueError, match=r"names\.csv") as error:
        read_names(HEADER + text, PAIR, reserved)
    return str(error.value)


def test_every_concept_has_chinese_names_and_most_have_synonyms():
    assert [*SYNONYMS] == [*CHINESE] == [concept.name for concept in CONCEPTS]
    assert all(CHINESE.values())
    long = [name for name in SYNONYMS if " of " in name]
    assert all(SYNONYMS[name] for name in long)
    assert sum(map(len, SYNONYMS.values())) > 800


def test_no_form_of_a_synonym_is_another_concepts():
    forms = {concept.name: {concept.name, concept.plural} for concept in CONCEPTS}
    for name, others in SYNONYMS.items():
        forms[name] |= {form for other in others for form in (other.text, other.plural)}
    flat = [form for name in forms for form in forms[name]]
    assert len(flat) == len({*flat})
    names = [name for concept in CHINESE.values() for name in concept]
    assert len(names) == len({*names})


def test_synonyms_hold_no_word_that_captions_use_otherwise():
    taken = {*COLOURS, *NUMBERS, *RESERVED, "between"}
    taken |= {phrase for phrases in (*PLACES.values(), *RELATIONS.values()) for phrase in phrases}
    for others in SYNONYMS.values():
        for other in others:
            assert not {*other.text.split(), *other.plural.split(), other.text} & taken, other


@pytest.mark.parametrize(
    ("cell", "text", "plural", "single"),
    [
        ("bike", "bike", "bikes", "a bike"),
        ("aeroplane", "aeroplane", "aeroplanes", "an aeroplane"),
        ("puppy", "puppy", "puppies", "a puppy"),
        ("toy", "toy", "toys", "a toy"),
        ("torch", "torch", "torches", "a torch"),
        ("knife/knives", "knife", "knives", "a knife"),
        ("fries*", "fries", "fries", "fries"),
        ("ufo", "ufo", "ufos", "a ufo"),
        ("one-armed bandit", "one-armed bandit", "one-armed bandits", "a one-armed bandit"),
        ("8-ball", "8-ball", "8-balls", "an 8-ball"),
    ],
)
def test_a_cell_gives_the_forms_that_people_say(cell, text, plural, single):
    synonym = parse_synonym(cell)
    assert (synonym.text, synonym.plural, synonym.single) == (text, plural, single)
    assert synonym.bare == cell.endswith("*")


def test_names_are_read_in_order():
    synonyms, chinese = read_names(HEADER + "dog,pup|fries*,狗|小狗\ncat,,猫\n", PAIR, {"beach"})
    assert synonyms == {"dog": (Synonym("pup", "pups"), Synonym("fries", "fries", bare=True)), "cat": ()}
    assert chinese == {"dog": ("狗", "小狗"), "cat": ("猫",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dog,,狗\n", "each once"),
        ("dog,,狗\ndog,,猫\n", "each once"),
        ("cat,,猫\ndog,,狗\n", "in that order"),
        ("dog,,狗\ncat,\n", "columns"),
        ("dog,pup||hound,狗\ncat,,猫\n", "empty name"),
        ("dog,pup | hound,狗\ncat,,猫\n", "blanks"),
        ("dog,*,狗\ncat,,猫\n", "empty name"),
        ("dog,,\ncat,,猫\n", "1 to 3 in Chinese"),
        ("dog,a|b|c|d|e,狗\ncat,,猫\n", "0 to 4 synonyms"),
        ("dog,Pup,狗\ncat,,猫\n", "lower case"),
        ("dog,pet,狗\ncat,pet,猫\n", "'pet' is both 'dog' and 'cat'"),
        ("dog,cat,狗\ncat,,猫\n", "name already"),
        ("dog,dog,狗\ncat,,猫\n", "name already"),
        ("dog,pup|pup,狗\ncat,,猫\n", "stands twice"),
        ("dog,hound/cats,狗\ncat,,猫\n", "'cats' is both 'cat' and 'dog'"),
        ("dog,,狗\ncat,,狗\n", "'狗' is both 'dog' and 'cat'"),
        ("dog,beach pup,狗\ncat,,猫\n", "holds 'beach'"),
    ],
)
def test_a_table_that_clashes_is_refused_by_name(text, said):
    assert said in refusal(text, {"beach"})


def test_the_chinese_words_cover_what_captions_say():
    words = json.loads((files("dalle3_jax.data.scenes") / "words_chinese.json").read_text(encoding="utf-8"))
    assert [*words["colours"]] == [*TINTS]
    assert [*words["backgrounds"]] == [background.name for background in BACKGROUNDS]
    assert {*words["places"]} == {*CENTRES}
    assert {*words["relations"]} >= {"left of", "right of", "above", "below"}
    names = {name for concept in CHINESE.values() for name in concept}
    taken = [word for group in ("colours", "backgrounds", "numbers") for each in words[group].values() for word in each]
    assert len(taken) == len({*taken})
    assert not names & {*taken}
