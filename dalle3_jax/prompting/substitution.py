"""Other names in an English prompt replaced by those that a model knows: "a bike" by "a bicycle", "a bird" by an owl.

Every step gives the text back with a note for each name that it replaced, such as "bike -> bicycle". A word that is
part of a name which nobody knows ("fire hydrant") stays, and so does a verb that looks like a name ("they watch").
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from dalle3_jax.prompting.lexicon import COLOURS, ONE, Lexicon
from dalle3_jax.prompting.names import Name, begins_name, find_names, is_part_of_other_name, names_of, scenery_of
from dalle3_jax.prompting.ordinary_words import ADJECTIVES, DETERMINERS
from dalle3_jax.prompting.phrases import Phrase, Word, normalize, split_words
from dalle3_jax.prompting.word_kinds import is_verb, number_of
from dalle3_jax.text.english import article_for

__all__ = [
    "Choose",
    "Substituted",
    "noun_phrase",
    "replace_colours",
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
CONTAINERS = {"bowl": "bowls", "plate": "plates", "cup": "cups", "glass": "glasses", "slice": "slices", "jar": "jars"}
CONTAINERS |= {"piece": "pieces", "bunch": "bunches", "bag": "bags", "portion": "portions", "bottle": "bottles"}
"""What things come in that are said without a number: "two bowls of ramen"."""
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
    for phrase in find_names(text, words, lexicon):
        if phrase.key in names or normalize(known[phrase.key]) == phrase.key:
            continue
        if is_part_of_other_name(text, words, phrase.last, names):
            continue
        said = text[words[phrase.first].start : words[phrase.last - 1].end]
        edits.append(Edit(words[phrase.first].start, words[phrase.last - 1].end, known[phrase.key]))
        notes.append(f"{said.lower()} -> {known[phrase.key]}")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


def replace_things(text: str, lexicon: Lexicon, choose: Choose) -> Substituted:
    """The text with the lexicon's names of things; `choose` picks the thing that a general word stands for."""
    names, words = names_of(lexicon), split_words(text)
    phrases = find_names(text, words, lexicon)
    mentioned = {thing for phrase in phrases if phrase.key in names for thing in names[phrase.key].things[:1]}
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
        options = [thing for thing in name.things if thing not in mentioned or len(name.things) == 1]
        thing = choose(options or name.things, phrase.key)
        first, plural = (
            container_before(text, words, phrase.first) if name.plural is None else (phrase.first, name.plural)
        )
        noun = noun_before(text, words, first)
        edits.append(Edit(noun.start, end, noun_phrase(thing, plural, noun, lexicon, phrase.key)))
        notes.append(f"{text[start:end].lower()} -> {thing}")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


def is_other(text: str, words: Sequence[Word], phrase: Phrase, names: dict[str, Name]) -> bool:
    """Whether a phrase that looks like another name is none: part of a longer one, or a verb without a noun's signs."""
    if is_part_of_other_name(text, words, phrase.last, names):
        return True
    if (
        phrase.last - phrase.first > 1
        or not is_verb(phrase.key)
        or not phrase.first
        or not _touch(text, words, phrase.first)
    ):
        return False
    before = words[phrase.first - 1].text
    return not (before in DETERMINERS or before in BEFORE_NOUNS or before in ADJECTIVES or before.isdigit())


def container_before(text: str, words: Sequence[Word], first: int) -> tuple[int, bool | None]:
    """The begin of the container before a name and whether there are several; of none, the name and None."""
    if (
        first < 2
        or words[first - 1].text != "of"
        or not (_touch(text, words, first) and _touch(text, words, first - 1))
    ):
        return first, None
    container = words[first - 2].text
    known = container in CONTAINERS or container in CONTAINERS.values()
    return (first - 2, container not in CONTAINERS) if known else (first, None)


def noun_before(text: str, words: Sequence[Word], first: int) -> Noun:
    """The determiner and adjectives of the name that begins at a word."""
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
    number = number_of(before)
    if thing.startswith("pair of ") and said in HALVES and number == 2:
        return " ".join(["a", *noun.adjectives, thing])
    many = number > 1 if number is not None and before != "no" else bool(plural) and before not in ONE
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


def edited(text: str, edits: Sequence[Edit]) -> str:
    """The text after edits, which do not overlap."""
    parts, end = [], 0
    for edit in sorted(edits):
        parts += [text[end : edit.start], edit.text]
        end = edit.end
    return "".join([*parts, text[end:]])
