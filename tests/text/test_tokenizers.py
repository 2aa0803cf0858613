"""A text is its tokens and one end token, whatever the text; CLIP's has a begin too."""

import json

import numpy as np
import pytest

from dalle3_jax.text.clip_bpe import clip_json
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer, read_max_length, read_padding_id
from tests.tiny import clip_files, tokenizer_json

PAD, EOS, UNK = 0, 1, 2
HOSTILE = ["\0", "a\0b", "🐼🎉", "\ud800", "../../etc/passwd", "</s><pad>", " ", "\n\t", "é" * 9]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_json(tokenizer_json())


@pytest.fixture(scope="module")
def clip() -> Tokenizer:
    return Tokenizer.from_json(clip_json(*clip_files()))


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
    with pytest.raises(ValueError, match=r"lacks <pad> or </s>, and it is not CLIP's"):
        Tokenizer.from_json(json.dumps(content))


def test_clips_text_begins_and_ends_and_is_padded_with_its_end(clip):
    ids, mask = clip(["a cat"], 7)
    words = [clip.backend.token_to_id(token) for token in ("a</w>", "cat</w>")]
    assert ids.tolist() == [[clip.start, *words, clip.eos, clip.eos, clip.eos, clip.eos]]
    assert mask.tolist() == [[True] * 4 + [False] * 3]
    assert clip.start != clip.eos
    assert clip.count("a cat") == 4
    assert clip.count("") == 2


@pytest.mark.parametrize("length", [2, 3, 4])
def test_what_does_not_fit_clip_is_cut_before_the_end(clip, length):
    whole, _ = clip(["a cat a cat"], 6)
    ids, mask = clip(["a cat a cat"], length)
    assert ids[0].tolist() == [*whole[0, : length - 1], clip.eos]
    assert mask.all()
    with pytest.raises(ValueError, match="at least 2"):
        clip(["a cat"], 1)


@pytest.mark.parametrize("text", [*HOSTILE, "<|endoftext|>", "<|startoftext|>"])
def test_no_text_is_refused_by_clip(clip, text):
    ids, mask = clip([text], 16)
    assert mask.sum() == min(clip.count(text), 16)
    assert ids[0, 0] == clip.start
    assert ids[0, mask.sum() - 1] == clip.eos


def test_clip_reads_lower_case_any_white_space_as_one_blank_and_accents_composed(clip):
    np.testing.assert_array_equal(clip(["Cafe\u0301"], 12)[0], clip(["caf\u00e9"], 12)[0])
    np.testing.assert_array_equal(clip(["A \u00a0\n Cat"], 8)[0], clip(["a cat"], 8)[0])


def test_a_clip_tokenizer_is_its_own_json(clip):
    again = Tokenizer.from_json(clip.to_json())
    assert (again.start, again.eos, again.pad) == (clip.start, clip.eos, clip.eos)
    np.testing.assert_array_equal(again(["a cat!"], 8)[0], clip(["a cat!"], 8)[0])


def test_bad_files_of_clip_are_named():
    vocab, merges = clip_files()
    with pytest.raises(ValueError, match=r"vocab\.json is no JSON"):
        clip_json("{", merges)
    with pytest.raises(ValueError, match="ids, whole numbers"):
        clip_json('["a"]', merges)
    with pytest.raises(ValueError, match="ids, whole numbers"):
        clip_json('{"a": true}', merges)
    with pytest.raises(ValueError, match=r"lacks <\|endoftext\|>"):
        clip_json(vocab.replace("<|endoftext|>", "<|end|>"), merges)
    with pytest.raises(ValueError, match="1 lines that are not two pieces, the first 'a b c'"):
        clip_json(vocab, f"{merges}a b c\n")
    with pytest.raises(ValueError, match=r"merges\.txt does not fit vocab\.json"):
        clip_json(vocab, f"{merges}a b\n")


def test_a_folder_gives_its_tokenizer_of_either_form(tmp_path, clip, tokenizer):
    vocab, merges = clip_files()
    (tmp_path / "vocab.json").write_text(vocab)
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor both of vocab\.json and merges\.txt"):
        read_folder_tokenizer(tmp_path)
    (tmp_path / "merges.txt").write_text(merges)
    assert read_folder_tokenizer(tmp_path) == clip.to_json()
    (tmp_path / "merges.txt").write_text("a b c")
    with pytest.raises(ValueError, match=f"{tmp_path}: .*not two pieces"):
        read_folder_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    assert Tokenizer.from_json(read_folder_tokenizer(tmp_path)).pad == PAD


@pytest.fixture
def clip_folder(tmp_path):
    for name, text in zip(("vocab.json", "merges.txt"), clip_files(), strict=True):
        (tmp_path / name).write_text(text)
    return tmp_path


ADDED = ["<sks-dog>", "<Über-stil>"]


@pytest.mark.parametrize("form", ["added_tokens.json", "tokenizer_config.json", "tokenizer.json"])
def test_added_tokens_are_read_whole(form, clip_folder, clip):
    first = clip.vocab_size
    listed = {token: first + i for i, token in enumerate(ADDED)}
    if form == "tokenizer_config.json":
        old = {str(clip.backend.token_to_id("!")): {"content": "!", "special": False}}  # which the vocabulary has
        entries = {str(index): {"content": token, "normalized": True} for token, index in listed.items()}
        listed = {"added_tokens_decoder": old | entries}
    if form == "tokenizer.json":
        (clip_folder / form).write_text(clip.to_json(), encoding="utf-8")
        (clip_folder / "added_tokens.json").write_text(json.dumps(listed))
    else:
        (clip_folder / form).write_text(json.dumps(listed))
    tokenizer = Tokenizer.from_json(read_folder_tokenizer(clip_folder))
    assert tokenizer.vocab_size == first + 2
    ids, mask = tokenizer(["a <sks-dog>, <Über-stil>"], 20)
    kept = ids[0][mask[0]].tolist()
    assert (kept.count(first), kept.count(first + 1), kept[-1]) == (1, 1, clip.eos)
    for text in ("a cat", "<sks dog>"):
        np.testing.assert_array_equal(tokenizer([text], 20)[0], clip([text], 20)[0])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"<new>": 9999}, "'<new>' as 9999, not"),
        ({"!": 7}, "'!' as 7, not"),
        ({"<new>": "no number"}, "does not list tokens and their ids"),
        ({"<new>": None}, "does not list tokens and their ids"),
    ],
)
def test_added_tokens_that_do_not_fit_are_named(content, said, clip_folder):
    (clip_folder / "added_tokens.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        read_folder_tokenizer(clip_folder)


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("special_tokens_map.json", {"additional_special_tokens": ["<sks-dog>", {"content": "<\u00dcber-stil>"}]}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<|endoftext|>", *ADDED]}),
        ("tokenizer_config.json", {"extra_special_tokens": {"dog": "<sks-dog>", "style": "<\u00dcber-stil>"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {}, "extra_special_tokens": ADDED}),
    ],
)
def test_special_tokens_that_are_named_alone_follow_the_vocabulary(file, named, clip_folder, clip):
    (clip_folder / file).write_text(json.dumps(named))
    tokenizer = Tokenizer.from_json(read_folder_tokenizer(clip_folder))
    assert [tokenizer.backend.token_to_id(token) for token in ADDED] == [clip.vocab_size, clip.vocab_size + 1]
    ids, mask = tokenizer(["a <sks-dog>, <\u00dcber-stil>"], 20)
    assert {clip.vocab_size, clip.vocab_size + 1} < {*ids[0][mask[0]].tolist()}


def test_special_tokens_that_are_no_texts_are_named_and_an_older_list_gives_way(clip_folder, clip):
    (clip_folder / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": [3]}))
    with pytest.raises(ValueError, match="no texts: 3"):
        read_folder_tokenizer(clip_folder)
    (clip_folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {}}))
    assert Tokenizer.from_json(read_folder_tokenizer(clip_folder)).vocab_size == clip.vocab_size


def test_the_length_of_texts_is_what_the_folder_says(tmp_path):
    assert read_max_length(tmp_path) is None
    for length, expected in ((77, 77), (2, 2), (None, None), (int(1e30), None), (1e30, None)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
        assert read_max_length(tmp_path) == expected
    for length in (1, 0, -5, 77.5, "77", True):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": length}))
        with pytest.raises(ValueError, match="model_max_length="):
            read_max_length(tmp_path)


def test_a_file_of_absurd_size_is_not_read(tmp_path):
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(64 * 2**20 + 1)
    with pytest.raises(ValueError, match=r"tokenizer\.json has 67108865 bytes"):
        read_folder_tokenizer(tmp_path)


def test_padding_is_what_the_folder_says(tmp_path, clip):
    def say(name: str, content: dict) -> None:
        (tmp_path / name).write_text(json.dumps(content))

    assert read_padding_id(tmp_path, clip) == clip.eos
    say("tokenizer_config.json", {"pad_token": "<|endoftext|>"})
    say("special_tokens_map.json", {"pad_token": {"content": "!", "lstrip": False}})
    assert read_padding_id(tmp_path, clip) == clip.backend.token_to_id("!")
    say("tokenizer_config.json", {"pad_token": "<|endoftext|>", "added_tokens_decoder": {}})
    assert read_padding_id(tmp_path, clip) == clip.eos
    say("tokenizer_config.json", {"pad_token": "[PAD]", "added_tokens_decoder": {}})
    with pytest.raises(ValueError, match=r"pads with '\[PAD\]'"):
        read_padding_id(tmp_path, clip)
