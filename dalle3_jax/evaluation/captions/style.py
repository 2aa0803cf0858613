"""The style of captions: first words, case, ends, lengths, duplicates, vocabulary."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

__all__ = [
    "ENDS",
    "SAMPLE",
    "Style",
    "begins_with_article",
    "first_word",
    "measure_style",
    "share_where",
    "split_words",
]

ARTICLES = ("a", "an", "the")
ENDS = (".", "!", "?")
SAMPLE = 5_000
"""Words over which a vocabulary is counted, so that larger sets do not seem richer."""

FIRSTS = 10
LATIN = 0x24F
"""The last letter of Latin Extended-B."""


@dataclass(frozen=True)
class Style:
    """The style of one set of captions; shares are in [0, 1], tokens with the token that ends a text."""

    captions: int
    articles: float  # begin with a, an or the
    first_words: dict[str, float]  # the commonest ten
    first_word_entropy: float  # bits
    lower_case: float  # no capital letter at all
    capitalised: float  # begin with a capital letter
    title_case: float  # Each of Several Words Does, Not All of Them Capitals
    upper_case: float  # NO SMALL LETTER
    end_punctuation: float
    outer_spaces: float  # begin or end with a blank
    tokens: dict[str, float]  # min, median, mean, p95, p99, max
    commonest_length: float  # have the number of tokens that most have
    truncated: float
    duplicates: float  # are there once more
    near_duplicates: float  # but for case and blanks
    vocabulary: int  # distinct words among the first SAMPLE
    commonest: float  # of all words are among the 100 commonest
    odd_characters: float  # hold control characters or other scripts than Latin


def measure_style(captions: Sequence[str], count: Callable[[str], int], length: int) -> Style:
    """The style of captions; `count` gives a text's tokens, of which a model reads `length`."""
    if not captions:
        raise ValueError("there are no captions to report on")
    firsts, tokens = Counter(first_word(text) for text in captions), [count(text) for text in captions]
    words = [word for text in captions for word in split_words(text)]
    return Style(
        captions=len(captions),
        articles=share_where(captions, begins_with_article),
        first_words={word: n / len(captions) for word, n in firsts.most_common(FIRSTS)},
        first_word_entropy=entropy(firsts),
        lower_case=share_where(captions, lambda text: text == text.lower()),
        capitalised=share_where(captions, is_capitalised),
        title_case=share_where(captions, is_title),
        upper_case=share_where(captions, is_upper),
        end_punctuation=share_where(captions, lambda text: text.rstrip().endswith(ENDS)),
        outer_spaces=share_where(captions, lambda text: text != text.strip()),
        tokens=length_quantiles(tokens),
        commonest_length=Counter(tokens).most_common(1)[0][1] / len(tokens),
        truncated=sum(n > length for n in tokens) / len(tokens),
        duplicates=duplicate_share(captions),
        near_duplicates=duplicate_share([" ".join(text.lower().split()) for text in captions]),
        vocabulary=len(set(words[:SAMPLE])),
        commonest=sum(n for _, n in Counter(words).most_common(100)) / max(len(words), 1),
        odd_characters=share_where(captions, has_odd_characters),
    )


def share_where(texts: Sequence[str], holds: Callable[[str], bool]) -> float:
    """The share of the texts of which something holds."""
    return sum(map(holds, texts)) / len(texts)


def split_words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def first_word(text: str) -> str:
    """The first word in lower case, "" where there is none."""
    return next(iter(split_words(text)), "")


def begins_with_article(text: str) -> bool:
    """Whether the first word is a, an or the."""
    return first_word(text) in ARTICLES


def is_capitalised(text: str) -> bool:
    """Whether it begins with a capital letter."""
    return text.strip()[:1].isupper()


def is_upper(text: str) -> bool:
    """Whether all its letters, two or more, are capitals."""
    return text == text.upper() and sum(map(str.isalpha, text)) > 1


def is_title(text: str) -> bool:
    """Whether all words of more than three letters, two or more of them, begin with a capital, not all in capitals."""
    words = [word for word in re.findall(r"[^\W\d_]+", text) if len(word) > 3]
    return len(words) > 1 and all(word[0].isupper() for word in words) and not is_upper(text)


def has_odd_characters(text: str) -> bool:
    """Whether it holds control characters, or letters that are not Latin."""
    return any(not letter.isprintable() or (letter.isalpha() and ord(letter) > LATIN) for letter in text)


def duplicate_share(texts: Sequence[str]) -> float:
    """The share of texts that stand at another place too."""
    return sum(n for n in Counter(texts).values() if n > 1) / len(texts)


def entropy(counts: Mapping[str, int]) -> float:
    """Of a distribution, in bits."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def length_quantiles(numbers: Sequence[int]) -> dict[str, float]:
    """Quantiles of the numbers."""
    points = {"min": 0.0, "median": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
    quantiles = {name: float(np.quantile(numbers, point)) for name, point in points.items()}
    return {**quantiles, "mean": float(np.mean(numbers))}
