"""Bytes of quoted text against transformers' tokenizer of ByT5."""

import pytest
import transformers

from dalle3_jax.text.glyphs import encode_glyphs


@pytest.mark.parametrize("word", ["OPEN", "Hi é", "你好 🐼", "it's", "x" * 30])
def test_ids_of_a_word(word):
    expected = transformers.ByT5Tokenizer()(word).input_ids
    assert encode_glyphs([f'a sign that says "{word}"'], len(expected))[0][0].tolist() == expected
