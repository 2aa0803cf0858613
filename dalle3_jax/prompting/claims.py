"""The claims of a text in the words of a lexicon: things and their numbers, how they stand, the background, quotes.

Captions and prompts are read alike: names and plurals with the numbers and colours before them, phrases of relations,
places and backgrounds. What is not such a word is passed over.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from dalle3_jax.prompting.lexicon import KNOWN, NUMBERS, ONE, Lexicon
from dalle3_jax.text.glyphs import QUOTED, find_quotes

__all__ = ["SEVERAL", "Claims", "Relation", "Token", "parse_claims", "read_tokens"]

BETWEEN, IT = "between", "it"
QUOTE = "\ufffc"
"""Stands for what is quoted."""
SEVERAL = 0
"""The number of a plural that says none."""

Relation = tuple[str, ...]
"""("fox", "left of", "owl"), ("fox", "above", "owl") or ("fox", "between", "owl", "pig"), by names of things."""


@dataclass(frozen=True)
class Claims:
    """The claims of a text; what is empty is not said. `things` are numbers by concept, SEVERAL where none is given."""

    things: Mapping[str, int] = field(default_factory=dict)
    tints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    relations: tuple[Relation, ...] = ()
    places: Mapping[str, str] = field(default_factory=dict)
    backgrounds: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Token(NamedTuple):
    """A word of the world in a sentence: kind is thing, relation, place, order, between or it."""

    kind: str
    name: str
    number: int | None = None  # of a thing; None: it was spoken of before
    tint: str = ""


def parse_claims(text: str, lexicon: Lexicon) -> Claims:
    """The claims of a text, as far as it uses the lexicon's words."""
    plain = " ".join(QUOTED.sub(f" {QUOTE} ", text).lower().split())
    backgrounds, plain = extract_backgrounds(plain, lexicon)
    sentences = [read_tokens(sentence, lexicon) for sentence in re.split(r"[.;!?]", plain)]
    tokens = [token for sentence in sentences for token in sentence]
    relations: list[Relation] = []
    places: dict[str, str] = {}
    last = ""
    for sentence in sentences:
        relations += find_relations(sentence)
        places |= find_places(sentence, last)
        last = next((token.name for token in reversed(sentence) if token.kind == "thing"), last)
    relations += [relation for relation in relations_from_places(places) if relation not in relations]
    numbers, tints = count_things(tokens)
    return Claims(numbers, tints, tuple(dict.fromkeys(relations)), places, backgrounds, find_quotes(text))


def extract_backgrounds(text: str, lexicon: Lexicon) -> tuple[tuple[str, ...], str]:
    """The backgrounds that a text names, by the longest phrases first, and what is left of the text."""
    if not lexicon.backgrounds:
        return (), text
    pattern, names = lexicon.background_pattern
    backgrounds = [names[match[0]] for match in pattern.finditer(text)]
    return tuple(dict.fromkeys(backgrounds)), " ".join(pattern.sub(" , ", text).split())


def read_tokens(sentence: str, lexicon: Lexicon) -> list[Token]:
    """The words of the lexicon in a sentence, in order; of one that quotes something, only things with their number.

    The place in such a sentence is that of the writing.
    """
    pattern, known, plurals = lexicon.vocabulary
    tokens = []
    for before, tint, phrase in pattern.findall(sentence):
        token = Token(*known[phrase])
        if before == "no":
            continue
        if token.kind == "thing":
            token = token._replace(number=parse_number(before, phrase in plurals), tint=tint)
        if QUOTE not in sentence or token.number:
            tokens.append(token)
    return tokens


def parse_number(before: str, plural: bool) -> int | None:
    """The number of things that a name with this word before it stands for; None of things spoken of before."""
    if before.isdigit():
        return int(before)
    if before in ONE:
        return 1
    if before in NUMBERS:
        return NUMBERS.index(before)
    if before in KNOWN:
        return None
    return SEVERAL if plural else 1


def count_things(tokens: Sequence[Token]) -> tuple[dict[str, int], dict[str, tuple[str, ...]]]:
    """The number of each concept, and its tints; what is said twice of the same things counts once."""
    numbers: dict[tuple[str, str], int] = {}
    for token in tokens:
        if token.kind == "thing":
            pair = token.name, token.tint
            numbers[pair] = max(numbers.get(pair, -1), -1 if token.number is None else token.number)
    totals: dict[str, int] = {}
    tints: dict[str, tuple[str, ...]] = {}
    for (name, tint), number in numbers.items():
        alone = not any(other == name and shade for other, shade in numbers) or bool(tint)
        if alone:  # untinted words about a thing whose tint is said elsewhere are about the same thing
            totals[name] = totals.get(name, 0) + (1 if number < 0 else number)
            tints[name] = (*tints.get(name, ()), *((tint,) if tint else ()))
    return {name: number for name, number in totals.items() if number or name}, tints


def find_relations(sentence: Sequence[Token]) -> list[Relation]:
    """The relations that a sentence states."""
    relations: list[Relation] = []
    amidst = any(token.kind == "between" for token in sentence)  # there "above" is where one end stands
    for i, token in enumerate(sentence):
        before = [one.name for one in sentence[:i] if one.kind == "thing"]
        after = [one.name for one in sentence[i + 1 :] if one.kind == "thing"]
        if token.kind == "relation" and not amidst:
            relations += resolve_relation(token.name, before, after, follows=sentence[i + 1 : i + 2])
        elif token.kind == "between":
            relations += resolve_between(before, after)
        elif token.kind == "order":
            row = before + after
            relations += [(a, token.name, b) for a, b in pairwise(row)]
    return relations


def resolve_relation(
    name: str, before: Sequence[str], after: Sequence[str], follows: Sequence[Token]
) -> list[Relation]:
    """ "A left of B", "left of B is A", "B stands there, with A left of it"."""
    if before and follows and follows[0].kind == IT:
        return [(before[-1], name, before[-2])] if len(before) > 1 else []
    if before and after:
        return [(before[-1], name, after[0])]
    return [(after[1], name, after[0])] if len(after) > 1 else []


def resolve_between(before: Sequence[str], after: Sequence[str]) -> list[Relation]:
    """ "A between B and C", "between B and C is A", "B, C, and between them A", "B, C, and A is between them"."""
    if len(after) > 1:
        first = before[-1:] or after[2:3]
        return [(first[0], BETWEEN, after[0], after[1])] if first else []
    row = [*before[-2:], *after] if after else before[-3:]
    return [(row[2], BETWEEN, row[0], row[1])] if len(row) == 3 else []


def find_places(sentence: Sequence[Token], last: str) -> dict[str, str]:
    """Places where things are said to be: a place stands behind its thing, or before all of them."""
    tokens = [token for token in sentence if token.kind in ("thing", "place")]
    things = [token.name for token in tokens if token.kind == "thing"]
    places = [token.name for token in tokens if token.kind == "place"]
    if not places:
        return {}
    if not things:  # "it is on the left"
        return {last: places[-1]} if last else {}
    if tokens[0].kind == "place" and tokens[-1].kind == "thing" and len(places) <= len(things):
        return dict(zip(things, places, strict=False))
    positions: dict[str, str] = {}
    for token, after in pairwise(tokens):
        if token.kind == "thing" and after.kind == "place":
            positions[token.name] = after.name
    if tokens[0].kind == "place" and len(things) == 1:
        positions.setdefault(things[0], places[0])
    return positions


def relations_from_places(places: Mapping[str, str]) -> list[Relation]:
    """The relations between two things that their places give away."""
    relations: list[Relation] = []
    if len(places) == 2:
        (a, one), (b, other) = places.items()
        for low, high, name in (("left", "right", "left of"), ("top", "bottom", "above")):
            if low in one and high in other:
                relations.append((a, name, b))
            if high in one and low in other:
                relations.append((b, name, a))
    return relations
