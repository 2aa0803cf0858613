"""The names of a lexicon's things and backgrounds, and what else people call them, by their normal form."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.phrases import MOST, Phrase, Word, find_phrases, normalize
from dalle3_jax.prompting.word_kinds import is_ordinary

__all__ = ["Name", "begins_name", "find_names", "is_part_of_other_name", "names_of", "scenery_of"]


class Name(NamedTuple):
    """The meaning of a phrase: `things` is one of the lexicon's, or several that a general word may stand for.

    `plural` is None of a name that is said without a number and means one; `own` are the lexicon's names.
    """

    things: tuple[str, ...]
    plural: bool | None
    own: bool = False


@lru_cache(maxsize=16)
def names_of(lexicon: Lexicon) -> dict[str, Name]:
    """All names of things by their normal form: the lexicon's own, then synonyms, then general words."""
    names: dict[str, Name] = {}
    for name, plural in lexicon.things.items():
        names[normalize(name)] = Name((name,), None if name == plural else False, own=True)
    for name, plural in lexicon.things.items():
        names.setdefault(normalize(plural), Name((name,), True, own=True))
    synonyms = [(pair, (name,)) for name, pairs in lexicon.synonyms.items() for pair in pairs]
    for (singular, plural), candidates in [*synonyms, *lexicon.paraphrases.general.items()]:
        things = tuple(name for name in candidates if name in lexicon.things)
        if things:
            names.setdefault(normalize(singular), Name(things, None if singular == plural else False))
            names.setdefault(normalize(plural), Name(things, True))
    return names


@lru_cache(maxsize=16)
def scenery_of(lexicon: Lexicon) -> dict[str, str]:
    """Phrases about backgrounds by their normal form: of each, the lexicon's own phrase that says it."""
    scenery = {normalize(phrase): phrase for phrase in lexicon.background_pattern[1]}
    for name, phrases in lexicon.paraphrases.backgrounds.items():
        if name in lexicon.backgrounds:
            for phrase in phrases:
                scenery.setdefault(normalize(phrase), lexicon.backgrounds[name][0])
    return scenery


def find_names(text: str, words: Sequence[Word], lexicon: Lexicon) -> list[Phrase]:
    """The names of things and the phrases about backgrounds; "on a mountain bike" says nothing of mountains."""
    names = names_of(lexicon)

    def stands_alone(phrase: Phrase) -> bool:
        if phrase.key in names or phrase.last - phrase.first == 1 or phrase.last == len(words):
            return True
        gap = text[words[phrase.last - 1].end : words[phrase.last].start]
        return gap != " " or not begins_name(words, phrase.last, names)

    return [*find_phrases(text, words, known_of(lexicon), stands_alone)]


@lru_cache(maxsize=16)
def known_of(lexicon: Lexicon) -> frozenset[str]:
    """All names and all phrases about backgrounds."""
    return frozenset({*names_of(lexicon), *scenery_of(lexicon)})


def begins_name(words: Sequence[Word], at: int, names: Mapping[str, Name]) -> bool:
    """Whether a name begins at a word."""
    return any(" ".join(word.text for word in words[at:end]) in names for end in range(at + 1, at + 1 + MOST))


def is_part_of_other_name(text: str, words: Sequence[Word], end: int, names: Mapping[str, Name]) -> bool:
    """Whether the phrase before the word at `end` goes on in a noun that nobody knows: "fire hydrant"."""
    if end >= len(words) or text[words[end - 1].end : words[end].start] not in (" ", "-"):
        return False
    return not is_ordinary(words[end].text) and not begins_name(words, end, names)
