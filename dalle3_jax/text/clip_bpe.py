"""CLIP's tokenizer.json out of vocab.json and merges.txt, which is all that Stable Diffusion's folders hold of it.

Byte-level byte-pair encoding of lower-case words, whose last piece carries `</w>` (arXiv 2103.00020, as transformers
does it: NFC, white space as one blank).
"""

import json

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, processors

__all__ = ["END", "START", "added_tokens", "clip_files", "clip_json"]

START, END = "<|startoftext|>", "<|endoftext|>"

WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip_json(vocab: str, merges: str) -> str:
    """The text of a tokenizer.json that gives the ids of these texts of vocab.json and merges.txt.

    Raises ValueError when the one is no JSON object of token: id with both special tokens, or a line of the other
    does not name two pieces that make a known token.
    """
    ids, pairs = _parse_vocabulary(vocab), _parse_merges(merges)
    try:
        bpe = models.BPE(ids, pairs, unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>")
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"merges.txt does not fit vocab.json: {error}") from None
    backend = tokenizers.Tokenizer(bpe)
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([START, END])
    ends = ((END, ids[END]), (START, ids[START]))
    backend.post_processor = processors.RobertaProcessing(*ends, trim_offsets=False, add_prefix_space=False)
    return backend.to_str()


def clip_files(tokenizer: str) -> tuple[str, str]:
    """The texts of vocab.json and merges.txt of which `clip_json` makes this tokenizer.json again."""
    model = json.loads(tokenizer)["model"]
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    return json.dumps(model["vocab"], ensure_ascii=False), "\n".join(["#version: 0.2", *pairs, ""])


def added_tokens(tokenizer: str) -> dict[str, int]:
    """The tokens of a tokenizer.json that its vocabulary lacks, and their ids: the content of added_tokens.json."""
    content = json.loads(tokenizer)
    entries = content.get("added_tokens") or []
    return {entry["content"]: entry["id"] for entry in entries if entry["content"] not in content["model"]["vocab"]}


def _parse_vocabulary(text: str) -> dict[str, int]:
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"vocab.json is no JSON: {error}") from None
    if not isinstance(ids, dict) or not all(type(index) is int and 0 <= index < 2**31 for index in ids.values()):
        raise ValueError("vocab.json is not one object of tokens and their ids, whole numbers from 0")
    if missing := [token for token in (START, END) if token not in ids]:
        raise ValueError(f"vocab.json lacks {' and '.join(missing)}: it is not CLIP's")
    return ids


def _parse_merges(text: str) -> list[tuple[str, str]]:
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#version")]
    pairs = [line.split() for line in lines]
    if wrong := [line for line, pair in zip(lines, pairs, strict=True) if len(pair) != 2]:
        raise ValueError(f"merges.txt has {len(wrong)} lines that are not two pieces, the first {wrong[0][:80]!r}")
    return [(first, second) for first, second in pairs]
