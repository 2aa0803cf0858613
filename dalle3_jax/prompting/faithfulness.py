"""Faithfulness of a revised prompt to the original: quotes, counts, colours, things and relations, in one text.

After DALL-E 3's paper, appendices C and D: a prompt is made longer, and judged by whether it still says what was asked.
"""

import re
from collections.abc import Sequence

from dalle3_jax.prompting.claims import SEVERAL, Claims, Relation, parse_claims
from dalle3_jax.prompting.lexicon import COLOURS, NUMBERS, Lexicon
from dalle3_jax.prompting.ordinary_words import EMPTY
from dalle3_jax.text.glyphs import QUOTED, find_quotes

__all__ = ["LEAST", "MOST", "content_words", "format_errors", "is_usable", "missing_content", "stem"]

LEAST, MOST = 15, 80
"""Words of a description."""

NEGATIONS = ("no", "without", "not", "never", "nothing", "none")
INVERSE = {"right of": "left of", "below": "above", "in front of": "behind"}
ANSWERS = re.compile(
    r"^\s*(here(?:'s| is| are)\b|sure[,!. ]|certainly|of course|as an ai|i (?:can|cannot|can't|am|'m)\b)", re.I
)
MARKUP = re.compile(r"^\s*(?:[-*#>]|\d+[.)])\s|```|\*\*|https?://|</?\w+>", re.M)


def missing_content(prompt: str, revised: str, lexicon: Lexicon | None = None) -> tuple[str, ...]:
    """The parts of a prompt that its revision does not keep, in words for people; none where it keeps all.

    With a lexicon its things are counted and compared with care, and none may be added; all other words of content
    have to be there again, in singular or plural.
    """
    missing = [f'the quoted "{word}"' for word in find_quotes(prompt) if word not in find_quotes(revised)]
    if lexicon is not None:
        missing += claim_differences(
            parse_claims(prompt, lexicon), parse_claims(revised, lexicon), negated_words(prompt)
        )
    asked, given = QUOTED.sub(" ", prompt), QUOTED.sub(" ", revised)
    present = {stem(word) for word in lowercase_words(given)}
    missing += [f"the word {word!r}" for word in content_words(asked) if stem(word) not in present]
    missing += [f"{pair[0]} {pair[1]}" for pair in missing_pairs(asked, given)]
    missing += [f"that there is to be no {word}" for word in negated_words(asked) if is_asserted(word, given)]
    return tuple(dict.fromkeys(missing))


def format_errors(revised: str, prompt: str = "") -> tuple[str, ...]:
    """Error messages for an answer that is no single description of 15 to 80 words."""
    errors, count = [], len(revised.split())
    if not LEAST <= count <= MOST:
        errors.append(f"it has {count} words, not {LEAST} to {MOST}")
    if ANSWERS.match(revised) or MARKUP.search(revised) or len(revised.strip().splitlines()) > 1:
        errors.append("it is no plain description")
    if not is_usable(revised):
        errors.append("it holds characters that cannot be shown")
    if foreign_share(revised) > 0.3 and foreign_share(prompt) <= 0.3:
        errors.append("it is in another script than the prompt")
    return tuple(errors)


def is_usable(text: str) -> bool:
    """Whether a text is valid Unicode without control characters; what joins emoji is none."""
    return not any(
        0xD800 <= ord(letter) <= 0xDFFF or (not letter.isprintable() and letter not in "\n\t \u200d") for letter in text
    )


def foreign_share(text: str) -> float:
    """The share of its letters that are not Latin."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(ord(letter) > 0x24F for letter in letters) / max(len(letters), 1)


def claim_differences(wanted_claims: Claims, revised_claims: Claims, unwanted: Sequence[str]) -> list[str]:
    """Differences between what is said of things and what was asked."""
    away = {stem(word) for word in unwanted}
    wanted = {name: n for name, n in wanted_claims.things.items() if stem(name.split()[-1]) not in away}
    differences = []
    for name, number in wanted.items():
        said = revised_claims.things.get(name)
        if said is None:
            differences.append(f"the {name}")
        elif number != said and not (SEVERAL in (number, said) and max(number, said) != 1):
            differences.append(f"the number of the {name}: {number}, not {said}")
    differences += [
        f"nothing else: it adds a {name}" for name in revised_claims.things if name not in wanted_claims.things
    ]
    differences += [
        f"the {name} being {tint}"
        for name, tints in wanted_claims.tints.items()
        for tint in tints
        if tint not in revised_claims.tints.get(name, ())
    ]
    relations = {canonical_relation(relation) for relation in revised_claims.relations}
    differences += [
        f"{' '.join(relation)}" for relation in wanted_claims.relations if canonical_relation(relation) not in relations
    ]
    differences += [
        f"the {name} {place}"
        for name, place in wanted_claims.places.items()
        if revised_claims.places.get(name, place) != place
    ]
    if wanted_claims.backgrounds and {*revised_claims.backgrounds} != {*wanted_claims.backgrounds}:
        differences.append(f"the background: {', '.join(wanted_claims.backgrounds)}")
    return differences


def canonical_relation(relation: Relation) -> Relation:
    """The relation in one of the two ways to say it."""
    first, name, *others = relation
    if name == "between":
        return (first, name, *sorted(others))
    return (others[0], INVERSE[name], first) if name in INVERSE else relation


def lowercase_words(text: str) -> list[str]:
    """The words of a text in lower case; digits are words too."""
    return re.findall(r"[^\W_]+(?:['\u2019-][^\W_]+)*", text.lower())


def content_words(text: str) -> list[str]:
    """The words that ask for something: no articles, prepositions, numbers, nor words that speak of the picture."""
    return [word for word in dict.fromkeys(lowercase_words(text)) if word not in EMPTY and not is_number_word(word)]


def is_number_word(word: str) -> bool:
    """Whether a word is a number or says that there is none: these are compared with what they count."""
    return word.isdigit() or word in NUMBERS or word in NEGATIONS


def stem(word: str) -> str:
    """One form for singular and plural: cherries, cherry; foxes, fox; leaves, leaf."""
    word = word.lower()
    for ending, instead in (("ies", "y"), ("ves", "f"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3 else word


def missing_pairs(prompt: str, revised: str) -> list[tuple[str, str]]:
    """(number or colour, word): those that stand before a word of content and no longer do."""
    return [pair for pair in modifier_pairs(prompt) if pair not in modifier_pairs(revised)]


def modifier_pairs(text: str) -> set[tuple[str, str]]:
    """Numbers and colours with the next word of content behind each, at most three words on; numbers as digits."""
    words, pairs = lowercase_words(text), set()
    for i, word in enumerate(words):
        number = word if word.isdigit() else str(NUMBERS.index(word)) if word in NUMBERS[2:] else ""
        if not number and word not in COLOURS:
            continue
        near = [other for other in words[i + 1 : i + 4] if other not in EMPTY and (other not in COLOURS or not number)]
        if near:
            pairs.add((number or word, stem(near[0])))
    return pairs


def negated_words(text: str) -> list[str]:
    """The words that are asked not to be there: the first of content after each negation."""
    words = lowercase_words(text)
    negated = []
    for i, word in enumerate(words):
        if word in NEGATIONS[:3]:
            negated += [other for other in words[i + 1 : i + 4] if other not in EMPTY and other not in COLOURS][:1]
    return negated


def is_asserted(word: str, text: str) -> bool:
    """Whether a text speaks of a word, and not only to say that it is not there."""
    words = [stem(other) for other in lowercase_words(text)]
    places = [i for i, other in enumerate(words) if other == stem(word)]
    return bool(places) and not all({*words[max(0, i - 3) : i]} & {*NEGATIONS} for i in places)
