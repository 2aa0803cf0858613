"""Arrangements in an English prompt, said as captions say them: "cat on a skateboard", "dog left, cat right"."""

import re
from itertools import pairwise

from dalle3_jax.prompting.lexicon import COLOURS, Lexicon
from dalle3_jax.prompting.names import find_names, names_of
from dalle3_jax.prompting.ordinary_words import ADJECTIVES, DETERMINERS
from dalle3_jax.prompting.phrases import split_words
from dalle3_jax.prompting.substitution import Edit, Substituted, edited

__all__ = ["replace_places", "replace_resting"]

RESTS = frozenset(
    {
        "is",
        "are",
        "sitting",
        "sits",
        "standing",
        "stands",
        "lying",
        "lies",
        "sleeping",
        "perched",
        "balancing",
        "resting",
    }
)
RIDES = frozenset({"riding", "rides", "ride"})
PLACE = re.compile(
    r" (?:(?:on|to|at|in) )?(?:the )?(?P<place>(?:(?:top|bottom|upper|lower)[ -])?(?:left|right)|top|bottom)"
    r"(?: corner| side)?(?= and |\s*(?:[,;.]|$))",
    re.I,
)


def replace_resting(text: str, lexicon: Lexicon) -> Substituted:
    """The text in which a thing on a thing is "on top of" it, where the lexicon has that; so is what rides on it."""
    if "on top of" not in lexicon.relations.get("above", ()):
        return Substituted(text)
    names, words = names_of(lexicon), split_words(text)
    edits, notes = [], []
    for one, other in pairwise(find_names(text, words, lexicon)):
        gap = text[words[one.last - 1].end : words[other.first].start]
        if one.key not in names or other.key not in names or re.search(r"[^\w\s'-]", gap):
            continue
        verbs = [
            word
            for word in words[one.last : other.first]
            if word.text not in DETERMINERS and word.text not in ADJECTIVES and word.text not in COLOURS
        ]
        said = [word.text for word in verbs]
        if {*said} <= {*RESTS, *RIDES, "on"} and said and said[-1] in {*RIDES, "on"}:
            edits.append(Edit(verbs[0].start, verbs[-1].end, "on top of"))
            if {*said} & RIDES:
                notes.append(f"{text[verbs[0].start : verbs[-1].end].lower()} -> on top of")
    return Substituted(edited(text, edits), tuple(dict.fromkeys(notes)))


def replace_places(text: str, lexicon: Lexicon) -> Substituted:
    """The text with the lexicon's phrases for places behind its things: "dog left", "moon top right"."""
    words, edits = split_words(text), []
    for phrase in find_names(text, words, lexicon):
        match = PLACE.match(text, words[phrase.last - 1].end)
        if not match or phrase.key not in names_of(lexicon):
            continue
        name = match["place"].lower().replace("-", " ").replace("upper", "top").replace("lower", "bottom")
        phrases = lexicon.places.get(name, ())
        if phrases and match[0].strip().lower() not in phrases:
            edits.append(Edit(*match.span(), f" {phrases[0]}"))
    return Substituted(edited(text, edits))
