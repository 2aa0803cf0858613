"""Prompts in words that a model knows: every synonym, Chinese name and emoji leads to its concept."""

import pytest

from dalle3_jax.data.scenes import FIRST, WHOLE
from dalle3_jax.data.scenes.concepts import CONCEPTS
from dalle3_jax.data.scenes.layouts import CENTRES
from dalle3_jax.data.scenes.loose_words import BACKGROUND_WORDS, CHINESE_WORDS, COLOUR_WORDS, EMOJI, GENERAL
from dalle3_jax.data.scenes.naming import CHINESE, SYNONYMS
from dalle3_jax.evaluation.caption_labels import lexicon_of
from dalle3_jax.evaluation.suites import some, suite
from dalle3_jax.text.claims import claims
from dalle3_jax.text.emoji import code_of
from dalle3_jax.text.lexicon import Lexicon
from dalle3_jax.text.phrases import normalize
from dalle3_jax.text.prompts import template, upsample
from dalle3_jax.text.translation import translate

LEXICON = lexicon_of(WHOLE)
TONE = "\U0001f3fd"


def read(prompt, lexicon=LEXICON):
    return claims(translate(prompt, lexicon).text, lexicon)


def batches(rows, size=6):
    """Rows of different concepts, a few at a time."""
    waiting = list(rows)
    while waiting:
        batch = []
        for row in list(waiting):
            if len(batch) < size and row[0] not in [name for name, _ in batch]:
                batch.append(row)
                waiting.remove(row)
        yield batch


def listed(texts):
    """ "a, b and c"."""
    *most, last = texts
    return " and ".join(filter(None, [", ".join(most), last]))


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


def test_every_chinese_name_is_its_concept():
    for rows in batches([(name, word) for name, words in CHINESE.items() for word in words]):
        said = read(f"{'和'.join(f'一只{word}' for _, word in rows)}在海滩上")
        assert (dict(said.things), said.backgrounds) == (dict.fromkeys((name for name, _ in rows), 1), ("beach",)), rows


def test_chinese_names_in_english_prompts_have_their_number():
    for rows in batches([(name, words[0]) for name, words in CHINESE.items() if name != "mountain"]):
        said = read(listed(f"three {word}" for _, word in rows))
        assert dict(said.things) == dict.fromkeys((name for name, _ in rows), 3), rows


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


def chinese_words(kind):
    return [(meaning, word) for word, (one, meaning) in CHINESE_WORDS.items() if one == kind]


def test_every_chinese_word_for_a_background_is_understood():
    for meaning, word in chinese_words("background"):
        said = read(f"一只狐狸在{word}")
        assert (dict(said.things), said.backgrounds) == ({"fox": 1}, (meaning,)), word


def test_every_chinese_word_for_a_colour_a_number_and_a_measure_is_understood():
    assert {shade for _, shade in chinese_words("colour")} > {"红色", "红", "蓝色的"}
    for meaning, word in chinese_words("colour"):
        assert read(f"一个{word}气球").tints == {"balloon": (meaning,)}, word
    numbers = [(meaning, word) for meaning, word in chinese_words("number") if meaning.isdigit()]
    for rows in batches(numbers, 3):
        pairs = list(zip(rows, ("狐狸", "猫", "狗"), strict=False))
        said = read("和".join(f"{number}只{animal}" for (_, number), animal in pairs))
        assert [*said.things.values()] == [int(meaning) for meaning, _ in rows], rows
    for _, word in chinese_words("measure"):
        assert dict(read(f"两{word}狐狸").things) == {"fox": 2}, word


def test_every_chinese_word_for_a_place_is_understood():
    places = [(meaning, word) for meaning, word in chinese_words("direction") if meaning in CENTRES]
    assert {meaning for meaning, _ in places} == {*CENTRES}
    for meaning, word in places:
        said = read(f"一只狐狸在{word}\uff0c{word}有一只猫")
        assert said.places == {"fox": meaning, "cat": meaning}, word


@pytest.mark.parametrize(
    ("prompt", "known"),
    [
        ("熊猫在苹果的左边", "a panda to the left of an apple"),
        ("苹果左边的熊猫", "a panda to the left of an apple"),
        ("苹果的右边是一只熊猫", "a panda to the right of an apple"),
        ("猫在桌子下面", "a cat below a table"),
        ("滑板上的猫", "a cat above a skateboard"),
        ("一只猫和一只狗在沙发上", "a cat and a dog above a sofa"),
        ("沙发上有一只猫和一只狗", "a cat and a dog above a sofa"),
        ("猫和狗之间有一个苹果", "an apple between a cat and a dog"),
        ("一个苹果在猫和狗中间", "an apple between a cat and a dog"),
        ("猫旁边有一只狗", "a dog next to a cat"),
        ("左边是一只猫\uff0c右边是两只狗", "a cat on the left. Two dogs on the right"),
        ("左边一只猫右边一只狗", "a cat on the left. A dog on the right"),
        ("一只猫和一只狗。猫在狗的左边", "a cat and a dog. The cat to the left of the dog"),
        ("一个红苹果和一个绿苹果", "a red apple and a green apple"),
        ("骑自行车的熊猫", "a panda on top of a bicycle"),
        ("海滩左边有一只猫", "a cat on the left on a beach"),
        ("没有狗\uff0c一只猫", "there are no dogs. A cat"),
        ("两只可爱的红色小熊", "two cute red bears"),
        ("一副眼镜", "a pair of glasses"),
        ("一双袜子和一双靴子", "a pair of socks and two boots"),
        ("几只猫", "cats"),
        ("12只猫", "twelve cats"),
        ("请画一张图片\uff1a熊猫", "a panda"),
        ("一张写着“HELLO”的牌子", "a sign that says “HELLO”"),
        ("panda 在 apple 的左边", "a panda to the left of an apple"),
        ("a 熊猫 riding a 自行车 on a 海滩", "a panda on top of a bicycle on a beach"),
        ("two 红色的 🎈", "two red balloons"),
    ],
)
def test_chinese_says_how_things_stand(prompt, known):
    assert translate(prompt, LEXICON).text == known


@pytest.mark.parametrize("prompt", ["パンダが海辺にいる", "판다", "天地玄黃", "دب الباندا", "", "  ", "!?", "🤷"])
def test_what_is_not_understood_stays(prompt):
    assert translate(prompt, LEXICON).text == prompt


def test_chinese_that_is_not_known_is_left_out_and_told():
    known = translate("熊猫吃竹子", LEXICON)
    assert (known.text, known.unknown) == ("a panda", ("竹子",))


def test_a_lexicon_without_paraphrases_changes_nothing():
    for prompt in ("a bike and a 🐼", "熊猫在海滩上", "Fries, please"):
        assert translate(prompt, Lexicon(things={"panda": "pandas", "bicycle": "bicycles"})) == (prompt, (), ())


def test_a_smaller_world_has_no_words_for_what_it_lacks():
    lexicon = lexicon_of(FIRST)
    assert "bicycle" not in lexicon.things
    assert translate("a bike and a football", lexicon).text == "a bike and a soccer ball"
    assert read("一辆自行车和一只熊猫", lexicon).things == {"panda": 1}
    assert translate("a dog \U0001f436", lexicon).text == "a dog \U0001f436"


def test_prompts_of_the_suite_are_not_changed():
    for prompt in some(suite(), 200):
        known = translate(prompt.text, LEXICON)
        assert dict(claims(known.text, LEXICON).things) == dict(claims(prompt.text, LEXICON).things), prompt.text


def test_upsampling_writes_with_known_words_and_says_so():
    made = upsample("a bike in the woods", template(LEXICON), lexicon=LEXICON)
    assert made.prompt == "a bike in the woods"
    assert dict(claims(made.revised, LEXICON).things) == {"bicycle": 1}
    assert made.notice == ""
    assert made.notes == ("in the woods -> in a forest", "bike -> bicycle")
    assert upsample("a panda on a beach", template(LEXICON), lexicon=LEXICON).notes == ()
    assert upsample("as is: a bike", template(LEXICON), lexicon=LEXICON).revised == "a bike"
    polar = upsample("\U0001f43b\u200d\u2744\ufe0f", template(LEXICON), lexicon=LEXICON)
    assert dict(claims(polar.revised, LEXICON).things) == {"polar bear": 1}


def test_adjectives_before_a_name_do_not_hide_its_number_and_colour():
    said = claims("two small red balloons and a red shiny apple", LEXICON)
    assert dict(said.things) == {"balloon": 2, "apple": 1}
    assert said.tints == {"balloon": ("red",), "apple": ("red",)}
