"""Probabilities of the scene reader: every place that may hold an object, with the odds of what it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

__all__ = ["SceneProbabilities", "any_probability", "count_probability", "softmax"]

PerCandidate = Float[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class SceneProbabilities:
    """The candidates of a picture, each there with a probability of its own, and the odds of the background.

    `presence` is the probability that anything is at a candidate; `concepts`, `tints` and `styles` say what it then is,
    a column for each of the names. `centres` are (across, down) in fractions of the frame. Names that a picture's
    reader does not know have the probability 0.
    """

    names: dict[str, tuple[str, ...]]
    presence: PerCandidate
    centres: Float[np.ndarray, "n 2"]
    concepts: Float[np.ndarray, "n k"]
    tints: Float[np.ndarray, "n t"]
    styles: Float[np.ndarray, "n s"]
    backgrounds: Float[np.ndarray, " g"]

    def candidates(self, concept: str, tint: str | None = None) -> PerCandidate:
        """The probability of each candidate that it is there and of this concept (and of this tint)."""
        held = self.presence * self._column("concepts", concept)
        return held if tint is None else held * self._column("tints", tint)

    def background(self, name: str) -> float:
        """The probability of a background."""
        names = self.names["backgrounds"]
        return float(self.backgrounds[names.index(name)]) if name in names else 0.0

    def style(self, name: str) -> float:
        """The probability that something is there, and that what is there is of this style."""
        if not len(self.presence):
            return 0.0
        share = float(np.sum(self.presence * self._column("styles", name)) / np.sum(self.presence))
        return any_probability(self.presence) * share

    def _column(self, table: str, name: str) -> PerCandidate:
        names: Sequence[str] = self.names[table]
        columns = getattr(self, table)
        return columns[:, names.index(name)] if name in names else np.zeros(len(columns))


def any_probability(probabilities: PerCandidate) -> float:
    """The probability that at least one of several independent things is there."""
    return float(1.0 - np.prod(1.0 - probabilities))


def count_probability(probabilities: PerCandidate, count: int, *, more: bool = False) -> float:
    """The probability that just `count` of several independent things are there, or with `more` at least so many.

    That is the Poisson binomial distribution.
    """
    chances = np.ones(1)
    for p in probabilities:
        chances = np.append(chances * (1.0 - p), 0.0) + np.append(0.0, chances * p)
    return float(chances[count:].sum() if more else chances[count : count + 1].sum())


def softmax(logits: Float[np.ndarray, "*rows k"]) -> Float[np.ndarray, "*rows k"]:
    """Probabilities along the last axis."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)
