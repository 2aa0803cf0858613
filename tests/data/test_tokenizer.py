"""The demo's tokenizer.json."""

from importlib.resources import files

import pytest
from tokenizers import Tokenizer

from dalle3_jax.data.scenes import FIRST, captions, scene


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_str((files("dalle3_jax.data.scenes") / "tokenizer.json").read_text())


def test_ids_are_those_of_t5_and_texts_end_with_eos(tokenizer):
    assert [tokenizer.token_to_id(token) for token in ("<pad>", "</s>", "<unk>")] == [0, 1, 2]
    assert tokenizer.encode("").ids == [1]
    assert tokenizer.encode("a panda").ids[-1] == 1
    assert tokenizer.get_vocab_size() == 1024


def test_names_and_words_of_captions_are_single_tokens(tokenizer):
    words = {word for c in FIRST.concepts for word in f"{c.name} {c.plural}".split()}
    for index in range(500):
        text = captions(FIRST, scene(FIRST, 0, index), 0, index)
        words |= set(
            f"{text['descriptive']} {text['short']}".replace(",", "").replace(".", "").replace(";", "").split()
        )
    split = {word for word in words if len(tokenizer.encode(word.rstrip(":")).ids) != 2}
    assert split <= {"3D"}


@pytest.mark.parametrize("text", ["a dragon riding a bicycle", "日本 🐼 ñandú", "\x00\x07", "2031 <html> 'quoted'"])
def test_nothing_is_unknown_and_text_comes_back(tokenizer, text):
    ids = tokenizer.encode(text).ids
    assert 2 not in ids
    assert tokenizer.decode(ids).strip() == text.lower().strip()


def test_case_and_position_do_not_matter(tokenizer):
    assert tokenizer.encode("A PANDA").ids == tokenizer.encode("a panda").ids
    assert tokenizer.encode("panda").ids[0] in tokenizer.encode("the panda").ids


def test_captions_fit_the_demos_text_length(tokenizer):
    lengths = [
        len(tokenizer.encode(captions(FIRST, scene(FIRST, 0, i), 0, i)["descriptive"]).ids) for i in range(2_000)
    ]
    assert max(lengths) <= 40
