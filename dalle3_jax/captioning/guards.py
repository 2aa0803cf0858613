"""Guards against what a written caption may not say by itself: words that nobody read, and control characters.

A captioner makes up the letters of a sign that it cannot read, and a generator that believes it learns to draw wrong
ones: quoted words survive where an OCR read them or the alternative text has them. A guard gives the caption and a flag
for everything that it did. Captions are data: what one of them asks for ("ignore the above") is text like any other.
"""

import re
import unicodedata
from collections.abc import Collection
from typing import NamedTuple

from dalle3_jax.captioning.unquote import HOLE, remove_quotes
from dalle3_jax.text.glyphs import QUOTED

__all__ = ["clean_caption", "doubtful_quotes", "drop_doubtful_quotes"]

GuardedCaption = tuple[str, tuple[str, ...]]
"""A caption, and a flag for each change."""

CONTROLS = "\u200b\ufeff\ufffd\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that hide, turn the direction of writing or stand for broken bytes; joiners spell words, and are kept."""

OPEN = re.compile(r'(?<!\S)["“„«].*$', re.DOTALL)
"""A quote that was never closed, where a caption was cut."""

SPLIT = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\bSt\.)(?<!\bMr\.)(?<!\bDr\.)(?<!\bMrs\.)\s+(?=\S)")
POINTING = re.compile(r"(?:it|its|they|their|these|this|those|that|both|he|she)\b", re.IGNORECASE)
"""How a sentence begins that needs the one before it."""

WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


class Quote(NamedTuple):
    """A quote with its marks, what it says, and the end of a sentence that stands within it ("" where none does)."""

    text: str
    content: str
    end: str


def clean_caption(caption: str) -> GuardedCaption:
    """The caption in one line, without control characters, halves of characters and marks of direction."""
    kept = "".join(" " if c.isspace() else c for c in caption if c.isspace() or not is_control(c))
    flags = ("control",) if any(is_control(c) and c not in "\t\n\r" for c in caption) else ()
    return " ".join(kept.split()), flags


def is_control(character: str) -> bool:
    """Whether it is no part of any text."""
    return character in CONTROLS or unicodedata.category(character) in ("Cc", "Cs", "Co")


def doubtful_quotes(caption: str, alt: str, seen: Collection[str] = ()) -> tuple[str, ...]:
    """The caption's quotes that neither the alternative text has nor an OCR has `seen` in the picture."""
    return tuple(quote.content for quote in extract_quotes(caption)[1] if not is_confirmed(quote.content, alt, seen))


def is_confirmed(quote: str, alt: str, seen: Collection[str]) -> bool:
    """Whether the alternative text has the words one after the other, or each of them was seen; case does not count."""
    wanted, known = split_casefold(quote), split_casefold(alt)
    starts = range(len(known) - len(wanted) + 1)
    read = {word for text in seen for word in split_casefold(text)}
    return bool(wanted) and (any(known[i : i + len(wanted)] == wanted for i in starts) or read.issuperset(wanted))


def split_casefold(text: str) -> list[str]:
    """The words of a text, in small letters."""
    return [word.casefold() for word in WORD.findall(text)]


def drop_doubtful_quotes(caption: str, alt: str, seen: Collection[str] = ()) -> GuardedCaption:
    """The caption without the quotes that are doubtful.

    A sentence that holds one is dropped ("words_dropped"), unless it is the first, holds a confirmed quote too or is
    pointed at by the next one: then only the quote goes, and 'that says "OPEN"' is "with writing" ("words_replaced").
    """
    if not doubtful_quotes(caption, alt, seen):
        return caption, ()
    masked, quotes = extract_quotes(caption)
    rest = iter(quotes)
    sentences = SPLIT.split(masked)
    kept: list[str] = []
    flags: list[str] = []
    for sentence, following in zip(sentences, [*sentences[1:], ""], strict=True):
        held = [next(rest) for _ in range(sentence.count(HOLE))]
        good = [is_confirmed(quote.content, alt, seen) for quote in held]
        if held and kept and not any(good) and not POINTING.match(following):
            flags.append("words_dropped")
            continue
        flags += ["words_replaced"] * good.count(False)
        kept.append(restore_quotes(sentence, held, good))
    left, more = drop_doubtful_quotes(" ".join(kept), alt, seen)  # quotes may have stood around quotes
    return left, (*flags, *more)


def extract_quotes(caption: str) -> tuple[str, list[Quote]]:
    """(The caption with holes for its quotes, the quotes); a sentence that ends within a quote ends behind its hole."""
    quotes: list[Quote] = []

    def out(match: re.Match[str]) -> str:
        said = match[0].strip('"“”„«»').strip()
        follows = match.string[match.end() :]
        ends = WORD.search(said) and (not follows.strip() or re.match(r"\s+[^\Wa-z]", follows))
        end = said[-1:] if ends and said[-1:] in (".", "!", "?") else ""
        quotes.append(Quote(match[0], said, end))
        return HOLE + end

    return OPEN.sub(out, QUOTED.sub(out, caption.replace(HOLE, ""))), quotes


def restore_quotes(sentence: str, quotes: list[Quote], good: list[bool]) -> str:
    """The sentence with its good quotes put back, and rewritten without the others."""
    parts = sentence.split(HOLE)
    whole = parts[0]
    for quote, is_good, part in zip(quotes, good, parts[1:], strict=True):
        whole += quote.text + part.removeprefix(quote.end) if is_good else HOLE + part
    return remove_quotes(whole) if HOLE in whole else whole
