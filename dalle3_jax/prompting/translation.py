"""A prompt in the words that a model knows: emoji, Chinese, synonyms and general words become names of its lexicon.

from dalle3_jax.prompting.translation import translate

translate("红色的🍎 and a bike", lexicon).text  # "a red apple and a bicycle"
"""

import re
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import NamedTuple

from dalle3_jax.prompting.arrangement import replace_places, replace_resting
from dalle3_jax.prompting.chinese import has_chinese, translate_chinese
from dalle3_jax.prompting.emoji import replace_emoji
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.substitution import Substituted, replace_colours, replace_scenery, replace_things
from dalle3_jax.text.glyphs import QUOTED

__all__ = ["Translation", "translate"]

FIRST_QUOTE = 0xE000
"""Quotes are private characters while the words around them change."""


class Translation(NamedTuple):
    """A prompt in known words, and notes for people on what was replaced: "bike -> bicycle".

    `unknown` are words of Chinese that were left out.
    """

    text: str
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def translate(prompt: str, lexicon: Lexicon, seed: int = 0) -> Translation:
    """The prompt with the lexicon's own words where it says the same in others; what is quoted stays as it is.

    A general word ("bird") becomes one of the things that it may stand for, the same for the same prompt and seed.
    """
    quotes: list[str] = []

    def hide(match: re.Match[str]) -> str:
        quotes.append(match[0])
        return chr(FIRST_QUOTE + len(quotes) - 1)

    def restore(part: str) -> str:
        return re.sub("[\ue000-\uf8ff]", lambda match: quotes[ord(match[0]) - FIRST_QUOTE], part)

    def choose(options: Sequence[str], word: str) -> str:
        digest = blake2b(f"{seed} {prompt} {word}".encode("utf-8", "replace"), digest_size=4).digest()
        return options[int.from_bytes(digest, "little") % len(options)]

    names: tuple[Callable[[str], Substituted], ...] = (
        lambda text: replace_scenery(text, lexicon),
        lambda text: replace_things(text, lexicon, choose),
    )
    steps: tuple[Callable[[str], Substituted], ...] = (
        lambda text: replace_emoji(text, lexicon),
        *names,
        lambda text: translate_chinese(text, lexicon),
        *(names if has_chinese(prompt) else ()),  # there are general words among what it means
        lambda text: replace_colours(text, lexicon),
        lambda text: replace_resting(text, lexicon),
        lambda text: replace_places(text, lexicon),
    )
    text, notes, unknown = QUOTED.sub(hide, prompt), list[str](), list[str]()
    for step in steps:
        done = step(text)
        text, notes, unknown = done.text, [*notes, *done.notes], [*unknown, *done.unknown]
    return Translation(restore(text), tuple(dict.fromkeys(map(restore, notes))), tuple(unknown))
