"""Arrangements in a clause of Chinese, by patterns over the kinds of its words, and the clause in English.

Kinds: N a noun, B a background, D a direction, Z the middle, T between, S beside, P at, H has or is, E of, A and, W
without, V a verb, Y reads, Q what stands for a quote.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from dalle3_jax.prompting.lexicon import NUMBERS, Lexicon
from dalle3_jax.text.english import article_for
from dalle3_jax.text.english import regular_plural as plural_of

__all__ = ["Clause", "Noun", "Piece", "render_clause"]


@dataclass(frozen=True)
class Noun:
    """A noun: how many (0: several), and the adjectives and colours before it; `doing` is a participle behind it.

    Where the number was not said (`is_counted`), one is meant, or the one that was spoken of.
    """

    name: str = ""
    number: int = 1
    adjectives: tuple[str, ...] = ()
    doing: str = ""
    is_counted: bool = False


class Piece(NamedTuple):
    """A word of a clause: its kind, its meaning, and the noun of one."""

    kind: str
    meaning: str
    noun: Noun = Noun()


class Clause(NamedTuple):
    """A clause in English, and whether it should stand alone."""

    text: str
    is_sentence: bool = False


@dataclass
class Reading:
    """The state of a clause while it is read."""

    statements: list[str] = field(default_factory=list)
    nouns: list[str] = field(default_factory=list)
    background: str = ""


Said = Callable[[Noun], str]
RELATION = {"left": "left of", "right": "right of", "top": "above", "bottom": "below"}
FURTHER = {
    "left of": "to the left of",
    "right of": "to the right of",
    "beside": "next to",
    "centre": "in the middle of",
}


def render_clause(pieces: list[Piece], lexicon: Lexicon, mentioned: set[str]) -> Clause:
    """The clause in English; nouns that were `spoken` of before are "the" ones."""
    reading = Reading()
    pieces = merged(pieces)

    def say(noun: Noun) -> str:
        return spell(noun, lexicon, mentioned)

    pieces = take_background(pieces, lexicon, reading)
    for pattern, rule in RULES:
        pieces = take(pieces, pattern, rule, lexicon, reading, say)
    reading.nouns += [say(piece.noun) for piece in pieces if piece.kind == "N"]
    nouns = reading.nouns
    things = " and ".join([", ".join(nouns[:-1]), nouns[-1]] if len(nouns) > 2 else nouns)
    quotes = [piece.meaning for piece in pieces if piece.kind == "Q"]
    plain = " ".join(filter(None, [things, reading.background, *quotes]))
    if reading.statements and not things:
        first = " ".join(filter(None, [reading.statements[0], reading.background, *quotes]))
        return Clause(". ".join([first, *map(capital, reading.statements[1:])]), is_sentence=True)
    texts = [plain, *reading.statements] if plain else reading.statements
    return Clause(". ".join([*texts[:1], *map(capital, texts[1:])]), is_sentence=bool(reading.statements))


def capital(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]


def merged(pieces: list[Piece]) -> list[Piece]:
    """The pieces without a noun that repeats the one before it: "熊猫🐼"."""
    kept: list[Piece] = []
    for piece in pieces:
        if kept and piece.kind == "N" == kept[-1].kind and piece.noun.name == kept[-1].noun.name:
            continue
        kept.append(piece)
    return kept


def spell(noun: Noun, lexicon: Lexicon, mentioned: set[str]) -> str:
    """The noun with its article or number: "a red apple", "two cats", "the cat"."""
    plural = lexicon.things.get(noun.name, plural_of(noun.name))
    many = noun.number != 1 or (not noun.is_counted and plural in mentioned)
    name = plural if many else noun.name
    text = " ".join([*noun.adjectives, name])
    known = text in mentioned and not noun.is_counted
    mentioned |= {text, name}
    if known:
        text = f"the {text}"
    elif noun.number == 1:
        first = text.split()[0]
        own = lexicon.articles.get(name) if first == name.split()[0] else None
        text = f"{own or article_for(first)} {text}"
    elif noun.number:
        text = f"{NUMBERS[noun.number] if noun.number < len(NUMBERS) else noun.number} {text}"
    return f"{text} {noun.doing}".strip()


def take_background(pieces: list[Piece], lexicon: Lexicon, reading: Reading) -> list[Piece]:
    """Reads the first background, with the words around it that say that something is there."""
    kinds = "".join(piece.kind for piece in pieces)
    match = re.search(r"P?(B)E?(D?)[EH]?", kinds)
    if not match:
        return pieces
    name = pieces[match.start(1)].meaning
    reading.background = reading.background or lexicon.backgrounds.get(name, (name,))[0]
    aside = match[2] and pieces[match.start(2)].meaning in ("left", "right")
    end = match.start(2) if aside else match.end()
    return [*pieces[: match.start()], *pieces[end:]]


Rule = Callable[[list[Piece], Lexicon, Reading, Said], list[Piece]]


def take(
    pieces: list[Piece], pattern: re.Pattern[str], rule: Rule, lexicon: Lexicon, reading: Reading, say: Said
) -> list[Piece]:
    """The pieces after a rule has read every stretch that its pattern finds."""
    start = 0
    while match := pattern.search("".join(piece.kind for piece in pieces), start):
        spans = [match.span(i) for i in range(1, pattern.groups + 1)]
        groups = [piece for first, last in spans for piece in pieces[first:last] if piece.kind != "A"]
        rest = rule(groups, lexicon, reading, say)
        pieces = [*pieces[: match.start()], *rest, *pieces[match.end() :]]
        start = match.start() + len(rest)
    return pieces


def relation(direction: Piece, lexicon: Lexicon) -> str:
    """The words between two things for a direction of the second."""
    name = "beside" if direction.kind == "S" else RELATION.get(direction.meaning, direction.meaning)
    return lexicon.relations.get(name, (FURTHER.get(name, name),))[0]


def place(direction: Piece, lexicon: Lexicon) -> str:
    """The words for a place of the frame."""
    return lexicon.places.get(direction.meaning, (FURTHER.get(direction.meaning, direction.meaning),))[0]


def stands_between(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """A between B and C."""
    first, second, third = (say(piece.noun) for piece in groups)
    reading.statements.append(f"{first} between {second} and {third}")
    return []


def has_between(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """Between A and B there is C."""
    return stands_between([groups[2], *groups[:2]], lexicon, reading, say)


def stands_at(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """A is left of B."""
    *nouns, second, direction = groups
    firsts = " and ".join(say(piece.noun) for piece in nouns)
    reading.statements.append(f"{firsts} {relation(direction, lexicon)} {say(second.noun)}")
    return []


def has_beside(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """Left of A there is B."""
    return stands_at([*groups[2:], *groups[:2]], lexicon, reading, say)


def is_placed(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """On the left there is A; A is on the left."""
    *nouns, direction = sorted(groups, key=lambda piece: piece.kind != "N")
    things = " and ".join(say(piece.noun) for piece in nouns)
    reading.statements.append(f"{things} {place(direction, lexicon)}")
    return []


def acts_on(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """A rides B."""
    first, verb, second = groups
    reading.nouns.append(f"{say(first.noun)} {verb.meaning} {say(second.noun)}")
    return []


def who_acts_on(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """The A that rides B."""
    verb, second, first = groups
    return acts_on([first, verb, second], lexicon, reading, say)


def is_absent(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """Without A."""
    noun = groups[0].noun
    reading.statements.append(f"there are no {lexicon.things.get(noun.name, plural_of(noun.name))}")
    return []


def bears_words(groups: list[Piece], lexicon: Lexicon, reading: Reading, say: Said) -> list[Piece]:
    """A thing on which a quote is written."""
    noun, quote = sorted(groups, key=lambda piece: piece.kind)
    reading.nouns.append(f"{say(noun.noun)} that says {quote.meaning}")
    return []


RULES: tuple[tuple[re.Pattern[str], Rule], ...] = (
    (re.compile(r"Y?(Q)E(N)"), bears_words),
    (re.compile(r"(N)D?H?Y?(Q)"), bears_words),
    (re.compile(r"W(N)"), is_absent),
    (re.compile(r"^A?P?([DZ])[EH]*(N)(?=A?P?[DZ]H?E?N|$)"), is_placed),
    (re.compile(r"(N)V?P(N)A(N)E?[TZ]"), stands_between),
    (re.compile(r"P?(N)A(N)E?[TZ][HEV]*(N)"), has_between),
    (re.compile(r"(N(?:AN)*)V?P(N)E?([DS])(?!E?N)"), stands_at),
    (re.compile(r"P?(N)E?([DS])[HEV]*(N(?:AN)*)"), has_beside),
    (re.compile(r"P?([DZ])[EHV]*(N(?:AN)*)"), is_placed),
    (re.compile(r"(N(?:AN)*)V?H?P?([DZ])"), is_placed),
    (re.compile(r"(V)(N)E(N)"), who_acts_on),
    (re.compile(r"(N)(V)(N)"), acts_on),
)
"""Patterns and what they mean, in the order in which they are tried."""
