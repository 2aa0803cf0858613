"""Chinese in a prompt, wholly or in part, written in English with the words of a lexicon.

A clause is cut into known words, the longest first; nouns take their numbers, colours and adjectives; and patterns over
the kinds of words ("thing, at, thing, direction") say how things stand (`prompting.chinese_clauses`). What is not known
is left out, and returned.
"""

import re
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from dalle3_jax.prompting.chinese_clauses import Clause, Noun, Piece, render_clause
from dalle3_jax.prompting.lexicon import NUMBERS, ONE, Lexicon
from dalle3_jax.prompting.substitution import Substituted
from dalle3_jax.prompting.word_kinds import number_of

__all__ = ["has_chinese", "translate_chinese"]

HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
OTHER_SCRIPTS = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
"""Kana and Hangul: Han letters beside these are not Chinese."""
CLAUSE = re.compile("[\uff0c\u3002\uff1b\uff01\uff1f\uff1a,.;!?\n]+")
QUOTES = re.compile("[\ue000-\uf8ff]")
"""Each stands for a quote."""
KINDS = {
    "thing": "N",
    "noun": "N",
    "colour": "C",
    "adjective": "J",
    "number": "#",
    "measure": "M",
    "background": "B",
    "direction": "D",
    "between": "T",
    "beside": "S",
    "at": "P",
    "has": "H",
    "of": "E",
    "and": "A",
    "without": "W",
    "reads": "Y",
    "verb": "V",
    "frame": "F",
    "request": "X",
    "particle": "K",
}
PREPOSITIONS = ("in", "on", "at", "under", "by", "in front of")


class Token(NamedTuple):
    """A word of a prompt: a letter for its kind (L of English that stays, U of what is not known), and its meaning."""

    kind: str
    meaning: str


def has_chinese(text: str) -> bool:
    """Whether a text has Chinese in it."""
    return bool(re.search(f"[{HAN}]", text)) and not OTHER_SCRIPTS.search(text)


def translate_chinese(text: str, lexicon: Lexicon) -> Substituted:
    """The text in English where it has Chinese that names a thing or a background, else as it is."""
    if not lexicon.paraphrases.chinese or not has_chinese(text):
        return Substituted(text)
    mentioned: set[str] = set()
    clauses, unknown, known = [], [], False
    for part in CLAUSE.split(text):
        tokens = tokenize(part, lexicon)
        unknown += [token.meaning for token in tokens if token.kind == "U"]
        known |= any(token.kind in "NB" for token in tokens)
        if clause := translate_tokens(tokens, lexicon, mentioned):
            clauses.append(clause)
    if not known:
        return Substituted(text)
    return Substituted(joined(clauses), (f"{shown(text)} -> {joined(clauses)}",), tuple(dict.fromkeys(unknown)))


def shown(text: str) -> str:
    """A prompt as a note quotes it."""
    whole = " ".join(text.split())
    return whole if len(whole) <= 40 else f"{whole[:39]}…"


def joined(clauses: list[Clause]) -> str:
    """Clauses as one text: those that say how things stand are sentences of their own."""
    text = ""
    for number, clause in enumerate(clauses):
        stop = "" if not number else ". " if clause.is_sentence or clauses[number - 1].is_sentence else ", "
        text += f"{stop}{clause.text[:1].upper() + clause.text[1:] if stop == '. ' else clause.text}"
    return text


@lru_cache(maxsize=16)
def words_of(lexicon: Lexicon) -> tuple[re.Pattern[str], dict[str, Token]]:
    """A pattern of all known words, and what each means; English names among them, for mixed prompts."""
    known: dict[str, Token] = {}
    for word, (kind, meaning) in lexicon.paraphrases.chinese.items():
        known[word] = Token(KINDS[kind], meaning)
    english: dict[str, Token] = {name: Token("B", name) for name in lexicon.backgrounds}
    for name, plural in lexicon.things.items():
        english |= {plural.lower(): Token("N", name), name.lower(): Token("N", name)}
    english |= {colour: Token("C", colour) for colour in lexicon.colours}
    english |= {number: Token("#", str(NUMBERS.index(number))) for number in NUMBERS[1:]}
    english |= {word: Token("#", "1") for word in ONE}
    english |= {"and": Token("A", "and"), "the": Token("K", "the")}
    han = "|".join(map(re.escape, sorted(known, key=len, reverse=True)))
    latin = "|".join(map(re.escape, sorted(english, key=len, reverse=True)))
    return re.compile(
        rf"{han}|(?<![a-z-])(?:{latin})(?![a-z-])|\d+|[a-z\u00df-\u024f][a-z\d\u00df-\u024f'-]*|[{HAN}]|\S"
    ), {**english, **known}


def tokenize(clause: str, lexicon: Lexicon) -> list[Token]:
    """The words of a clause in order; neighbours that are not known are one."""
    pattern, known = words_of(lexicon)
    tokens: list[Token] = []
    for part in pattern.findall(clause.lower()):
        if part in known:
            token = known[part]
            if token == Token("D", "centre"):
                token = Token("Z", "centre")
        elif QUOTES.match(part):
            token = Token("Q", part)
        elif (number := number_of(part)) is not None:
            token = Token("#", str(number))
        elif re.match(f"[{HAN}]", part):
            token = Token("U", part)
        else:
            token = Token("L", part)
        if tokens and token.kind == "U" == tokens[-1].kind:
            token = Token("U", tokens.pop().meaning + token.meaning)
        tokens.append(token)
    return tokens


def translate_tokens(tokens: list[Token], lexicon: Lexicon, mentioned: set[str]) -> Clause | None:
    """A clause in English; stretches between English words that stay are translated one by one."""
    parts: list[str] = []
    is_sentence, stretch = False, list[Token]()
    for token in [*tokens, Token("L", "")]:
        if token.kind != "L":
            stretch.append(token)
            continue
        if parts and stretch and stretch[0].kind == "A":
            parts.append(stretch.pop(0).meaning)
        left = split_end(stretch) if token.meaning else []
        clause = render_clause(fold(stretch, lexicon), lexicon, mentioned)
        if clause.text:
            while parts and clause.text.startswith(("on ", "in ", "at ", "under ")) and parts[-1] in PREPOSITIONS:
                parts.pop()
            parts.append(clause.text)
            is_sentence |= clause.is_sentence
        parts += [*left, token.meaning] if token.meaning else left
        stretch = []
    text = re.sub(r" +([,.;:!?])", r"\1", " ".join(parts))
    return Clause(text, is_sentence) if text else None


def split_end(stretch: list[Token]) -> list[str]:
    """Takes what belongs to a word that follows off the end of a stretch: "and", numbers and colours, in English."""
    words: list[str] = []
    while stretch and stretch[-1].kind in "A#CJMK":
        kind, meaning = stretch.pop()
        if kind == "#" and meaning.isdigit():
            meaning = "a" if meaning == "1" else NUMBERS[int(meaning)] if int(meaning) < len(NUMBERS) else meaning
        if kind in "A#CJ" or meaning == "the":
            words.insert(0, meaning)
    return words


NOUN = re.compile(r"(?:[CJ]E*)*(?:(#)M?E?)?(?:[CJ]E*)*N")


def fold(tokens: list[Token], lexicon: Lexicon) -> list[Piece]:
    """The tokens without particles, in which each noun has its number, colour and adjectives."""
    tokens = [token for token in tokens if token.kind not in "KXFU"]
    kinds = "".join(token.kind for token in tokens)
    pieces: list[Piece] = []
    at = 0
    while at < len(tokens):
        match = NOUN.match(kinds, at)
        if match:
            pieces.append(Piece("N", "", noun_of(tokens[at : match.end()], lexicon)))
            at = match.end()
            continue
        if kinds[at] not in "M#CJ":
            pieces.append(Piece(kinds[at], tokens[at].meaning))
        elif kinds[at] == "J" and pieces and pieces[-1].kind == "N" and tokens[at].meaning.endswith("ing"):
            pieces[-1] = Piece("N", "", replace(pieces[-1].noun, doing=tokens[at].meaning))  # "a cat is sleeping"
        at += 1
    return pieces


def noun_of(tokens: list[Token], lexicon: Lexicon) -> Noun:
    """A noun of its tokens; without a number there is one of it."""
    name = tokens[-1].meaning
    number = next((token.meaning for token in tokens if token.kind == "#"), "")
    if number == "pair":
        number = "1" if name.startswith("pair of ") else "2"
    colours = [token.meaning for token in tokens if token.kind == "C"]
    adjectives = [token.meaning for token in tokens if token.kind == "J"]
    count = 0 if number == "several" else int(number or 1)
    return Noun(name, count, (*adjectives, *colours[:1]), is_counted=bool(number))
