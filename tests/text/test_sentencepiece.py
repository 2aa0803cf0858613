"""SentencePiece models: the ids are those of the library, with T5's sentinels behind them."""

import io
import json
import sys

import pytest

from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer

sentencepiece = pytest.importorskip("sentencepiece")

SENTENCES = [
    f"{a} {b} {c}, {d}."
    for a in ("a red", "two", "no")
    for b in ("cats", "caf\u00e9s")
    for c in ("on", "under")
    for d in ("snow", "trees")
]
TEXTS = [
    *SENTENCES[::5],
    "",
    "   two   cats\tunder\n\ntrees  ",
    "\ufb01ne \u2460 \uff21",  # what NFKC makes others of
    "\U0001f43c and \u65e5\u672c",  # pieces that there are not
    "catscats,,cats" * 20,
]
T5 = {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}


def train(**options) -> bytes:
    stream = io.BytesIO()
    given = {"vocab_size": 60, "minloglevel": 2, "hard_vocab_limit": False, **T5, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(SENTENCES), model_writer=stream, **given)
    return stream.getvalue()


@pytest.fixture(scope="module")
def model() -> bytes:
    return train()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byte_fallback": True, "vocab_size": 320},
        {"add_dummy_prefix": False},
        {"normalization_rule_name": "identity"},
    ],
)
def test_ids_are_those_of_the_library(tmp_path, options):
    content = train(**options)
    (tmp_path / "spiece.model").write_bytes(content)
    tokenizer = Tokenizer.from_json(read_folder_tokenizer(tmp_path))
    library = sentencepiece.SentencePieceProcessor(model_proto=content)
    assert (tokenizer.pad, tokenizer.eos) == (0, 1)
    ids, mask = tokenizer(TEXTS, 400)
    assert [row[kept][:-1].tolist() for row, kept in zip(ids, mask, strict=True)] == [
        library.encode(text) for text in TEXTS
    ]
    assert tokenizer.vocab_size == library.vocab_size() + 100
    assert Tokenizer.from_json(tokenizer.to_json()).count(TEXTS[0]) == tokenizer.count(TEXTS[0])


def test_sentinels_are_as_many_as_the_folder_says(tmp_path, model):
    (tmp_path / "spiece.model").write_bytes(model)
    size = sentencepiece.SentencePieceProcessor(model_proto=model).vocab_size()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": 3}))
    tokenizer = Tokenizer.load(tmp_path / "spiece.model")
    places = [tokenizer.backend.token_to_id(f"<extra_id_{number}>") for number in range(4)]
    assert places == [size + 2, size + 1, size, None]
    for wrong in (-1, "7", 10**9):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"extra_ids": wrong}))
        with pytest.raises(ValueError, match=f"extra_ids is {wrong!r}"):
            read_folder_tokenizer(tmp_path)


def test_what_is_no_model_of_t5_is_named(tmp_path, model):
    for content, message in (
        (model[:-7], "is no SentencePiece model, or damaged"),
        (train(model_type="bpe"), "unigram"),
        (b"", "unigram"),
    ):
        (tmp_path / "spiece.model").write_bytes(content)
        with pytest.raises(ValueError, match=rf"spiece\.model .*{message}"):
            read_folder_tokenizer(tmp_path)


def test_a_missing_library_is_named_with_its_extra(tmp_path, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    (tmp_path / "spiece.model").write_bytes(model)
    with pytest.raises(ValueError, match=r"needs sentencepiece: pip install 'dalle3_jax\[sentencepiece\]'"):
        read_folder_tokenizer(tmp_path)
