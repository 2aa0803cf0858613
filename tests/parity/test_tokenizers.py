"""CLIP's tokenizer against transformers, from the same vocab.json and merges.txt."""

import json

import pytest
import transformers

from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer
from tests.tiny import clip_files

TEXTS = [
    *("", " ", "a cat", "The CAT's  hat, isn't it?", "don't!! we'll they've I'd I'm", "12 cats, 3.5 dogs"),
    *("\t the\n\n cat ", "🐼🎉 the", "日本語 テキスト", "e\u0301 é", "İstanbul ﬁ ½ ²", "a\u00a0b\u200bc"),
    *("a_b-c'd 'S", "x" * 300, "<|endoftext|> a", "a <|ENDOFTEXT|> <|startoftext|>", "\0"),
]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return transformers.CLIPTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def ours(theirs) -> Tokenizer:
    return Tokenizer.from_json(read_folder_tokenizer(theirs.name_or_path))


@pytest.mark.parametrize("length", [77, 5])
@pytest.mark.parametrize("text", TEXTS)
def test_ids_and_masks_are_equal(text, length, ours, theirs):
    ids, mask = ours([text], length)
    expected = theirs(text, padding="max_length", max_length=length, truncation=True)
    assert ids[0].tolist() == expected["input_ids"]
    assert mask[0].astype(int).tolist() == expected["attention_mask"]
    assert ours.count(text) == len(theirs(text)["input_ids"])


def test_the_file_is_the_one_that_transformers_writes(ours, theirs, tmp_path):
    theirs.save_pretrained(tmp_path)
    assert json.loads(ours.to_json()) == json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
