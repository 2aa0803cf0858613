"""Known phrases in a text: the longest that stands at each word, whatever its capitals, hyphens and apostrophes."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Phrase", "Word", "find_phrases", "normalize", "split_words"]

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
MOST = 9
"""Words of a phrase."""


class Word(NamedTuple):
    """A word in lower case and where it stands in the text."""

    text: str
    start: int
    end: int


class Phrase(NamedTuple):
    """A known phrase in its normal form, as the half-open range of its words."""

    key: str
    first: int
    last: int


def normalize(text: str) -> str:
    """The form in which phrases are compared: lower case, straight apostrophes, blanks for hyphens."""
    return " ".join(word.text for word in split_words(text))


def split_words(text: str) -> list[Word]:
    """The words of a text; a hyphen parts two."""
    return [Word(found[0].lower().replace("\u2019", "'"), *found.span()) for found in WORD.finditer(text)]


def find_phrases(text: str, words: Sequence[Word], known: Collection[str]) -> Iterator[Phrase]:
    """The known phrases of a text from left to right, the longest first, none over another."""
    first = 0
    while first < len(words):
        last = next((end for end in _ends(text, words, first) if _key(words[first:end]) in known), 0)
        if last:
            yield Phrase(_key(words[first:last]), first, last)
        first = last or first + 1


def _ends(text: str, words: Sequence[Word], first: int) -> list[int]:
    """Where a phrase that begins at a word may end, the longest first: only blanks and hyphens part its words."""
    end = first + 1
    while end < min(len(words), first + MOST) and text[words[end - 1].end : words[end].start] in (" ", "-"):
        end += 1
    return [*range(end, first, -1)]


def _key(words: Sequence[Word]) -> str:
    """The normal form of some words."""
    return " ".join(word.text for word in words)
