"""Drawn words: which stand in a scene and how they look, before any pixel is drawn."""

from dataclasses import dataclass

from dalle3_jax.data.draws import choose, uniform, weighted_choice
from dalle3_jax.data.scenes.world import Lettering

BAND = 0.28
"""The share of the frame's height that a word takes, at the top or at the bottom; objects have the rest."""

MIDDLE = 0.42
"""The same of a word that is all that a scene shows."""

SLOTS = ("top", "bottom")
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
INKS = {
    "sign": ("black", "red", "blue", "green", "purple"),
    "banner": ("red", "blue", "green", "purple", "black"),
    "free": ("white", "yellow", "red", "blue", "black"),
}
"""What a word may stand on, and the colours there: of the letters, or of the banner under white letters."""

FONTS = ("FredokaOne", "Lato", "Oswald", "PatrickHand", "RobotoSlab", "SpaceMono")


@dataclass(frozen=True)
class Word:
    """A word as it is drawn: letters, where (`slot`), on what, in which colour and font."""

    text: str
    slot: str
    on: str
    colour: str
    font: str


def sample_words(lettering: Lettering, *key: object) -> tuple[Word, ...]:
    """None, one or two words, the upper first; two never say the same."""
    number = weighted_choice((0, 1, 2), lettering.chances, *key, "words")
    slots = SLOTS if number == 2 else (choose(SLOTS, *key, "slot"),) * number
    left = list(lettering.words) if number else []
    texts = [left.pop(int(uniform(*key, "word", i) * len(left))) for i in range(number)]
    texts = [_perhaps_invented(lettering, text, *key, "invented", i) for i, text in enumerate(texts)]
    return tuple(
        sample_word(choose_case(text, *key, "case", i), slot, *key, "look", i)
        for i, (text, slot) in enumerate(zip(texts, slots, strict=True))
    )


def draw_sign(lettering: Lettering, *key: object) -> tuple[Word, ...]:
    """The one word of a scene that shows nothing else."""
    text = _perhaps_invented(lettering, choose(lettering.words, *key, "word"), *key, "invented")
    return (sample_word(choose_case(text, *key, "case"), "middle", *key, "look"),)


def _perhaps_invented(lettering: Lettering, text: str, *key: object) -> str:
    """The word, or as many random letters as some word may have."""
    if not lettering.invented or uniform(*key) >= lettering.invented:
        return text
    count = 2 + int(uniform(*key, "letters") * (lettering.longest - 1))
    return "".join(choose(ALPHABET, *key, i) for i in range(count))


def sample_word(text: str, slot: str, *key: object) -> Word:
    """The look of a word."""
    on = choose(tuple(INKS), *key, "on")
    return Word(text, slot, on, choose(INKS[on], *key, "colour"), choose(FONTS, *key, "font"))


def choose_case(text: str, *key: object) -> str:
    """The word in capitals, with a capital, or small."""
    return weighted_choice((text.upper(), text.capitalize(), text), (0.5, 0.25, 0.25), *key)


def free_band(words: tuple[Word, ...]) -> tuple[float, float]:
    """The band where objects may stand: its upper and its lower bound as fractions of the frame's height."""
    slots = {word.slot for word in words}
    return (BAND if "top" in slots else 0.0), (1.0 - BAND if "bottom" in slots else 1.0)


def band(slot: str) -> tuple[float, float]:
    """The part of the frame's height that the word of a slot takes: its upper and its lower bound."""
    return {"top": (0.0, BAND), "bottom": (1.0 - BAND, 1.0), "middle": ((1.0 - MIDDLE) / 2, (1.0 + MIDDLE) / 2)}[slot]
