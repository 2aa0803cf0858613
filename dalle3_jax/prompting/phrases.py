"""Known phrases in a text: the longest that stands at each word, whatever its capitals, hyphens and apostrophes."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Phrase", "Word", "find_phrases", "normalize", "split_words"]

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
MOST = 9
"""Words of a phrase."""
GAPS = (" ", "-", "' ", "'-", "\u2019 ", "\u2019-")
"""What may part the words of a phrase: the apostrophe of a genitive at most."""


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
    return [Word(match[0].lower().replace("\u2019", "'"), *match.span()) for match in WORD.finditer(text)]


def find_phrases(
    text: str, words: Sequence[Word], known: Collection[str], accept: Callable[[Phrase], bool] | None = None
) -> Iterator[Phrase]:
    """The known phrases of a text from left to right, the longest first, none over another; those that are accepted."""
    texts, first = [word.text for word in words], 0
    while first < len(words):
        end = first + 1
        while end < min(len(words), first + MOST) and text[words[end - 1].end : words[end].start] in GAPS:
            end += 1
        longest = None
        while end > first and not longest:
            key = " ".join(texts[first:end])
            phrase = Phrase(key, first, end)
            if key in known and (accept is None or accept(phrase)):
                longest = phrase
                yield longest
            end -= 1
        first = longest.last if longest else first + 1
