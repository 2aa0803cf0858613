"""Names of species in captions, which only a specialist tells apart: kept where the alternative text has them.

A list says what is guarded, a line a name with the general word that stands for it, plurals where they are irregular:

    orchid: flower
    goose, geese: bird
    # a comment
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import NamedTuple

from dalle3_jax.text.english import article_for, capital, regular_plural
from dalle3_jax.text.glyphs import QUOTED

__all__ = ["General", "generalise_species", "names_digest", "read_names"]


class General(NamedTuple):
    """The general word for a name, as the name is a singular or a plural, and all forms of the name."""

    word: str
    forms: tuple[str, str]


def read_names(text: str) -> dict[str, General]:
    """The list in a file: every form of every name, in small letters; ValueError with all lines that make no sense."""
    general_words: dict[str, General] = {}
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        name, _, general = line.partition(":")
        names, generals = parse_forms(name), parse_forms(general)
        if names and generals:
            general_words |= {form: General(word, names) for form, word in zip(names, generals, strict=True)}
        elif line:
            wrong.append(f"line {number} {line[:40]!r}")
    if wrong or not general_words:
        raise ValueError(f"{'; '.join(wrong) or 'no name'}: write a name and its general word, as in 'orchid: flower'")
    return general_words


def parse_forms(text: str) -> tuple[str, str] | None:
    """Singular and plural of "goose, geese" or of "orchid"; None where it is neither."""
    words = [" ".join(word.split()).lower() for word in text.split(",")]
    if not all(words) or len(words) > 2:
        return None
    return (words[0], words[1]) if len(words) == 2 else (words[0], regular_plural(words[0]))


def names_digest(names: Mapping[str, General]) -> str:
    """A name for the list."""
    return sha256(repr(sorted(names.items())).encode()).hexdigest()[:16]


def generalise_species(caption: str, alt: str, names: Mapping[str, General]) -> tuple[str, tuple[str, ...]]:
    """The caption with the general word for every name that the alternative text lacks; a flag "species" for each.

    The article before a name follows; what is quoted stays as it is.
    """
    flags: list[str] = []
    longest = sorted(names, key=len, reverse=True)
    known = re.compile(rf"(?<![\w-])(?:(an?) )?({'|'.join(map(re.escape, longest))})(?![\w-])", re.IGNORECASE)
    said = {match[2].lower() for match in known.finditer(" ".join(alt.split()))}

    def general(match: re.Match[str]) -> str:
        name = names[match[2].lower()]
        if said & set(name.forms):
            return match[0]
        flags.append("species")
        word = capital(name.word) if match[2][0].isupper() else name.word
        return f"{article_for(word, match[1])} {word}" if match[1] else word

    parts: list[str] = []
    end = 0
    for quote in [*QUOTED.finditer(caption), None]:
        start = quote.start() if quote else len(caption)
        parts += [known.sub(general, caption[end:start]), quote[0] if quote else ""]
        end = quote.end() if quote else start
    return "".join(parts), tuple(flags)
