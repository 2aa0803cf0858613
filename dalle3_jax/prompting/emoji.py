"""Emoji in a prompt written as what they show: a thing with its number, or a background."""

import re
from functools import lru_cache

from dalle3_jax.prompting.lexicon import NUMBERS, Lexicon
from dalle3_jax.prompting.ordinary_words import ADJECTIVES, DETERMINERS
from dalle3_jax.prompting.substitution import Noun, Substituted, noun_phrase
from dalle3_jax.prompting.word_kinds import number_of

__all__ = ["code_of", "replace_emoji"]

SELECTOR, JOINER = "\ufe0f", "\u200d"
TONES = "\U0001f3fb-\U0001f3ff"


def code_of(emoji: str) -> str:
    """The code points of an emoji as "1f43b-200d-2744", without variation selectors and skin tones."""
    kept = re.sub(rf"[{SELECTOR}{TONES}]", "", emoji)
    return "-".join(f"{ord(letter):x}" for letter in kept)


@lru_cache(maxsize=16)
def pattern_of(lexicon: Lexicon) -> re.Pattern[str]:
    """A pattern of the known emoji, each as often as it is repeated."""
    codes = sorted((code for code in lexicon.paraphrases.emoji), key=len, reverse=True)
    letters = ["".join(f"{chr(int(point, 16))}[{SELECTOR}{TONES}]*" for point in code.split("-")) for code in codes]
    return re.compile(rf"(?P<one>{'|'.join(letters) or '(?!)'})")


def replace_emoji(text: str, lexicon: Lexicon) -> Substituted:
    """The text with words for its emoji: "🐼🐼🏖️" is "two pandas on a beach"."""
    if text.isascii():
        return Substituted(text)
    parts: list[str] = []
    notes, end, last = [], 0, 0
    matches = [*pattern_of(lexicon).finditer(text)]
    while matches:
        first = matches.pop(0)
        code, number, last = code_of(first[0]), 1, first.end()
        while matches and code_of(matches[0][0]) == code and not text[last : matches[0].start()].strip():
            number, last = number + 1, matches.pop(0).end()
        between = text[end : first.start()]
        written = in_words(lexicon.paraphrases.emoji[code], number, "".join([*parts, between]), lexicon)
        comma = "," if parts and not between.strip() and not written.startswith(("in ", "on ", "at ", "under ")) else ""
        parts += [between, f"{comma} {written} "]
        notes.append(f"{text[first.start() : last].strip()} -> {written}")
        end = last
    if not notes:
        return Substituted(text)
    whole = re.sub(r"\s+", " ", "".join([*parts, text[end:]])).strip()
    return Substituted(re.sub(r"\s+([,.;:!?])", r"\1", whole), tuple(dict.fromkeys(notes)))


def in_words(name: str, number: int, before: str, lexicon: Lexicon) -> str:
    """The words for an emoji behind a text that may have said its determiner: "a panda", "on a beach"."""
    if name in lexicon.backgrounds:
        phrase = lexicon.backgrounds[name][0]
        preposition = re.search(r"\b(?:in|on|at|under|by|of)(?: the| an?)?\s*$", before, re.I)
        return name if preposition else phrase
    colour, _, thing = name.partition(" ") if name not in lexicon.things else ("", "", name)
    adjectives = (colour,) if colour else ()
    if number == 1 and re.search("[\u4e00-\u9fff]\\s*$", before):  # Chinese says how many, or one
        return " ".join([*adjectives, thing])
    words = before.lower().split()
    last = words[-1] if words else ""
    if number == 1 and (last in DETERMINERS or last in ADJECTIVES or last in lexicon.colours or last.isdigit()):
        many = (number_of(last) or 0) > 1 or last in ("some", "many", "several", "few")
        return " ".join([*adjectives, lexicon.things[thing] if many else thing])
    determiner = "a" if number == 1 else NUMBERS[number] if number < len(NUMBERS) else str(number)
    return noun_phrase(thing, number > 1, Noun(0, determiner, adjectives), lexicon)
