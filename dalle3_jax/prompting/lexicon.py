"""The words by which a model's captions name things, colours, places and backgrounds: what prompts are read with."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dalle3_jax.data.scenes.layouts import OVER, PHRASES, TO_THE_LEFT, TO_THE_RIGHT, UNDER
from dalle3_jax.prompting.ordinary_words import ADJECTIVES

__all__ = ["KNOWN", "NUMBERS", "ONE", "PLACES", "RELATIONS", "Lexicon", "Paraphrases", "phrase_pattern"]

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
ONE = ("a", "an", "one", "single")
KNOWN = ("the", "it", "them", "they", "both", "all")
"""Words before a name that say that it was spoken of."""

COLOURS = (
    *("red", "orange", "yellow", "green", "blue", "purple", "violet", "pink", "brown", "black", "white", "grey"),
    *("gray", "golden", "silver", "turquoise", "teal", "beige", "crimson", "cyan", "magenta"),
)
PLACES: Mapping[str, tuple[str, ...]] = {
    **PHRASES,
    "left": (*PHRASES["left"], "on the left hand side"),
    "right": (*PHRASES["right"], "on the right hand side"),
}
"""What scenes say of a place, and more that people do."""

RELATIONS: Mapping[str, tuple[str, ...]] = {
    "left of": TO_THE_LEFT,
    "right of": TO_THE_RIGHT,
    "above": OVER,
    "below": (*UNDER, "beneath"),
    "behind": ("behind",),
    "in front of": ("in front of",),
    "beside": ("next to", "beside", "alongside"),
    "inside": ("inside", "inside of"),
}
ORDERS: Mapping[str, str] = {"from left to right": "left of", "from top to bottom": "above"}
FRAME = ("of the frame", "of the picture", "of the image", "of an image")


@dataclass(frozen=True, eq=False)
class Paraphrases:
    """Words that a lexicon does not have, and what they come to in it.

    `synonyms`: (singular, plural) of other names by thing, both the same of one that is said without a number
    ("fries"); `general`: things that a word such as "bird" may stand for, by (singular, plural); `backgrounds` and
    `colours`: other ways to say them, by name; `emoji`: a name by code points such as "1f43c"; `chinese`: (kind,
    meaning) by word; `related`: the things nearest to a word of something else; `others`: names of things that are
    known to be none of the lexicon's.
    """

    synonyms: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    general: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    backgrounds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    colours: Mapping[str, Sequence[str]] = field(default_factory=dict)
    emoji: Mapping[str, str] = field(default_factory=dict)
    chinese: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    related: Mapping[str, Sequence[str]] = field(default_factory=dict)
    others: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Lexicon:
    """`things`: plural by singular; `articles` of those whose article is not told by their first letter; `backgrounds`:
    phrases such as "on a beach" by name; places and relations: phrases by name, the first of each the plainest;
    `paraphrases`: what else people say for these.
    """

    things: Mapping[str, str] = field(default_factory=dict)
    articles: Mapping[str, str] = field(default_factory=dict)
    colours: tuple[str, ...] = COLOURS
    backgrounds: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    places: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PLACES)
    relations: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: RELATIONS)
    paraphrases: Paraphrases = field(default_factory=Paraphrases, repr=False)

    @property
    def synonyms(self) -> Mapping[str, tuple[tuple[str, str], ...]]:
        """(singular, plural) of other names, by thing."""
        return self.paraphrases.synonyms

    @cached_property
    def background_pattern(self) -> tuple[re.Pattern[str], dict[str, str]]:
        """A pattern of all that is said of backgrounds, and which one each phrase is."""
        names: dict[str, str] = {}
        for background, phrases in self.backgrounds.items():
            for phrase in (*phrases, background):
                names.setdefault(phrase.lower(), background)
                names.setdefault(re.sub(r"^(an?|the) ", "", phrase.lower()), background)
        return phrase_pattern(names), names

    @cached_property
    def vocabulary(self) -> tuple[re.Pattern[str], dict[str, tuple[str, str]], frozenset[str]]:
        """A pattern of (word before, colour, phrase) for all other words, (kind, name) by phrase, and the plurals.

        Common adjectives may stand between: "two small red balloons".
        Kinds are thing, relation, place, order, between and it.
        """
        known: dict[str, tuple[str, str]] = {}
        for name, plural in self.things.items():
            known[plural.lower()] = "thing", name
        known |= {name.lower(): ("thing", name) for name in self.things}
        for name, phrases in self.relations.items():
            for phrase in phrases:
                known.setdefault(phrase, ("relation", name))
        for name, phrases in self.places.items():
            for phrase in phrases:
                known.setdefault(phrase, ("place", name))
                # Of these "left of" is no relation.
                known |= {f"{phrase} {frame}": ("place", name) for frame in FRAME}
        known |= {phrase: ("order", name) for phrase, name in ORDERS.items()}
        known |= {"between": ("between", "between"), "it": ("it", "it")}
        numbers = "|".join((*NUMBERS, *ONE, *KNOWN, r"\d+"))
        adjectives = f"(?:(?:{'|'.join(sorted(ADJECTIVES - {*self.colours}))}) )*?"
        colours = "|".join(self.colours)
        pattern = rf"(?:\b({numbers}) {adjectives})?(?:({colours}) {adjectives})?({phrase_pattern(known).pattern})"
        plurals = {plural.lower() for name, plural in self.things.items() if plural != name}
        return re.compile(pattern), known, frozenset(plurals - {name.lower() for name in self.things})


def phrase_pattern(phrases: Iterable[str]) -> re.Pattern[str]:
    """A pattern of whole phrases, the longest that fits."""
    ranked = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"(?<![\w-])(?:{'|'.join(map(re.escape, ranked))})(?![\w-])")
