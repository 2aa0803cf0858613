"""The words of a prompt that a model has never seen, and the nearest that it knows.

from dalle3_jax.prompting.unknown_words import describe_unknown, unknown_words

print(describe_unknown(unknown_words("a wizard on a skateboard", lexicon)))
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import NamedTuple

from dalle3_jax.prompting.faithfulness import negated_words, stem
from dalle3_jax.prompting.lexicon import ORDERS, Lexicon
from dalle3_jax.prompting.names import names_of, scenery_of
from dalle3_jax.prompting.phrases import Word, find_phrases, normalize, split_words
from dalle3_jax.prompting.translation import translate
from dalle3_jax.prompting.word_kinds import is_adjective, is_ordinary
from dalle3_jax.text.glyphs import QUOTED

__all__ = ["UnknownWord", "describe_unknown", "nearest_things", "unknown_words"]

MOST_NEAREST = 3
LIKENESS = 0.82
"""How alike a word and a name must be, as difflib measures it."""
SHORTEST = 4
"""Letters of a name that counts as the beginning of a word, or of a word that may be misspelt."""


class UnknownWord(NamedTuple):
    """A word or a compound that a lexicon does not know, and the names of its things that come nearest."""

    text: str
    nearest: tuple[str, ...] = ()


def unknown_words(prompt: str, lexicon: Lexicon) -> tuple[UnknownWord, ...]:
    """The nouns of a prompt that a lexicon does not know, in order; nothing that is quoted.

    Ordinary verbs, adjectives and words of style are none of them: rather none is told than one too many.
    """
    known = translate(prompt, lexicon)
    text = QUOTED.sub(" . ", known.text)
    away = {stem(word) for word in negated_words(text)}
    words = [*known.unknown, *(word for word in leftovers(text, lexicon) if stem(word) not in away)]
    return tuple(UnknownWord(word, nearest_things(word, lexicon)) for word in dict.fromkeys(words))


def describe_unknown(words: Sequence[UnknownWord]) -> str:
    """One note for people on all unknown words; "" where there are none."""
    if not words:
        return ""
    nearest = [*dict.fromkeys(name for word in words for name in word.nearest)]
    hint = f"; nearest that it knows: {', '.join(nearest)}" if nearest else ""
    return f"this model has never seen: {', '.join(word.text for word in words)}{hint}"


@lru_cache(maxsize=16)
def known_phrases(lexicon: Lexicon) -> frozenset[str]:
    """All that a lexicon says of how things stand, by normal form."""
    stands = [phrase for phrases in (*lexicon.places.values(), *lexicon.relations.values()) for phrase in phrases]
    return frozenset({*map(normalize, stands), *ORDERS, *scenery_of(lexicon), *names_of(lexicon), *others_of(lexicon)})


@lru_cache(maxsize=16)
def others_of(lexicon: Lexicon) -> frozenset[str]:
    """Names, in their normal form, of things that the lexicon does not have."""
    return frozenset({*map(normalize, lexicon.paraphrases.others)} - names_of(lexicon).keys())


def leftovers(text: str, lexicon: Lexicon) -> Iterator[str]:
    """Stretches of words that are neither known nor ordinary; with the known name before one that belongs to it."""
    words, names, others = split_words(text), names_of(lexicon), others_of(lexicon)
    owner: dict[int, str] = {}
    for phrase in find_phrases(text, words, known_phrases(lexicon)):
        if phrase.key in others:
            yield text[words[phrase.first].start : words[phrase.last - 1].end]
        owner |= dict.fromkeys(range(phrase.first, phrase.last), phrase.key)
    at = 0
    while at < len(words):
        end = at
        while end < len(words) and end not in owner and is_strange(text, words, end):
            if end > at and not _touch(text, words, end):
                break
            end += 1
        if end == at:
            at += 1
            continue
        first = at
        followed = end < len(words) and owner.get(end) in names and _touch(text, words, end)
        if at and owner.get(at - 1) in names and _touch(text, words, at) and not followed:
            while owner.get(first - 1) == owner[at - 1]:
                first -= 1
        if not (followed and end - at == 1 and is_adjective(words[at].text)):
            yield text[words[first].start : words[end - 1].end]
        at = end


def is_strange(text: str, words: Sequence[Word], at: int) -> bool:
    """Whether a word is one that has to be known."""
    before = words[at - 1].text if at and _touch(text, words, at) else ""
    return len(words[at].text) > 1 and not is_ordinary(words[at].text, before)


def _touch(text: str, words: Sequence[Word], at: int) -> bool:
    """Whether nothing but a blank or a hyphen parts a word from the one before it."""
    return text[words[at - 1].end : words[at].start] in (" ", "-")


def nearest_things(text: str, lexicon: Lexicon) -> tuple[str, ...]:
    """The lexicon's things that come nearest to a word or a compound: by meaning first, then by letters."""
    names, related = names_of(lexicon), lexicon.paraphrases.related
    things: list[str] = []
    for word in reversed(normalize(text).split()):
        root = stem(word)
        things += [thing for one in (word, root) for thing in related.get(one, ())]
        things += [thing for one in (word, root) if one in names for thing in names[one].things]
    if not things:
        for word in normalize(text).split():
            things += [thing for thing in lexicon.things if stem(word) in normalize(thing).split()]
            things += [thing for thing in lexicon.things if shares_beginning(word, thing)]
            if len(word) > SHORTEST:
                things += [names[one].things[0] for one in get_close_matches(word, names, MOST_NEAREST, LIKENESS)]
    return tuple(dict.fromkeys(things))[:MOST_NEAREST]


def shares_beginning(word: str, name: str) -> bool:
    """Whether a word begins with a name, or a name with the word: "skateboarding", "skate"."""
    short, long = sorted((stem(word), name), key=len)
    return len(short) >= SHORTEST and long.startswith(short)
