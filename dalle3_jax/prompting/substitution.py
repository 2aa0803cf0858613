"""Other names in an English prompt replaced by those that a model knows: "a bike" by "a bicycle", "a bird" by an owl.

Every step gives the text back with a note for each name that it replaced, such as "bike -> bicycle". A word that is
part of a name which nobody knows ("fire hydrant") stays, and so does a verb that looks like a name ("they watch").
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from dalle3_jax.prompting.lexicon import COLOURS, NUMBERS, ONE, Lexicon
from dalle3_jax.prompting.names import Name, begins_name, is_part_of_other_name, names_of, scenery_of
from dalle3_jax.prompting.ordinary_words import ADJECTIVES, DETERMINERS
from dalle3_jax.prompting.phrases import Phrase, Word, find_phrases, normalize, split_words
from dalle3_jax.prompting.word_kinds import is_verb
from dalle3_jax.text.english import article_for

__all__ = [
    "Choose",
    "Substituted",
    "noun_phrase",
    "replace_colours",
    "replace_resting",
    "replace_scenery",
    "replace_things",
]

Choose = Callable[[Sequence[str], str], str]
"""Takes one of the options for a word, always the same."""

BEFORE_NOUNS = frozenset(
    {
        "and",
        "or",
        "with",
        "of",
        "in",
        "on",
        "at",
        "by",
        "near",
        "under",
        "over",
        "above",
        "below",
        "behind",
        "wearing",
        "holding",
    }
)
HALVES = frozenset({"cherries", "chopsticks", "gloves", "socks", "skis", "maracas"})
"""Two of these are one pair."""


class Substituted(NamedTuple):
    """A text, notes on what was replaced in it, and words that were left out because nobody knows them."""

    text: str
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Edit(NamedTuple):
    """A stretch of a text and what stands in its place."""

    start: int
    end: int
    text: str


class Noun(NamedTuple):
    """A name in a text with what stands before it: a determiner, and adjectives as they are written."""

    start: int
    determiner: str
    adjectives: tuple[str, ...]


def replace_scenery(text: str, lexicon: Lexicon) -> Substituted:
    """The text with the lexicon's phrases for the backgrounds: "on the shore" is "on a beach"."""
    known, names, words = scenery_of(lexicon), names_of(lexicon), split_words(text)
    edits, notes = [], []
    for phrase in find_phrases(text, words, known):
        if normalize(known[phrase.key]) == phrase.key:
            continue
        if is_part_of_other_name(text, words, phrase.last, names) or goes_on(text, words, phrase.last, names):
            continue
        said = text[words[phrase.first].start : words[phrase.last - 1].end]
        edits.append(Edit(words[phrase.first].start, words[phrase.last - 1].end, known[phrase.key]))
        notes.append(f"{said.lower()} -> {known[phrase.key]}")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


def goes_on(text: str, words: Sequence[Word], end: int, names: dict[str, Name]) -> bool:
    """Whether a name follows right behind: "on a mountain bike" says nothing of mountains."""
    return end < len(words) and text[words[end - 1].end : words[end].start] == " " and begins_name(words, end, names)


def replace_things(text: str, lexicon: Lexicon, choose: Choose) -> Substituted:
    """The text with the lexicon's names of things; `choose` picks the thing that a general word stands for."""
    names, words = names_of(lexicon), split_words(text)
    phrases = [*find_phrases(text, words, names.keys() | scenery_of(lexicon).keys())]
    spoken = {thing for phrase in phrases if phrase.key in names for thing in names[phrase.key].things[:1]}
    edits, notes = [], []
    for phrase in phrases:
        name = names.get(phrase.key)
        if name is None or (not name.own and is_other(text, words, phrase, names)):
            continue
        start, end = words[phrase.first].start, words[phrase.last - 1].end
        if name.own:
            written = lexicon.things[name.things[0]] if name.plural else name.things[0]
            if text[start:end].lower() != written.lower():
                edits.append(Edit(start, end, written))
            continue
        options = [thing for thing in name.things if thing not in spoken or len(name.things) == 1]
        thing = choose(options or name.things, phrase.key)
        noun = noun_before(text, words, phrase.first)
        edits.append(Edit(noun.start, end, noun_phrase(thing, name.plural, noun, lexicon, phrase.key)))
        notes.append(f"{text[start:end].lower()} -> {thing}")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


def is_other(text: str, words: Sequence[Word], phrase: Phrase, names: dict[str, Name]) -> bool:
    """Whether a phrase that looks like another name is none: part of a longer one, or a verb without a noun's signs."""
    if is_part_of_other_name(text, words, phrase.last, names):
        return True
    if phrase.last - phrase.first > 1 or not is_verb(phrase.key) or not phrase.first:
        return False
    before = words[phrase.first - 1].text
    return not (before in DETERMINERS or before in BEFORE_NOUNS or before in ADJECTIVES or before.isdigit())


def noun_before(text: str, words: Sequence[Word], first: int) -> Noun:
    """What belongs to the name that begins at a word."""
    at, adjectives = first, []
    while at and _touch(text, words, at) and (words[at - 1].text in ADJECTIVES or words[at - 1].text in COLOURS):
        at -= 1
        adjectives.insert(0, text[words[at].start : words[at].end])
    start = words[at].start
    if at and _touch(text, words, at) and (words[at - 1].text in DETERMINERS or words[at - 1].text.isdigit()):
        return Noun(words[at - 1].start, text[words[at - 1].start : words[at - 1].end], tuple(adjectives))
    return Noun(start, "", tuple(adjectives))


def _touch(text: str, words: Sequence[Word], at: int) -> bool:
    """Whether nothing but a blank parts a word from the one before it."""
    return text[words[at - 1].end : words[at].start] == " "


def noun_phrase(thing: str, plural: bool | None, noun: Noun, lexicon: Lexicon, said: str = "") -> str:
    """A thing with its determiner and adjectives; a name that is said without a number gets an article."""
    determiner, before = noun.determiner, noun.determiner.lower()
    number = int(before) if before.isdigit() else NUMBERS.index(before) if before in NUMBERS else -1
    if thing.startswith("pair of ") and said in HALVES and number == 2:
        return " ".join(["a", *noun.adjectives, thing])
    many = number > 1 or (number < 0 and bool(plural) and before not in ONE)
    if before in ("a", "an") or (plural is None and before in ("", "some")):
        first = noun.adjectives[0] if noun.adjectives else ""
        shown = article_for(first, "a") if first else lexicon.articles.get(thing, article_for(thing, "a"))
        determiner = shown.capitalize() if determiner[:1].isupper() else shown
    return " ".join(filter(None, [determiner, *noun.adjectives, lexicon.things[thing] if many else thing]))


def replace_colours(text: str, lexicon: Lexicon) -> Substituted:
    """The text with the lexicon's colours before its things: "a crimson car" is "a red car"."""
    shades = {shade: name for name, others in lexicon.paraphrases.colours.items() for shade in others}
    names, words = names_of(lexicon), split_words(text)
    edits, notes = [], []
    for at, word in enumerate(words[:-1]):
        colour = shades.get(word.text)
        if colour is None or colour not in lexicon.colours or not _touch(text, words, at + 1):
            continue
        if words[at + 1].text in lexicon.colours:  # "navy blue"
            edits.append(Edit(word.start, words[at + 1].start, ""))
        elif begins_name(words, at + 1, names) or words[at + 1].text in ADJECTIVES:
            edits.append(Edit(word.start, word.end, colour))
            notes.append(f"{word.text} -> {colour}")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


RESTS = frozenset(
    {
        "is",
        "are",
        "sitting",
        "sits",
        "standing",
        "stands",
        "lying",
        "lies",
        "sleeping",
        "perched",
        "balancing",
        "resting",
    }
)
RIDES = frozenset({"riding", "rides", "ride"})


def replace_resting(text: str, lexicon: Lexicon) -> Substituted:
    """The text in which a thing on a thing is "on top of" it, where the lexicon has that: "a cat on a skateboard"."""
    if "on top of" not in lexicon.relations.get("above", ()):
        return Substituted(text)
    names, words = names_of(lexicon), split_words(text)
    phrases = [*find_phrases(text, words, names.keys() | scenery_of(lexicon).keys())]
    edits, notes = [], []
    for one, other in pairwise(phrases):
        between = words[one.last : other.first]
        if (
            one.key not in names
            or other.key not in names
            or "," in text[words[one.last - 1].end : words[other.first].start]
        ):
            continue
        said = [word.text for word in between if word.text not in DETERMINERS | ADJECTIVES and word.text not in COLOURS]
        verbs = [word for word in between if word.text in said]
        if said and ({*said} <= RESTS | RIDES | {"on"}) and ("on" in said or {*said} & RIDES) and said[-1] not in RESTS:
            edits.append(Edit(verbs[0].start, verbs[-1].end, "on top of"))
            if {*said} & RIDES:
                notes.append(f"{text[verbs[0].start : verbs[-1].end].lower()} -> on top of")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text after edits, which do not overlap."""
    parts, end = [], 0
    for edit in sorted(edits):
        parts += [text[end : edit.start], edit.text]
        end = edit.end
    return "".join([*parts, text[end:]])
