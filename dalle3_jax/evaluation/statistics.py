"""Rates with bootstrap intervals over prompts, and what shuffled prompts would score."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool


class Rate(NamedTuple):
    """A share of prompts in [0, 1] with the bounds of its confidence interval and the number of prompts behind it."""

    value: float
    low: float
    high: float
    prompts: int


def bootstrap(hits: Bool[np.ndarray, " n"], *, seed: int = 0, samples: int = 2000, level: float = 0.95) -> Rate:
    """The mean of `hits` with its percentile bootstrap interval: prompts are drawn again, with replacement.

    When every prompt is right, or every one wrong, the interval has no width: the sample holds no sign of the
    opposite. Up to 3 / count of the prompts may still be of the other sort (95 %).
    """
    hits = np.asarray(hits, np.float64)
    if not len(hits):
        raise ValueError("no prompts to average over: a rate needs at least one")
    draws = np.random.default_rng(seed).integers(len(hits), size=(samples, len(hits)))
    low, high = np.quantile(hits[draws].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Rate(float(hits.mean()), float(low), float(high), len(hits))


def shuffled(
    judge: Callable[[Any, Any], bool], answers: Sequence, truths: Sequence, *, seed: int = 0, samples: int = 2000
) -> Rate:
    """The rate when every answer is judged against every *other* prompt's truth: what ignoring the prompt would score.

    The interval draws prompts again, together with their answers; a prompt never meets its own picture, nor a copy of
    its own truth by being drawn twice.
    """
    count = len(answers)
    if count < 2:
        raise ValueError(f"nothing to shuffle among {count} prompts: at least two are needed")
    hits = np.array([[judge(answer, truth) for truth in truths] for answer in answers], np.float64)
    others = 1.0 - np.eye(count)
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=samples).astype(np.float64)
    right, pairs = ((times @ (hits * others)) * times).sum(1), ((times @ others) * times).sum(1)
    rates = right[pairs > 0] / pairs[pairs > 0]
    low, high = np.quantile(rates, [0.025, 0.975])
    return Rate(float((hits * others).sum() / others.sum()), float(low), float(high), count)
