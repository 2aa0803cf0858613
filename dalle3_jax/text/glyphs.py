"""The quoted text of a prompt as bytes: what a glyph encoder reads, so that the letters of a sign need not be guessed.

Ids are ByT5's (arXiv 2105.13626): 0 pads, 1 ends a word, and a byte of UTF-8 is its value + 3.
"""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

__all__ = ["count_glyphs", "encode_glyphs", "find_quotes"]

PAD, EOS, OFFSET = 0, 1, 3

# A straight mark just behind a digit means inches and opens nothing.
QUOTED = re.compile(r'(?<!\d)"([^"]*)"|“([^“„”]*)”|„([^“„”]*)[“”]|«([^«»]*)»')


def find_quotes(text: str) -> tuple[str, ...]:
    """The texts in double quotes, straight ("") or typographic (“”, „“, „”, «»), without the blanks at its ends.

    Straight marks pair up from the left, and of quotes within quotes the outer ones count. A mark without its partner
    quotes nothing; neither do empty quotes, nor single ones, which are apostrophes.
    """
    quotes = ("".join(groups).strip() for groups in QUOTED.findall(text))
    return tuple(filter(None, quotes))


def count_glyphs(text: str) -> int:
    """The number of ids of the whole quoted text, the ends of words included."""
    return len(_ids(text))


def encode_glyphs(texts: Sequence[str], length: int) -> tuple[Int[np.ndarray, "b l"], Bool[np.ndarray, "b l"]]:
    """Ids and mask of what each text quotes; nothing quoted masks the whole row.

    What does not fit is cut from the end, and the end of a word stays the last id.
    """
    if isinstance(texts, str):
        raise ValueError("the glyphs are of a list of texts; wrap the one text in a list")
    if length < 1:
        raise ValueError(f"a glyph length of {length} leaves no room for a word's end; it must be at least 1")
    ids = np.full((len(texts), length), PAD, np.int32)
    for row, text in enumerate(texts):
        kept = _ids(text)
        if len(kept) > length:
            kept = [*kept[: length - 1], EOS]
        ids[row, : len(kept)] = kept
    return ids, ids != PAD


def _ids(text: str) -> list[int]:
    # Invalid bytes of a command line arrive as lone surrogates, which are no Unicode text.
    words = (word.encode("utf-8", "replace") for word in find_quotes(text))
    return [token for word in words for token in (*(byte + OFFSET for byte in word), EOS)]
