"""Text to token ids: a `tokenizer.json`, and T5's ending and padding around it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tokenizers
from jaxtyping import Bool, Int

PAD, EOS = "<pad>", "</s>"


@dataclass(frozen=True)
class Tokenizer:
    """A prompt becomes its tokens and one `</s>`, cut or padded to a fixed length; "" is `</s>` alone.

    Nothing here is random or global, so the same text gives the same ids in training and in sampling.
    """

    backend: tokenizers.Tokenizer
    pad: int
    eos: int
    path: str = ""

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Reads a `tokenizer.json`; ValueError when it is missing or none."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"cannot read the tokenizer {str(path)!r}: {error}") from None
        return cls.from_json(text, str(path))

    @classmethod
    def from_json(cls, text: str, path: str = "") -> "Tokenizer":
        """Makes a tokenizer from the text of a `tokenizer.json`; `path` is what errors call it."""
        name = repr(path) if path else "the given text"
        try:
            backend = tokenizers.Tokenizer.from_str(text)
        except Exception as error:  # the library raises plain Exception
            raise ValueError(f"{name} is not a tokenizer.json: {error}") from None
        backend.no_truncation()
        backend.no_padding()
        pad, eos = backend.token_to_id(PAD), backend.token_to_id(EOS)
        if pad is None or eos is None:
            raise ValueError(f"the tokenizer in {name} lacks {PAD} or {EOS}; add them as special tokens")
        return cls(backend, pad, eos, path)

    @property
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def to_json(self) -> str:
        """The text of a `tokenizer.json` that makes this tokenizer again."""
        return self.backend.to_str()

    def count(self, text: str) -> int:
        """The number of tokens of the whole text, `</s>` included."""
        return len(self._encode([text])[0]) + 1

    def __call__(self, texts: Sequence[str], length: int) -> tuple[Int[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
        """Ids and mask; what does not fit is cut from the end, and `</s>` stays the last token."""
        if isinstance(texts, str):
            raise ValueError("the tokenizer takes a list of texts; wrap the one text in a list")
        if length < 1:
            raise ValueError(f"a text length of {length} leaves no room for {EOS}; it must be at least 1")
        ids = np.full((len(texts), length), self.pad, np.int32)
        mask = np.zeros((len(texts), length), bool)
        for row, tokens in enumerate(self._encode(texts)):
            kept = [*tokens[: length - 1], self.eos]
            ids[row, : len(kept)] = kept
            mask[row, : len(kept)] = True
        return ids, mask

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        # Invalid bytes of a command line arrive as lone surrogates, which are no Unicode text.
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [encoding.ids for encoding in self.backend.encode_batch(clean, add_special_tokens=False)]
