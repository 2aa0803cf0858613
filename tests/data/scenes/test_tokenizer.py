"""The embedded tokenizers: the demo's, and that of the whole world."""

from importlib.resources import files

import numpy as np
import pytest
from tokenizers import Tokenizer

from configs.ablations import small
from dalle3_jax.data.scenes import FIRST, WHOLE, make_captions, sample_scene
from dalle3_jax.stages.context import config_tokenizer
from dalle3_jax.text.glyphs import find_quotes


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
        text = make_captions(FIRST, sample_scene(FIRST, 0, index), 0, index)
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
        len(tokenizer.encode(make_captions(FIRST, sample_scene(FIRST, 0, i), 0, i)["descriptive"]).ids)
        for i in range(2_000)
    ]
    assert max(lengths) <= 40


@pytest.fixture(scope="module")
def whole():
    return config_tokenizer(small.words())


@pytest.fixture(scope="module")
def said():
    return [make_captions(WHOLE, sample_scene(WHOLE, 9, i), 9, i)["descriptive"] for i in range(3_000)]


def test_captions_of_the_whole_world_fit_the_length_of_the_ablation(whole, said):
    length = small.words().data.text_length
    assert np.percentile([whole.count(text) for text in said], 99.9) <= length
    assert length % 16 == 0


def test_every_quoted_word_comes_back_letter_by_letter(whole, said):
    length = small.words().data.text_length
    ids, mask = whole(said[:500], length)
    read = whole.backend.decode_batch([row[seen].tolist() for row, seen in zip(ids, mask, strict=True)])
    assert [find_quotes(text) for text in read] == [find_quotes(text) for text in said[:500]]
    words = [each for word in WHOLE.lettering.words for each in (word, word.upper(), word.capitalize())]
    assert [whole.backend.decode(whole.backend.encode(f'"{word}"').ids).strip() for word in words] == [
        f'"{word}"' for word in words
    ]


def test_names_of_the_whole_world_are_single_tokens(whole):
    words = {word for concept in WHOLE.concepts for word in f"{concept.name} {concept.plural}".split()}
    assert [word for word in sorted(words) if "-" not in word and whole.count(word) != 2] == []


def test_words_that_are_held_out_are_cut_as_the_others_are(whole):
    lengths = {word: whole.count(word.upper()) / len(word) for word in WHOLE.lettering.words}
    held = WHOLE.held_out.words
    means = [np.mean([lengths[word] for word in lengths if (word in held) is out]) for out in (True, False)]
    assert means[0] == pytest.approx(means[1], rel=0.05)


@pytest.mark.parametrize("text", ["A Dragon riding a bicycle", "日本 🐼 ñandú", "\x00\x07", "2031 <html> 'quoted'"])
def test_the_whole_worlds_tokenizer_keeps_every_byte(whole, text):
    ids, mask = whole([text], 64)
    assert whole.backend.token_to_id("<unk>") not in ids[0][mask[0]]
    assert whole.backend.decode(ids[0][mask[0]].tolist()).strip() == text.strip()


def test_the_ablations_text_encoder_has_room_for_its_tokenizer(whole):
    assert whole.vocab_size <= small.words().model.text_encoder.vocab_size
