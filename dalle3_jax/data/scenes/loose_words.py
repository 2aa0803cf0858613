"""Words of people for scenes that captions do not have, as tables for whoever reads prompts.

They are committed JSON files: loose_words.json (general words such as "bird", other ways to name backgrounds and
colours, further emoji), related_words.json (words of things that are not drawn, with the concepts nearest to them; most
are tags of emojibase 17) and words_chinese.json (Chinese for the words of captions, and some others).
"""

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from dalle3_jax.data.scenes.naming import CHINESE, regular_plural

Group = Mapping[str, Any]


def read_table(name: str) -> dict[str, Any]:
    """A committed table by the name of its file."""
    return json.loads((files("dalle3_jax.data.scenes") / name).read_text(encoding="utf-8"))


def general_forms(table: Mapping[str, list[str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Singular and plural of each general word ("leaf/leaves" gives both), and the concepts that it may stand for."""
    forms = {}
    for word, names in table.items():
        singular, _, plural = word.partition("/")
        forms[singular, plural or regular_plural(singular)] = tuple(names)
    return forms


def flatten_chinese(table: Mapping[str, Group | list[str]]) -> dict[str, tuple[str, str]]:
    """(kind, English meaning) by Chinese word; of things the meaning is the concept's name.

    The places and relations that share a word are one kind, "direction", whose meaning is the place.
    """
    meanings: dict[str, tuple[str, str]] = {}
    for word, kind, meaning in _entries(table):
        meanings.setdefault(word, (kind, meaning))
    return meanings


PLACE_OF = {"left of": "left", "right of": "right", "above": "top", "below": "bottom"}
SINGULAR_KINDS = {
    "adjectives": "adjective",
    "backgrounds": "background",
    "colours": "colour",
    "numbers": "number",
    "others": "noun",
    "places": "direction",
    "relations": "direction",
    "verbs": "verb",
    "measures": "measure",
    "particles": "particle",
    "requests": "request",
}


def _entries(table: Mapping[str, Group | list[str]]) -> Iterator[tuple[str, str, str]]:
    """(word, kind, meaning) in the order in which a word's first meaning counts."""
    for name, words in CHINESE.items():
        yield from ((word.lower(), "thing", name) for word in words)
    for group, meanings in table.items():
        kind = SINGULAR_KINDS.get(group, group)
        rows = meanings if isinstance(meanings, Mapping) else {group: meanings}
        for meaning, words in rows.items():
            yield from ((word.lower(), kind, PLACE_OF.get(meaning, meaning)) for word in words)


_LOOSE = read_table("loose_words.json")
GENERAL = general_forms(_LOOSE["general"])
BACKGROUND_WORDS: Mapping[str, list[str]] = _LOOSE["backgrounds"]
COLOUR_WORDS: Mapping[str, list[str]] = _LOOSE["colours"]
EMOJI: Mapping[str, str] = _LOOSE["emoji"]
RELATED: Mapping[str, list[str]] = read_table("related_words.json")
CHINESE_WORDS = flatten_chinese(read_table("words_chinese.json"))
