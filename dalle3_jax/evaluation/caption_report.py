"""How captions are written: what DALL-E 3's paper warns of when a model learns from them alone (section 3.4).

A captioner's texts are regular where people's are not: they all begin with "a", have one case, one length, one end. A
model learns that too, and meets prompts that are not so; some human captions in the blend are the remedy.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from dalle3_jax.evaluation.tables import percent, table

__all__ = ["Distance", "Style", "distance", "markdown", "style", "warnings"]

ARTICLES = ("a", "an", "the")
SAMPLE = 5_000
"""Words over which a vocabulary is counted, so that larger sets do not seem richer."""

FOLDS = 5
MOST = 2_000
"""Texts of a set that are told from prompts."""


@dataclass(frozen=True)
class Style:
    """How the captions of one set are written; shares are in [0, 1], tokens with the token that ends a text."""

    captions: int
    articles: float  # begin with a, an or the
    first_words: dict[str, float]  # the commonest five
    first_word_entropy: float  # bits
    lower_case: float  # no capital letter at all
    capitalised: float  # begin with a capital letter
    end_punctuation: float
    outer_spaces: float  # begin or end with a blank
    tokens: dict[str, float]  # min, median, mean, p95, max
    truncated: float
    duplicates: float  # are there once more
    near_duplicates: float  # but for case and blanks
    vocabulary: int  # distinct words among the first SAMPLE
    commonest: float  # of all words are among the 100 commonest
    odd_characters: float  # hold control characters or other scripts than Latin


@dataclass(frozen=True)
class Distance:
    """How far captions are from prompts: Jensen-Shannon distances in [0, 1], words more a text, and how well a linear
    classifier tells them apart by their form (AUC, 0.5 is not at all); `control` is that of two halves of the prompts.
    """

    words: float
    first_words: float
    longer: float
    told_apart: float
    control: float


def style(captions: Sequence[str], count: Callable[[str], int], length: int) -> Style:
    """How captions are written; `count` gives a text's tokens, of which a model reads `length`."""
    if not captions:
        raise ValueError("there are no captions to report on")
    firsts, tokens = Counter(first_word(text) for text in captions), np.array([count(text) for text in captions])
    words = [word for text in captions for word in words_of(text)]
    shares = Counter(words).most_common(100)
    return Style(
        captions=len(captions),
        articles=share(captions, lambda text: first_word(text) in ARTICLES),
        first_words={word: n / len(captions) for word, n in firsts.most_common(5)},
        first_word_entropy=entropy(firsts),
        lower_case=share(captions, lambda text: text == text.lower()),
        capitalised=share(captions, lambda text: text.strip()[:1].isupper()),
        end_punctuation=share(captions, lambda text: text.rstrip().endswith((".", "!", "?"))),
        outer_spaces=share(captions, lambda text: text != text.strip()),
        tokens={
            "min": float(tokens.min()),
            "median": float(np.median(tokens)),
            "mean": float(tokens.mean()),
            "p95": float(np.quantile(tokens, 0.95)),
            "max": float(tokens.max()),
        },
        truncated=float(np.mean(tokens > length)),
        duplicates=repeated(captions),
        near_duplicates=repeated([" ".join(text.lower().split()) for text in captions]),
        vocabulary=len(set(words[:SAMPLE])),
        commonest=sum(n for _, n in shares) / max(len(words), 1),
        odd_characters=share(captions, is_odd),
    )


def distance(captions: Sequence[str], prompts: Sequence[str], seed: int = 0) -> Distance:
    """How far captions are from a file of users' prompts; ValueError for fewer than ten of either."""
    if min(len(captions), len(prompts)) < 2 * FOLDS:
        raise ValueError(f"{len(captions)} captions, {len(prompts)} prompts: at least {2 * FOLDS} of each are needed")
    bags = [Counter(word for text in texts for word in words_of(text)) for texts in (captions, prompts)]
    firsts = [Counter(map(first_word, texts)) for texts in (captions, prompts)]
    lengths = [float(np.mean([len(words_of(text)) for text in texts])) for texts in (captions, prompts)]
    draw = np.random.default_rng(seed)
    mixed = [str(prompts[int(i)]) for i in draw.permutation(len(prompts))]
    half = len(mixed) // 2
    return Distance(
        words=jensen_shannon(*bags),
        first_words=jensen_shannon(*firsts),
        longer=lengths[0] - lengths[1],
        told_apart=separability(captions[:MOST], prompts[:MOST], seed),
        control=separability(mixed[:half][:MOST], mixed[half:][:MOST], seed),
    )


def share(texts: Sequence[str], holds: Callable[[str], bool]) -> float:
    """The share of the texts of which something holds."""
    return sum(map(holds, texts)) / len(texts)


def words_of(text: str) -> list[str]:
    """The words of a text in lower case."""
    return re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower())


def first_word(text: str) -> str:
    """The first word in lower case, "" where there is none."""
    return next(iter(words_of(text)), "")


def repeated(texts: Sequence[str]) -> float:
    """The share of texts that stand at another place too."""
    counts = Counter(texts)
    return sum(n for n in counts.values() if n > 1) / len(texts)


def is_odd(text: str) -> bool:
    """Whether it holds control characters, or letters that are not Latin."""
    return any(not letter.isprintable() or (letter.isalpha() and ord(letter) > 0x24F) for letter in text)


def entropy(counts: Mapping[str, int]) -> float:
    """Of a distribution, in bits."""
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def jensen_shannon(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """The distance of two distributions: the root of their divergence to base 2, 0 alike, 1 with nothing in common."""
    sums = sum(one.values()) or 1, sum(other.values()) or 1
    total = 0.0
    for word in one.keys() | other.keys():
        p, q = one.get(word, 0) / sums[0], other.get(word, 0) / sums[1]
        total += sum(part * math.log2(2 * part / (p + q)) / 2 for part in (p, q) if part)
    return math.sqrt(max(total, 0.0))


def separability(one: Sequence[str], other: Sequence[str], seed: int = 0) -> float:
    """The AUC with which a logistic regression on the texts' form tells two sets apart, out of fold."""
    x = np.array([form_of(text) for text in (*one, *other)])
    y = np.arange(len(x)) < len(one)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    scores = np.zeros(len(x))
    for k in range(FOLDS):
        scores[fold == k] = np.c_[x[fold == k], np.ones((fold == k).sum())] @ fitted(x[fold != k], y[fold != k])
    return auc(scores, y)


def form_of(text: str) -> list[float]:
    """What can be seen of a text without reading it."""
    words = words_of(text)
    letters = [letter for letter in text if letter.isalpha()]
    return [
        math.log1p(len(words)),
        sum(map(len, words)) / max(len(words), 1),
        sum(letter.isupper() for letter in letters) / max(len(letters), 1),
        float(text.strip()[:1].isupper()),
        float(text.rstrip().endswith((".", "!", "?"))),
        float(text != text.strip()),
        float(first_word(text) in ARTICLES),
        float(text.count(",")),
        float(text.count(".")),
        float(any(letter.isdigit() for letter in text)),
        float('"' in text),
    ]


def fitted(x: Float[np.ndarray, "n d"], y: Bool[np.ndarray, " n"], steps: int = 30) -> Float[np.ndarray, " d1"]:
    """The weights and the bias of a logistic regression with a little ridge, by Newton's method."""
    x = np.c_[x, np.ones(len(x))]
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (p - y) + 1e-1 * weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + 1e-1 * np.eye(len(weights)), slope)
    return weights


def auc(scores: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"]) -> float:
    """The chance that one of the first set has the higher score, ties half."""
    order = np.unique(scores, return_inverse=True)[1]
    counts = np.bincount(order), np.bincount(order, weights=y)
    below = np.cumsum(counts[0]) - counts[0] - (np.cumsum(counts[1]) - counts[1])
    ties = counts[0] - counts[1]
    return float(np.sum(counts[1] * (below + ties / 2)) / (y.sum() * (~y).sum()))


WARNINGS: tuple[tuple[Callable[[Style], float], float, str], ...] = (
    (lambda s: s.articles, 0.6, "{0} begin with an article: prompts often do not"),
    (lambda s: max(s.first_words.values()), 0.4, "{0} begin with the same word"),
    (lambda s: s.lower_case, 0.9, "{0} have no capital letter: a model told them apart by case would be lost"),
    (lambda s: s.capitalised, 0.9, "{0} begin with a capital letter: prompts often do not"),
    (lambda s: s.end_punctuation, 0.8, "{0} end with a full stop: prompts without one look unlike anything learnt"),
    (lambda s: 1 - s.end_punctuation, 0.98, "{0} end without punctuation"),
    (lambda s: s.outer_spaces, 0.01, "{0} begin or end with a blank: strip them"),
    (lambda s: s.truncated, 0.01, "{0} are longer than the model reads: raise data.text_length or shorten them"),
    (lambda s: s.duplicates, 0.2, "{0} are the same as another caption"),
    (lambda s: s.odd_characters, 0.01, "{0} hold control characters or other scripts"),
)
"""What is worth a warning: a share, from where on, and what to say of it."""


def warnings(name: str, found: Style) -> list[str]:
    """What is worth a warning in a set of captions; blending in human captions regularises most of it."""
    said = [(measure(found), least, text) for measure, least, text in WARNINGS]
    return [f"{name}: {text.format(percent(value))}" for value, least, text in said if value > least]


def markdown(found: Mapping[str, Style], distances: Mapping[str, Distance]) -> str:
    """A column a set of captions, then the distances to prompts, then the warnings."""
    rows: list[list[str]] = []
    for name, write in ROWS.items():
        rows.append([name, *(write(one) for one in found.values())])
    parts = [table(["", *found], rows)]
    if distances:
        titles = [
            "against the prompts",
            "words (JS)",
            "first words (JS)",
            "words more a text",
            "told apart (AUC)",
            "control",
        ]
        lines = [[name, *(f"{value:.2f}" for value in asdict(one).values())] for name, one in distances.items()]
        parts.append(table(titles, lines))
    said = [line for name, one in found.items() for line in warnings(name, one)]
    parts.append("\n".join(f"- {line}" for line in said) if said else "Nothing to warn of.")
    return "\n\n".join(parts) + "\n"


def tokens_text(one: Style) -> str:
    """Lengths as people read them."""
    return " / ".join(f"{one.tokens[name]:.0f}" for name in ("min", "median", "p95", "max"))


ROWS: dict[str, Callable[[Style], str]] = {
    "captions": lambda one: f"{one.captions:,}",
    "begin with a, an, the": lambda one: percent(one.articles),
    "commonest first words": lambda one: ", ".join(
        f"{word or '(none)'} {n:.0%}" for word, n in one.first_words.items()
    ),
    "first words, bits": lambda one: f"{one.first_word_entropy:.1f}",
    "no capital letter": lambda one: percent(one.lower_case),
    "capital at the start": lambda one: percent(one.capitalised),
    "end punctuation": lambda one: percent(one.end_punctuation),
    "outer blanks": lambda one: percent(one.outer_spaces),
    "tokens: min / median / 95 % / max": tokens_text,
    "truncated": lambda one: percent(one.truncated),
    "duplicates": lambda one: percent(one.duplicates),
    "but for case and blanks": lambda one: percent(one.near_duplicates),
    f"distinct words of {SAMPLE:,}": lambda one: f"{one.vocabulary:,}",
    "the 100 commonest words": lambda one: percent(one.commonest),
    "control characters, other scripts": lambda one: percent(one.odd_characters),
}
"""Line of the table -> how it is written."""


def plain(found: Mapping[str, Style], distances: Mapping[str, Distance]) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "styles": {name: asdict(one) for name, one in found.items()},
        "distances": {name: asdict(one) for name, one in distances.items()},
        "warnings": [line for name, one in found.items() for line in warnings(name, one)],
    }
