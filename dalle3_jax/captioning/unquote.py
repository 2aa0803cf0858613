"""A sentence about writing, without what is written: 'a sign that says "OPEN"' is "a sign with writing"."""

import re

from dalle3_jax.text.english import article_for, capital

__all__ = ["HOLE", "remove_quotes"]

HOLE = "\0"
"""Stands where a quote was taken out."""

NOUN = r"(?:word|phrase|message|slogan|caption|title|name|label)"
NOUNS = r"(?:words|letters|text|writing|characters|lettering|inscription)"
OBJECT = rf"(?:(?: the| a)? (?:{NOUN}|{NOUNS}))?"

RULES = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (rf"\b((?:read|say|spell|state)(?:s|ing)|{NOUN}|{NOUNS})[:,] {HOLE}", rf"\1 {HOLE}"),
        (rf",? (?:that|which) (?:read|say|spell|state|bear)s?(?: out)?{OBJECT} {HOLE}", " with writing"),
        (rf",? (?:saying|reading|spelling|stating|bearing)(?: out)?{OBJECT} {HOLE}", " with writing"),
        (rf" with(?: the| a)? (?:{NOUN}|{NOUNS}) {HOLE}", " with writing"),
        (rf",? (?:labell?ed|titled|entitled|named|called|marked|captioned|inscribed)(?: with| as)? {HOLE}", ""),
        (rf"\bit (?:reads|says) {HOLE}", "there is writing"),
        (rf" spell(s?)(?: out)? {HOLE}", r" spell\1 a word"),
        (rf" (?:reads|says|states) {HOLE}", " has writing"),
        (rf" (?:read|say|state) {HOLE}", " have writing"),
        (rf"\bthe ({NOUN}) {HOLE}", r"a \1"),
        (rf"\bThe ({NOUN}) {HOLE}", r"A \1"),
        (rf"\b({NOUN}|{NOUNS}) {HOLE}", r"\1"),
    )
)
"""Patterns around a hole and what stands for them, in the order in which they are tried."""

FUNCTION = re.compile(
    r"(?:an?|the|in|on|at|to|by|of|off|for|from|with|and|or|but|as|is|are|was|were|has|have|can|stands?|appears?|above|"
    r"below|over|under|near|next|across|along|behind|beside|between|inside|written|printed|painted)$",
    re.IGNORECASE,
)
"""Words before which a quote is a thing of its own; before any other it says what kind of thing that is."""


def remove_quotes(sentence: str) -> str:
    """The sentence with its holes closed, still a sentence."""
    text = sentence
    for pattern, instead in RULES:
        text = pattern.sub(instead, text)
    while HOLE in text:
        text = close_hole(text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))
    return capital(text) if re.match(rf"\W*[A-Z{HOLE}]", sentence) else text


def close_hole(text: str) -> str:
    """The text with its first hole closed: left out before the noun that it belongs to, else called some writing."""
    before, _, after = text.partition(HOLE)
    following = re.match(r" ([\w-]+)", after)
    if following and not FUNCTION.match(following[1]):
        before = re.sub(
            r"\b(a|an)(\s+)$", lambda match: article_for(following[1], match[1]) + match[2], before, flags=re.I
        )
        return before + after.lstrip()
    before = re.sub(r"\b(?:a|an|the)\s+$", "", before, flags=re.I)
    return f"{before}some writing{after}"
