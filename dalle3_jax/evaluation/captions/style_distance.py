"""Distances of captions from users' prompts: by their words, and by how well their form alone gives them away."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from dalle3_jax.evaluation.captions.style import (
    ENDS,
    begins_with_article,
    first_word,
    is_capitalised,
    share_where,
    split_words,
)

__all__ = ["PromptDistance", "auc", "jensen_shannon", "prompt_distance", "separability"]

FOLDS = 5
MOST = 2_000
"""Texts of a set that are told from prompts."""

RIDGE = 0.1


@dataclass(frozen=True)
class PromptDistance:
    """Distances of captions from prompts, in words, length, case and form.

    Jensen-Shannon distances in [0, 1], words more a text, the share that begins with a capital letter less that of the
    prompts, and how well a linear classifier tells both apart by their form (AUC, 0.5 is not at all); `control` is that
    of two halves of the prompts.
    """

    words: float
    first_words: float
    longer: float
    capitalised: float
    told_apart: float
    control: float


def prompt_distance(captions: Sequence[str], prompts: Sequence[str], seed: int = 0) -> PromptDistance:
    """The distance of captions from users' prompts; ValueError for fewer than ten of either."""
    if min(len(captions), len(prompts)) < 2 * FOLDS:
        raise ValueError(f"{len(captions)} captions, {len(prompts)} prompts: at least {2 * FOLDS} of each are needed")
    sets = (captions, prompts)
    lengths = [float(np.mean([len(split_words(text)) for text in texts])) for texts in sets]
    mixed = [str(prompts[int(i)]) for i in np.random.default_rng(seed).permutation(len(prompts))]
    half = len(mixed) // 2
    return PromptDistance(
        words=jensen_shannon(*(Counter(word for text in texts for word in split_words(text)) for texts in sets)),
        first_words=jensen_shannon(*(Counter(map(first_word, texts)) for texts in sets)),
        longer=lengths[0] - lengths[1],
        capitalised=share_where(captions, is_capitalised) - share_where(prompts, is_capitalised),
        told_apart=separability(captions[:MOST], prompts[:MOST], seed),
        control=separability(mixed[:half][:MOST], mixed[half:][:MOST], seed),
    )


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
    x = np.array([form_features(text) for text in (*one, *other)])
    y = np.arange(len(x)) < len(one)
    x = (x - x.mean(0)) / np.maximum(x.std(0), 1e-9)
    fold = np.random.default_rng(seed).permutation(len(x)) % FOLDS
    scores = np.zeros(len(x))
    for k in range(FOLDS):
        scores[fold == k] = np.c_[x[fold == k], np.ones((fold == k).sum())] @ fit_logistic_regression(
            x[fold != k], y[fold != k]
        )
    return auc(scores, y)


def form_features(text: str) -> list[float]:
    """Features of a text's form, which can be seen without reading it."""
    words = split_words(text)
    letters = [letter for letter in text if letter.isalpha()]
    return [
        math.log1p(len(words)),
        sum(map(len, words)) / max(len(words), 1),
        sum(letter.isupper() for letter in letters) / max(len(letters), 1),
        float(is_capitalised(text)),
        float(text.rstrip().endswith(ENDS)),
        float(text != text.strip()),
        float(begins_with_article(text)),
        float(text.count(",")),
        float(text.count(".")),
        float(any(letter.isdigit() for letter in text)),
        float('"' in text),
    ]


def fit_logistic_regression(
    x: Float[np.ndarray, "n d"], y: Bool[np.ndarray, " n"], steps: int = 30
) -> Float[np.ndarray, " d1"]:
    """The weights and the bias of a logistic regression with a little ridge, by Newton's method."""
    x = np.c_[x, np.ones(len(x))]
    weights = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        slope = x.T @ (p - y) + RIDGE * weights
        weights -= np.linalg.solve((x * (p * (1 - p))[:, None]).T @ x + RIDGE * np.eye(len(weights)), slope)
    return weights


def auc(scores: Float[np.ndarray, " n"], y: Bool[np.ndarray, " n"]) -> float:
    """The chance that one of the first set has the higher score, ties half."""
    order = np.unique(scores, return_inverse=True)[1]
    counts = np.bincount(order), np.bincount(order, weights=y)
    ties = counts[0] - counts[1]
    below = np.cumsum(ties) - ties
    return float(np.sum(counts[1] * (below + ties / 2)) / (y.sum() * (~y).sum()))
