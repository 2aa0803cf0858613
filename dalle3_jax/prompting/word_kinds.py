"""Kinds of words: whether one it names something that would have to be drawn, or is a verb or an adjective."""

import re

from dalle3_jax.prompting.lexicon import COLOURS, NUMBERS
from dalle3_jax.prompting.ordinary_words import (
    ADJECTIVES,
    DETERMINERS,
    EMPTY,
    FUNCTION,
    GENERAL,
    IRREGULAR,
    STYLE,
    VERBS,
)

__all__ = ["is_adjective", "is_ordinary", "is_verb", "number_of"]

NAMELESS = frozenset({*ADJECTIVES, *COLOURS, *DETERMINERS, *EMPTY, *FUNCTION, *GENERAL, *NUMBERS, *STYLE})
SUFFIXES = re.compile(
    r"(?:ful|ous|ish|less|able|ible|ive|ical|ic|ent|ant|esque|like|ed|ing|ly|est|ern|proof|shaped|sized)$"
)
"""How adjectives and adverbs end."""
ADVERB = re.compile(r"(?<!f)(?<!i)(?<!l)ly$|(?:ful|al|ic)ly$")
"""How adverbs end, and neither butterfly, family nor jelly."""


def is_ordinary(word: str, before: str = "") -> bool:
    """Whether a word in lower case names nothing; behind a determiner a verb is a noun ("a swing")."""
    if (
        word in NAMELESS
        or word.removesuffix("s") in GENERAL
        or ADVERB.search(word)
        or word.endswith(("'s", "\u2019s"))
        or not re.search(r"[a-z]", word)
    ):
        return True
    return is_verb(word) and not (before in DETERMINERS and word in VERBS)


def is_verb(word: str) -> bool:
    """Whether a word is a form of a common verb."""
    return word in IRREGULAR or any(stem in VERBS for stem in verb_stems(word))


def verb_stems(word: str) -> list[str]:
    """The words that a word may be a form of."""
    stems = [word]
    for ending in ("s", "es", "ed", "d", "ing"):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            stem = word.removesuffix(ending)
            stems += [stem, f"{stem}e"]
            if len(stem) > 2 and stem[-1] == stem[-2]:
                stems.append(stem[:-1])
    if word.endswith(("ies", "ied")):
        stems.append(f"{word[:-3]}y")
    return stems


def is_adjective(word: str) -> bool:
    """Whether a word is a common adjective or ends like one."""
    return word in ADJECTIVES or bool(SUFFIXES.search(word))


def number_of(word: str) -> int | None:
    """The number that a word or some digits say; None of any other word, and of more digits than anybody counts."""
    if word in NUMBERS:
        return NUMBERS.index(word)
    return int(word) if re.fullmatch(r"[0-9]{1,4}", word) else None
