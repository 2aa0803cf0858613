"""Prompts in words that a model knows: every synonym and emoji leads to its concept, and known words stay."""

from random import Random

import pytest

from dalle3_jax.data.scenes import FIRST
from dalle3_jax.data.scenes.concepts import CONCEPTS
from dalle3_jax.data.scenes.loose_words import BACKGROUND_WORDS, COLOUR_WORDS, EMOJI, GENERAL
from dalle3_jax.data.scenes.naming import SYNONYMS
from dalle3_jax.evaluation.suites import load_suite, pick_evenly
from dalle3_jax.prompting.claims import parse_claims
from dalle3_jax.prompting.emoji import code_of
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.phrases import normalize
from dalle3_jax.prompting.scene_lexicon import world_lexicon
from dalle3_jax.prompting.translation import translate
from dalle3_jax.prompting.unknown_words import unknown_words
from dalle3_jax.prompting.upsampler import template_backend, upsample
from dalle3_jax.text.glyphs import find_quotes
from tests.prompting.prompt_reading import LEXICON, batches, listed, read

TONE = "\U0001f3fd"


def emoji_of(code, *marks):
    return "".join(f"{chr(int(point, 16))}{''.join(marks)}" for point in code.split("-") if point != "fe0f")


def test_every_synonym_is_its_concept():
    for rows in batches([(name, other) for name, others in SYNONYMS.items() for other in others]):
        said = read(f"{listed(other.single for _, other in rows)} on a beach")
        assert (dict(said.things), said.backgrounds) == (dict.fromkeys((name for name, _ in rows), 1), ("beach",)), rows


def test_every_synonym_has_a_plural():
    pairs = [(name, other) for name, others in SYNONYMS.items() for other in others if not other.bare]
    for rows in batches([pair for pair in pairs if pair[0] != "mountain"]):  # "mountains" are a background
        said = read(listed(f"three {other.plural}" for _, other in rows))
        assert dict(said.things) == dict.fromkeys((name for name, _ in rows), 3), rows


def test_every_replaced_synonym_is_told():
    for rows in batches([(name, other) for name, others in SYNONYMS.items() for other in others]):
        notes = translate(listed(other.single for _, other in rows), LEXICON).notes
        told = {f"{other.text} -> {name}" for name, other in rows if normalize(other.text) != normalize(name)}
        assert {*notes} == told


def test_names_of_the_model_stay_as_they_are():
    for concept in CONCEPTS:
        prompt = f"{concept.article} {concept.name} on a beach. Two {concept.plural}."
        assert translate(prompt, LEXICON) == (prompt, (), ()), prompt


def test_every_emoji_is_its_concept_whatever_its_selector_and_tone():
    for concepts in batches([(concept.name, concept.code) for concept in CONCEPTS if concept.name != "mountain"]):
        plain = [emoji_of(code) for _, code in concepts]
        marked = [emoji_of(code, "\ufe0f", TONE) for _, code in concepts]
        assert dict(read("".join(marked)).things) == dict.fromkeys((name for name, _ in concepts), 1), concepts
        twice = " ".join(f"{one} {other}" for one, other in zip(plain, marked, strict=True))
        assert dict(read(twice).things) == dict.fromkeys((name for name, _ in concepts), 2), concepts
        assert [code_of(one) for one in marked] == [code.replace("-fe0f", "") for _, code in concepts]


def test_further_emoji_are_things_colours_and_backgrounds():
    for code, shown in EMOJI.items():
        said = read(emoji_of(code))
        words = [*said.things, *said.backgrounds]
        assert len(words) == 1, code
        assert shown.endswith(words[0]), code
    assert read("💙").tints["heart"] == ("blue",)


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("a bike on a beach", "a bicycle on a beach"),
        ("An Aeroplane", "An airplane"),
        ("a big ufo", "a big flying saucer"),
        ("the red bike", "the red bicycle"),
        ("some fries", "a box of fries"),
        ("fries and a burger", "a box of fries and a hamburger"),
        ("hot french fries", "a hot box of fries"),
        ("two bowls of ramen", "two bowls of noodles"),
        ("a plate of sushi", "a piece of sushi"),
        ("two cherries", "a pair of cherries"),
        ("two glasses", "two pairs of glasses"),
        ("three socks", "three pairs of socks"),
        ("a T shirt and flip flops", "a t-shirt and flip-flops"),
        ("a fire hydrant", "a fire hydrant"),
        ("pizza-shaped clouds", "pizza-shaped clouds"),
        ("dogs watch tv", "dogs watch television"),
        ("a watch", "a wristwatch"),
        ("a crimson car", "a red car"),
        ("a navy blue car", "a blue car"),
        ("a golden retriever", "a golden retriever"),
        ("a cat on a skateboard", "a cat on top of a skateboard"),
        ("a cat sitting on the red sofa", "a cat on top of the red sofa"),
        ("a panda riding a bike", "a panda on top of a bicycle"),
        ("a cat, and on a sofa a dog", "a cat, and on a sofa a dog"),
        ("a cat on a beach", "a cat on a beach"),
        ("dog left, cat right", "dog on the left, cat on the right"),
        ("a moon upper right corner", "a crescent moon in the top right corner"),
        ("a dog left of a cat", "a dog left of a cat"),
        ("a bear on a mountain bike", "a bear on top of a bicycle"),
        ("a dog \U0001f436", "a dog a dog"),
        ("\U0001f43c\U0001f43c\U0001f34e\U0001f3d6\ufe0f", "two pandas, an apple on a beach"),
        ('a sign that says "BIKE 熊猫 🐼" and a bike', 'a sign that says "BIKE 熊猫 🐼" and a bicycle'),
    ],
)
def test_prompts_come_out_in_the_words_of_captions(prompt, known):
    assert translate(prompt, LEXICON).text == known


def test_general_words_stand_for_one_of_theirs_and_vary_with_the_seed():
    for (singular, plural), names in GENERAL.items():
        said = read(f"a {singular}. Three {plural}").things
        assert {*said} <= {*names}, singular
        assert 3 in said.values(), plural
    assert len({translate("a bird", LEXICON, seed).text for seed in range(20)}) > 3
    assert translate("a bird", LEXICON, 3) == translate("a bird", LEXICON, 3)
    assert all(read(f"a bird and {a}").things.keys() - {"owl"} for a in ("an owl", "a owl"))


def test_every_way_to_name_a_background_or_a_colour_is_understood():
    for name, ways in BACKGROUND_WORDS.items():
        said = [translate(f"a fox {way}", LEXICON).text for way in ways]
        assert {*said} == {f"a fox {LEXICON.backgrounds[name][0]}"}, name
    for name, shades in COLOUR_WORDS.items():
        for shade in shades:
            assert read(f"a {shade} butterfly").tints == {"butterfly": (name,)}


def test_a_lexicon_without_paraphrases_changes_nothing():
    for prompt in ("a bike and a 🐼", "熊猫在海滩上", "Fries, please"):
        assert translate(prompt, Lexicon(things={"panda": "pandas", "bicycle": "bicycles"})) == (prompt, (), ())


def test_a_smaller_world_has_no_words_for_what_it_lacks():
    lexicon = world_lexicon(FIRST)
    assert "bicycle" not in lexicon.things
    assert translate("a bike and a football", lexicon).text == "a bike and a soccer ball"
    assert read("一辆自行车和一只熊猫", lexicon).things == {"panda": 1}
    assert translate("a dog \U0001f436", lexicon).text == "a dog \U0001f436"


def test_prompts_of_the_suite_are_not_changed():
    for prompt in pick_evenly([one for one in load_suite() if one.kind != "visitors"], 200):
        before, after = (parse_claims(text, LEXICON) for text in (prompt.text, translate(prompt.text, LEXICON).text))
        assert dict(after.things) == dict(before.things), prompt.text


def test_upsampling_writes_with_known_words_and_says_so():
    made = upsample("a bike in the woods", template_backend(LEXICON), lexicon=LEXICON)
    assert made.prompt == "a bike in the woods"
    assert dict(parse_claims(made.revised, LEXICON).things) == {"bicycle": 1}
    assert made.notice == ""
    assert made.notes == ("in the woods -> in a forest", "bike -> bicycle")
    assert upsample("a panda on a beach", template_backend(LEXICON), lexicon=LEXICON).notes == ()
    assert upsample("as is: a bike", template_backend(LEXICON), lexicon=LEXICON).revised == "a bike"
    polar = upsample("\U0001f43b\u200d\u2744\ufe0f", template_backend(LEXICON), lexicon=LEXICON)
    assert dict(parse_claims(polar.revised, LEXICON).things) == {"polar bear": 1}


def test_adjectives_before_a_name_do_not_hide_its_number_and_colour():
    said = parse_claims("two small red balloons and a red shiny apple", LEXICON)
    assert dict(said.things) == {"balloon": 2, "apple": 1}
    assert said.tints == {"balloon": ("red",), "apple": ("red",)}


def test_no_prompt_breaks_it_and_no_quote_is_lost():
    draw = Random(5)
    pieces = [
        *"在左边的和有没有上3三只个一双海滩森林之间旁边写着骑红色",
        *"\uff0c\u3002\u00b2\u0663\ufe0f\u200d\U0001f43c\U0001f3d6\U0001f3fd",
        "9" * 5000,
    ]
    pieces += [
        "熊猫",
        "苹果",
        "bike ",
        "two ",
        "a ",
        "glasses ",
        "of ",
        " on ",
        "bird, ",
        "left ",
        '"',
        "“HI”",
        " ",
        "no ",
        "-",
    ]
    for _ in range(300):
        prompt = "".join(draw.choices(pieces, k=draw.randint(1, 12)))
        known = translate(prompt, LEXICON)
        assert sorted(find_quotes(known.text)) == sorted(find_quotes(prompt)), prompt
        assert unknown_words(prompt, LEXICON) is not None
