"""English inflection: articles, regular plurals, capitals."""

import re

__all__ = ["article_for", "capital", "regular_plural"]

VOWEL = re.compile(r"(?!eu|one\b|once\b|uni|use|usu)[aeiou]|hour|honest|heir", re.IGNORECASE)


def article_for(word: str, like: str = "a") -> str:
    """The article that stands before a word, with a capital letter where `like` has one."""
    article = "an" if VOWEL.match(word) else "a"
    return capital(article) if like[:1].isupper() else article


def regular_plural(word: str) -> str:
    """The regular plural of a word."""
    if re.search(r"[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith(("s", "x", "z", "ch", "sh")) else f"{word}s"


def capital(text: str) -> str:
    """The text with a capital letter first."""
    return text[:1].upper() + text[1:]
