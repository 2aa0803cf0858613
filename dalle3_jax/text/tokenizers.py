"""Text to token ids: a `tokenizer.json`, or what makes one, and T5's or CLIP's begin, end and padding around it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from jaxtyping import Bool, Int

from dalle3_jax.text.clip_bpe import END, START, clip_json
from dalle3_jax.text.sentencepiece_model import EXTRA_IDS, sentencepiece_json

__all__ = ["EOS", "PAD", "Tokenizer", "read_folder_tokenizer", "read_max_length", "read_padding_id"]

PAD, EOS = "<pad>", "</s>"
SENTENCEPIECE = "spiece.model"
MOST_BYTES = 64 * 2**20
MOST_EXTRA_IDS = 10_000
LEAST_TOKENS, MOST_TOKENS = 2, 10**6
"""Of a text: its start and end; what no model reads."""


@dataclass(frozen=True)
class Tokenizer:
    """A prompt becomes its tokens and one end token, cut or padded to a fixed length.

    T5's end is `</s>`, its padding `<pad>`. CLIP's texts begin with `<|startoftext|>` (`start`) and end with
    `<|endoftext|>`, which pads them too. Nothing here is random or global, so the same text gives the same ids in
    training and in sampling.
    """

    backend: tokenizers.Tokenizer
    pad: int
    eos: int
    path: str = ""
    start: int | None = None

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads a `tokenizer.json` or a SentencePiece `*.model`; ValueError when it is missing or none."""
        path = Path(path)
        return cls.from_json(_read_sentencepiece(path) if path.suffix == ".model" else _read_text(path), str(path))

    @classmethod
    def from_json(cls, text: str, path: str = "") -> "Tokenizer":
        """Makes a tokenizer from the text of a `tokenizer.json`; `path` is what errors call it.

        Its special tokens tell whether it is T5's or CLIP's; ValueError when it has those of neither.
        """
        name = repr(path) if path else "the given text"
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{name} is not a tokenizer.json: {error}") from None
        backend.no_truncation()
        backend.no_padding()
        pad, eos, start, end = map(backend.token_to_id, (PAD, EOS, START, END))
        if start is not None and end is not None:
            return cls(backend, end, end, path, start)
        if pad is not None and eos is not None:
            return cls(backend, pad, eos, path)
        raise ValueError(
            f"the tokenizer in {name} lacks {PAD} or {EOS}, and it is not CLIP's, with {START} and {END}; "
            "add them as special tokens"
        )

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def to_json(self) -> str:
        """The text of a `tokenizer.json` that makes this tokenizer again."""
        return self.backend.to_str()

    def count(self, text: str) -> int:
        """The number of tokens of the whole text, with those that begin and end it."""
        return len(self._encode([text])[0]) + len(self._start_ids) + 1

    def __call__(self, texts: Sequence[str], length: int) -> tuple[Int[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
        """Ids and mask; what does not fit is cut from the end, and the end token stays the last one."""
        if isinstance(texts, str):
            raise ValueError("the tokenizer takes a list of texts; wrap the one text in a list")
        least = len(self._start_ids) + 1
        if length < least:
            raise ValueError(f"a text length of {length} has no room for an empty text; it must be at least {least}")
        ids = np.full((len(texts), length), self.pad, np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, tokens in enumerate(self._encode(texts)):
            kept = [*self._start_ids, *tokens[: length - least], self.eos]
            ids[row, : len(kept)] = kept
            mask[row, : len(kept)] = True
        return ids, mask

    @property
    def _start_ids(self) -> list[int]:
        return [] if self.start is None else [self.start]

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # Invalid bytes of a command line arrive as lone surrogates, which are no Unicode text.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self.backend.encode_batch(clean, add_special_tokens=False)]


def read_folder_tokenizer(folder: str | Path) -> str:
    """The text of the tokenizer.json of a tokenizer's folder.

    One without it has T5's spiece.model, or CLIP's vocab.json and merges.txt, of which it is made. Tokens that
    added_tokens.json or tokenizer_config.json add to them (textual inversion) are whole tokens of it. Raises ValueError
    naming what is missing, damaged or beyond all size.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        return _with_added_tokens(_read_text(folder / "tokenizer.json"), folder)
    if (folder / SENTENCEPIECE).is_file():
        return _with_added_tokens(_read_sentencepiece(folder / SENTENCEPIECE), folder)
    pair = folder / "vocab.json", folder / "merges.txt"
    if all(file.is_file() for file in pair):
        try:
            text = clip_json(*map(_read_text, pair))
        except ValueError as error:
            raise ValueError(f"{folder}: {error}") from None
        return _with_added_tokens(text, folder)
    raise ValueError(
        f"{folder} has neither tokenizer.json nor both of vocab.json and merges.txt, nor {SENTENCEPIECE}; "
        "load the tokenizer with transformers and call save_pretrained(folder), which writes tokenizer.json"
    )


def _with_added_tokens(text: str, folder: Path) -> str:
    """A tokenizer.json with the added tokens of the other files; the text itself where it has them all."""
    added, named = _added_tokens(folder), _named_special_tokens(folder)
    if not added and not named:
        return text
    try:
        backend = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise ValueError(f"{folder / 'tokenizer.json'} is not a tokenizer.json: {error}") from None
    missing = [token for _, token in sorted(added.items()) if backend.token_to_id(token.content) is None]
    given = {token.content for token in missing}
    missing += [
        tokenizers.AddedToken(name, normalized=False, special=True)
        for name in named
        if name not in given and backend.token_to_id(name) is None
    ]
    for token in missing:
        (backend.add_special_tokens if token.special else backend.add_tokens)([token])
    wrong = {token.content: index for index, token in added.items() if backend.token_to_id(token.content) != index}
    if wrong:
        ids = ", ".join(f"{token!r} as {index}, not {backend.token_to_id(token)}" for token, index in wrong.items())
        raise ValueError(
            f"{folder} adds the tokens {ids}, which its vocabulary gives: its files do not belong together"
        )
    return backend.to_str() if missing else text


def _added_tokens(folder: Path) -> dict[int, tokenizers.AddedToken]:
    """The added tokens by their ids; as transformers does, those of tokenizer_config.json where it lists any."""
    file, older = folder / "tokenizer_config.json", folder / "added_tokens.json"
    listed = _read_object(file).get("added_tokens_decoder")
    try:
        if isinstance(listed, dict):
            return {int(index): _added_token(entry) for index, entry in listed.items()}
        file = older
        return {int(index): _added_token({"content": token}) for token, index in _read_object(older).items()}
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{file} does not list tokens and their ids: {error}") from None


def _named_special_tokens(folder: Path) -> list[str]:
    """The further special tokens that a folder names without their ids, in their order."""
    options, names = _special_token_options(folder), []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        entries = options.get(key) or []
        if not isinstance(entries, list | dict):
            raise ValueError(f"{folder} names {key} that are no list: {entries!r}")
        names += entries.values() if isinstance(entries, dict) else entries
    texts = [name.get("content") if isinstance(name, dict) else name for name in names]
    if wrong := [text for text in texts if not isinstance(text, str) or not text]:
        raise ValueError(f"{folder} names special tokens that are no texts: {wrong[0]!r}")
    return [*dict.fromkeys(map(str, texts))]


def _special_token_options(folder: Path) -> dict[str, Any]:
    """The options of special tokens in tokenizer_config.json and the older special_tokens_map.json.

    As transformers does: where the first lists the added tokens the older file is not read.
    """
    config, older = (_read_object(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json"))
    return config if "added_tokens_decoder" in config else {**config, **older}


def _added_token(entry: dict[str, Any]) -> tokenizers.AddedToken:
    flags = {name: bool(entry[name]) for name in ("single_word", "lstrip", "rstrip", "normalized") if name in entry}
    return tokenizers.AddedToken(entry["content"], special=bool(entry.get("special", False)), **flags)


def read_max_length(folder: str | Path) -> int | None:
    """The tokens to which a tokenizer's folder says that texts are cut, model_max_length; None where it says none.

    Numbers beyond all lengths, which transformers writes for "none", are none. ValueError for what is no length.
    """
    length = _read_object(Path(folder) / "tokenizer_config.json").get("model_max_length")
    if length is None or (isinstance(length, int | float) and length > MOST_TOKENS):
        return None
    if type(length) is not int or length < LEAST_TOKENS:
        raise ValueError(
            f"{folder} cuts texts to model_max_length={length!r}: it must be at least {LEAST_TOKENS} tokens"
        )
    return length


def read_padding_id(folder: str | Path, tokenizer: Tokenizer) -> int:
    """The id with which the public library pads: SDXL's second text encoder and SD 2's were trained with that of "!".

    Raises ValueError when the folder names a token for it that the tokenizer does not have.
    """
    token = _special_token_options(Path(folder)).get("pad_token")
    token = token.get("content") if isinstance(token, dict) else token
    if token is None:
        return tokenizer.pad
    padding = tokenizer.backend.token_to_id(token) if isinstance(token, str) else None
    if padding is None:
        raise ValueError(f"{folder} pads with {token!r}, which is none of its tokenizer's tokens")
    return padding


def _read_object(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(_read_text(file))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} is no JSON object")
    return content


def _read_sentencepiece(file: Path) -> str:
    """The text of the tokenizer.json of a SentencePiece model, with as many sentinels as the config beside it says."""
    extra = _read_object(file.with_name("tokenizer_config.json")).get("extra_ids", EXTRA_IDS)
    if not isinstance(extra, int) or not 0 <= extra <= MOST_EXTRA_IDS:
        raise ValueError(
            f"{file.with_name('tokenizer_config.json')}: extra_ids is {extra!r}, not 0 to {MOST_EXTRA_IDS}"
        )
    return sentencepiece_json(_read_bytes(file), str(file), extra)


def _read_text(file: Path) -> str:
    try:
        return _read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {file}: {error}") from None


def _read_bytes(file: Path) -> bytes:
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise ValueError(f"{file} has {size} bytes; no tokenizer's file is over {MOST_BYTES}")
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error}") from None
