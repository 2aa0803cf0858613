"""Rates with bootstrap intervals over prompts and seeds, differences of systems, and what shuffled prompts score."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

Hits = Bool[np.ndarray, "prompts *seeds"] | Float[np.ndarray, "prompts *seeds"]
"""Whether each picture is right, or how right it is in [0, 1]: a row per prompt, a column per seed; 1-D is one seed."""


class Rate(NamedTuple):
    """A share of prompts in [0, 1] with the bounds of its confidence interval and the number of prompts behind it."""

    value: float
    low: float
    high: float
    prompts: int


class Difference(NamedTuple):
    """The first system's mean less the second's, with the bounds of its interval and the number of prompts."""

    value: float
    low: float
    high: float
    prompts: int


def bootstrap(hits: Hits, *, seed: int = 0, samples: int = 2000, level: float = 0.95) -> Rate:
    """The mean of `hits` with its percentile bootstrap interval: prompts are drawn again, each with all its seeds.

    When every prompt is right, or every one wrong, the interval has no width: the sample holds no sign of the
    opposite. Up to 3 / count of the prompts may still be of the other sort (95 %). Prompts for which a check means
    nothing are for the caller to leave out: ValueError for NaN.
    """
    means = _hit_table(hits).mean(1)
    draws = np.random.default_rng(seed).integers(len(means), size=(samples, len(means)))
    low, high = np.quantile(means[draws].mean(1), [(1 - level) / 2, (1 + level) / 2])
    return Rate(float(means.mean()), float(low), float(high), len(means))


def pooled_rate(groups: Sequence[Sequence[float]], *, seed: int = 0, samples: int = 2000, level: float = 0.95) -> Rate:
    """The mean of all values together, with its percentile bootstrap interval: groups are drawn again, as wholes.

    A group is what hangs together, as the atoms of a prompt: larger ones weigh more. ValueError where a group is empty.
    """
    sums = np.array([float(np.sum(group)) for group in groups])
    sizes = np.array([len(group) for group in groups])
    if not len(groups) or not sizes.all():
        raise ValueError(f"{len(groups)} groups of {sizes.tolist()} values: at least one, and none of them empty")
    draws = np.random.default_rng(seed).integers(len(groups), size=(samples, len(groups)))
    means = sums[draws].sum(1) / sizes[draws].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Rate(float(sums.sum() / sizes.sum()), float(low), float(high), len(groups))


def paired_difference(a: Hits, b: Hits, *, seed: int = 0, samples: int = 2000, level: float = 0.95) -> Difference:
    """The mean of a - b for two systems on the same prompts and seeds, with its percentile bootstrap interval.

    Prompts are drawn again for both at once, with all their seeds: what makes a prompt hard for both cancels.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"results of shapes {np.shape(a)} and {np.shape(b)}: pairs need the same prompts and seeds")
    gaps = (_hit_table(a) - _hit_table(b)).mean(1)
    return Difference(*bootstrap(gaps, seed=seed, samples=samples, level=level))


def _hit_table(hits: Hits) -> Float[np.ndarray, "prompts seeds"]:
    """Prompts by seeds in float64; ValueError for nothing to average and for what is no number."""
    table = np.asarray(hits, np.float64)
    if table.ndim not in (1, 2):
        raise ValueError(f"results of shape {table.shape}: a row per prompt and a column per seed are needed")
    if not table.size:
        raise ValueError(f"no prompts to average over in shape {table.shape}: a rate needs at least one")
    if unknown := int((~np.isfinite(table)).sum()):
        raise ValueError(f"{unknown} of {table.size} results are no numbers: leave out prompts that a check is not for")
    return table.reshape(len(table), -1)


def shuffled_rate(
    judge: Callable[[Any, Any], float], answers: Sequence, truths: Sequence, *, seed: int = 0, samples: int = 2000
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
