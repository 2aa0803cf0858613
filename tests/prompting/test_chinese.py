"""Chinese prompts come out in English: every name and word of the tables, and how things stand."""

import pytest

from dalle3_jax.data.scenes.layouts import CENTRES
from dalle3_jax.data.scenes.loose_words import CHINESE_WORDS
from dalle3_jax.data.scenes.naming import CHINESE
from dalle3_jax.prompting.translation import translate
from tests.prompting.prompt_reading import LEXICON, batches, listed, read


def test_every_chinese_name_is_its_concept():
    for rows in batches([(name, word) for name, words in CHINESE.items() for word in words]):
        said = read(f"{'和'.join(f'一只{word}' for _, word in rows)}在海滩上")
        assert (dict(said.things), said.backgrounds) == (dict.fromkeys((name for name, _ in rows), 1), ("beach",)), rows


def test_chinese_names_in_english_prompts_have_their_number():
    for rows in batches([(name, words[0]) for name, words in CHINESE.items() if name != "mountain"]):
        said = read(listed(f"three {word}" for _, word in rows))
        assert dict(said.things) == dict.fromkeys((name for name, _ in rows), 3), rows


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
        ("熊猫🐼", "a panda"),
        ("两只红色气球。气球在左边", "two red balloons. The balloons on the left"),
        ("两只猫。猫在左边", "two cats. The cats on the left"),
        ("12只猫", "twelve cats"),
        ("请画一张图片\uff1a熊猫", "a panda"),
        ("一张写着“HELLO”的牌子", "a sign that says “HELLO”"),
        ("panda 在 apple 的左边", "a panda to the left of an apple"),
        ("a 熊猫 riding a 自行车 on a 海滩", "a panda on top of a bicycle on a beach"),
        ("two 红色的 🎈", "two red balloons"),
        ("红色的🍎 and a bike", "a red apple and a bicycle"),
        ("红色的🍎 and a wizard", "a red apple and a wizard"),
        ("a wizard and a 熊猫", "a wizard and a panda"),
        ("三只 wizards and the 红色 wizard 和猫", "three wizards and the red wizard and a cat"),
        ("bike和猫", "bicycle and a cat"),
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
