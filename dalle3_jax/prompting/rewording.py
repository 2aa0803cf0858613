"""A description with a few words changed, so that all else stays in the words that a picture was made from.

The least change that says what is to be said is taken; a description is written anew only where there is none.
"""

import re
from collections.abc import Iterator, Mapping

from dalle3_jax.prompting.claims import Claims, parse_claims
from dalle3_jax.prompting.lexicon import NUMBERS, ONE, Lexicon

__all__ = ["reword_description"]


def reword_description(text: str, before: Claims, after: Claims, lexicon: Lexicon) -> str:
    """The text, which says `before`, with as few words changed as make it say `after`; "" where that needs more."""
    for candidate in _candidates(text, before, after, lexicon):
        if candidate != text and _says(candidate, after, lexicon):
            return candidate
    return ""


def _candidates(text: str, before: Claims, after: Claims, lexicon: Lexicon) -> Iterator[str]:
    """The text in another background, with one thing renamed, or two, or in other colours."""
    text = _change_background(text, before, after, lexicon)
    gone = [name for name in before.things if name not in after.things]
    new = [name for name in after.things if name not in before.things]
    if len(gone) == len(new) == 1:
        text = _rename(text, {gone[0]: new[0]}, lexicon)
    yield _add_colours(text, before, after, lexicon)
    names = list(before.things)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if names == list(after.things)]
    yield from (_rename(text, {a: b, b: a}, lexicon) for a, b in pairs)


def _says(text: str, wanted: Claims, lexicon: Lexicon) -> bool:
    """Whether a text says what is wanted; a place may be said in more words."""
    said = parse_claims(text, lexicon)
    same = dict(said.things) == dict(wanted.things) and said.backgrounds == wanted.backgrounds
    tints = {name: shades for name, shades in said.tints.items() if shades}
    same &= tints == {name: shades for name, shades in wanted.tints.items() if shades}
    return same and {*said.relations} >= {*wanted.relations} and said.places.items() >= wanted.places.items()


def _change_background(text: str, before: Claims, after: Claims, lexicon: Lexicon) -> str:
    """The text with the phrase of the new background that stands where its old one has it: "on a" for "on a"."""
    if before.backgrounds == after.backgrounds or len(before.backgrounds) != 1 or len(after.backgrounds) != 1:
        return text
    old, new = (lexicon.backgrounds[claims.backgrounds[0]] for claims in (before, after))
    phrases = {phrase.lower(): new[min(i, len(new) - 1)] for i, phrase in reversed([*enumerate(old)])}
    pattern, _ = lexicon.background_pattern
    return re.sub(pattern.pattern, lambda match: phrases.get(match[0].lower(), new[0]), text, flags=re.I)


def _rename(text: str, names: Mapping[str, str], lexicon: Lexicon) -> str:
    """The text with things by other names, and the articles that those take."""
    words = {name.lower(): new for name, new in names.items()}
    words |= {lexicon.things[name].lower(): lexicon.things[new] for name, new in names.items()}
    articles = {new.lower(): lexicon.articles.get(new, "an" if new[0] in "aeiou" else "a") for new in names.values()}
    choices = "|".join(sorted(map(re.escape, words), key=len, reverse=True))

    def change(match: re.Match[str]) -> str:
        new = words[match["name"].lower()]
        article = match["article"]
        if not article:
            return new
        fitting = articles.get(new.lower(), article) if article.lower() in ("a", "an") else article
        return f"{fitting.capitalize() if article[0].isupper() else fitting} {new}"

    return re.sub(rf"\b(?:(?P<article>an?|the) )?(?P<name>{choices})\b", change, text, flags=re.I)


def _add_colours(text: str, before: Claims, after: Claims, lexicon: Lexicon) -> str:
    """The text with the colours that things have now, where they are first named."""
    for name, shades in after.tints.items():
        if len(shades) != 1 or before.tints.get(name, ()) == shades:
            continue
        forms = "|".join(map(re.escape, (lexicon.things[name], name)))
        old = "|".join(before.tints.get(name, ())) or "(?!)"
        first = re.compile(rf"\b(?P<before>{'|'.join((*ONE, *NUMBERS))}) (?:(?:{old}) )?(?P<name>{forms})\b", re.I)
        text = first.sub(lambda match, shade=shades[0]: _name_with_colour(match, shade), text, count=1)
    return text


def _name_with_colour(match: re.Match[str], shade: str) -> str:
    article = ("an" if shade[0] in "aeiou" else "a") if match["before"].lower() in ("a", "an") else match["before"]
    article = article.capitalize() if match["before"][0].isupper() else article
    return f"{article} {shade} {match['name']}"
