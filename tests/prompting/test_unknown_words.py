"""Words that a model has never seen: nouns are told with what comes nearest, ordinary words and quotes never."""

import pytest

from dalle3_jax.data.scenes import FIRST, WHOLE
from dalle3_jax.data.scenes.concepts import CONCEPTS
from dalle3_jax.data.scenes.loose_words import GENERAL, RELATED
from dalle3_jax.data.scenes.naming import CHINESE, SYNONYMS
from dalle3_jax.evaluation.suites import load_suite, pick_evenly
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.unknown_words import UnknownWord, describe_unknown, nearest_things, unknown_words

LEXICON = world_lexicon(WHOLE)


def told(prompt, lexicon=LEXICON):
    return [word.text for word in unknown_words(prompt, lexicon)]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a wizard on a skateboard", ["wizard"]),
        ("a unicorn horn", ["unicorn horn"]),
        ("a fire hydrant on the road", ["fire hydrant"]),
        ("a cat jumps over the fence", ["fence"]),
        ("a fluffy cat with a sword, 4k, trending on artstation", ["sword"]),
        ("the eiffel tower at night", ["eiffel tower"]),
        ("Mickey Mouse on a beach", ["Mickey"]),
        ("a pengiun in the snow", ["pengiun"]),
        ("a swing on a beach", ["swing"]),
        ("a hamster, a goat and a windmill", ["hamster", "goat", "windmill"]),
        ("a house, no people", []),
        ("without any hamsters, a dog", []),
        ("a neon dragon", ["neon"]),
        ("a translucent, carnivorous dragon", ["translucent"]),
        ('a sign that says "UNICORN HORN"', []),
        ("“wizard” “goat”", []),
        ("a wizard and a wizard", ["wizard"]),
        ("桌子上的猫", ["table"]),
        ("熊猫吃竹子", ["竹子"]),
        ("女孩和熊猫", ["girl"]),
        ("", []),
        ("?!", []),
    ],
)
def test_nouns_that_nobody_knows_are_told(prompt, words):
    assert sorted(told(prompt)) == sorted(words)


@pytest.mark.parametrize(
    "prompt",
    [
        "please draw me a beautiful picture of two happy dogs sitting next to each other",
        "a dog runs, a cat sleeps and a fox is jumping over a log",
        "can you show me three red balloons in the top left corner?",
        "an oil painting of a castle, highly detailed, dramatic lighting, 8k, in the style of Picasso",
        "a big yellow school bus to the left of a small house, photorealistic",
        "A 3D render of exactly four penguins in a row, nothing else.",
        "I'd like to see a panda riding a bike while holding an umbrella",
        "the king's crown",
        "a cat wearing a hat",
    ],
)
def test_ordinary_words_are_not_told(prompt):
    assert told(prompt) == []


def test_prompts_of_the_suite_hold_nothing_unknown():
    wrong = {prompt.text: told(prompt.text) for prompt in pick_evenly(load_suite(), 100) if told(prompt.text)}
    assert len(wrong) <= 6, wrong  # long ones speak of friends and desks


def test_no_name_of_any_kind_is_unknown():
    for concept in CONCEPTS:
        others = [form for one in SYNONYMS[concept.name] for form in (one.single, f"two {one.plural}")]
        text = "; ".join([f"{concept.article} {concept.name}", f"two {concept.plural}", *others])
        assert told(text) == [], text
    general = "; ".join(f"a {singular}; three {plural}" for singular, plural in GENERAL)
    assert told(general) == []
    assert told("和".join(names[0] for names in CHINESE.values())) == []


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("wizard", ("magic wand", "crystal ball")),
        ("wizards", ("magic wand", "crystal ball")),
        ("skateboarding", ("skateboard",)),
        ("pengiun", ("penguin",)),
        ("unicorn horn", ("unicorn",)),
        ("quux", ()),
        ("竹子", ()),
    ],
)
def test_the_nearest_come_by_meaning_and_then_by_letters(word, nearest):
    assert nearest_things(word, LEXICON) == nearest


def test_every_related_word_has_the_things_that_are_listed():
    for word, names in RELATED.items():
        assert [*nearest_things(word, LEXICON)] == names[:3], word


def test_a_smaller_world_tells_what_only_the_whole_one_has():
    lexicon = world_lexicon(FIRST)
    assert told("a hot dog and a computer mouse", lexicon) == ["hot dog", "computer mouse"]
    assert told("a cat on a skateboard in the snow", lexicon) == ["cat", "skateboard"]
    assert all(thing in lexicon.things for word in RELATED for thing in nearest_things(word, lexicon))
    assert told("a panda left of an apple", lexicon) == []


def test_the_note_names_all_words_and_the_nearest_once():
    words = (UnknownWord("wizard", ("magic wand",)), UnknownWord("witch", ("broom", "magic wand")))
    assert describe_unknown(words) == (
        "this model has never seen: wizard, witch; nearest that it knows: magic wand, broom"
    )
    assert describe_unknown((UnknownWord("quux"),)) == "this model has never seen: quux"
    assert describe_unknown(()) == ""


def test_a_lexicon_of_ones_own_needs_no_paraphrases():
    lexicon = Lexicon(things={"panda": "pandas"}, backgrounds={"beach": ("on a beach",)})
    assert told("two pandas and a robot on a beach", lexicon) == ["robot"]
