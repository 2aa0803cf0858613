"""A text is its tokens and one `</s>`, whatever the text."""

import json

import numpy as np
import pytest

from dalle3_jax.text.tokenizers import Tokenizer
from tests.tiny import tokenizer_json

PAD, EOS, UNK = 0, 1, 2
HOSTILE = ["\0", "a\0b", "🐼🎉", "\ud800", "../../etc/passwd", "</s><pad>", " ", "\n\t", "é" * 9]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_json(tokenizer_json())


def test_the_empty_text_is_the_end_alone(tokenizer):
    ids, mask = tokenizer([""], 4)
    assert ids.tolist() == [[EOS, PAD, PAD, PAD]]
    assert mask.tolist() == [[True, False, False, False]]
    assert tokenizer.count("") == 1


def test_a_text_ends_once_and_is_padded_behind(tokenizer):
    ids, mask = tokenizer(["ab"], 5)
    assert ids.dtype == np.int32
    assert ids[0, 2:].tolist() == [EOS, PAD, PAD]
    assert mask[0].tolist() == [True] * 3 + [False] * 2
    assert EOS not in ids[0, :2]


@pytest.mark.parametrize("length", [1, 2, 3, 7])
def test_what_does_not_fit_is_cut_before_the_end(tokenizer, length):
    whole, _ = tokenizer(["a panda on a beach"], 64)
    ids, mask = tokenizer(["a panda on a beach"], length)
    assert ids[0].tolist() == [*whole[0, : length - 1], EOS]
    assert mask.all()


def test_a_text_that_fits_exactly_is_not_cut(tokenizer):
    count = tokenizer.count("three cats")
    exact, mask = tokenizer(["three cats"], count)
    longer, _ = tokenizer(["three cats"], count + 1)
    assert mask.all()
    assert exact[0].tolist() == longer[0, :count].tolist()


@pytest.mark.parametrize("text", [*HOSTILE, "x" * 1_000_000])
def test_no_text_is_refused_or_unknown(tokenizer, text):
    ids, mask = tokenizer([text], 16)
    assert mask.sum() == min(tokenizer.count(text), 16)
    assert (ids != UNK).all()
    assert ids[0, mask.sum() - 1] == EOS


def test_a_text_has_the_same_ids_whatever_stands_beside_it(tokenizer):
    texts = ["a", "two words", "", *HOSTILE]
    together, masks = tokenizer(texts, 12)
    for row, text in enumerate(texts):
        alone, mask = tokenizer([text], 12)
        np.testing.assert_array_equal(together[row], alone[0])
        np.testing.assert_array_equal(masks[row], mask[0])


def test_lengths_written_into_the_file_do_not_count():
    content = json.loads(tokenizer_json())
    content["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    content["padding"] = {
        **{"strategy": {"Fixed": 30}, "direction": "Right", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"},
    }
    assert Tokenizer.from_json(json.dumps(content)).count("abcdef") == 7


def test_a_tokenizer_is_its_own_json(tokenizer, tmp_path):
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    again = Tokenizer.load(tmp_path / "tokenizer.json")
    np.testing.assert_array_equal(again(["a red Fox"], 12)[0], tokenizer(["a red fox"], 12)[0])
    assert again.vocab_size == tokenizer.vocab_size == 259


def test_no_texts_are_no_rows(tokenizer):
    ids, mask = tokenizer([], 5)
    assert ids.shape == mask.shape == (0, 5)


def test_bad_input_is_named(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="list of texts"):
        tokenizer("one text", 8)
    with pytest.raises(ValueError, match="at least 1"):
        tokenizer(["a"], 0)
    with pytest.raises(ValueError, match="nowhere"):
        Tokenizer.load(tmp_path / "nowhere.json")
    with pytest.raises(ValueError, match=r"not a tokenizer\.json"):
        Tokenizer.from_json("{}")
    content = json.loads(tokenizer_json().replace("</s>", "</x>"))
    with pytest.raises(ValueError, match="lacks <pad> or </s>"):
        Tokenizer.from_json(json.dumps(content))
