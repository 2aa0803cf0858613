"""Checks of single values of a config, each with the remedy that an error names."""

import math
from collections.abc import Callable
from typing import Any

__all__ = [
    "ABOVE_ZERO",
    "BELOW_ONE",
    "COUNT",
    "NOT_NEGATIVE",
    "SHARE",
    "ValueCheck",
    "integer_from",
    "number_between",
    "one_of",
]

ValueCheck = tuple[Callable[[Any], bool], str]
"""(whether a value suits, what it must be)."""


def number_between(
    least: float = -math.inf, most: float = math.inf, *, open_end: bool = False
) -> Callable[[Any], bool]:
    """Whether it is a number within bounds, the lower one left out where `open_end`."""

    def suits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return least < value <= most if open_end else least <= value <= most

    return suits


def integer_from(least: int) -> Callable[[Any], bool]:
    """Whether it is a whole number of at least `least`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def one_of(*known: Any) -> Callable[[Any], bool]:
    """Whether it is one of these."""
    return lambda value: value in known


ABOVE_ZERO: ValueCheck = (number_between(0.0, open_end=True), "it must be a number above 0")
COUNT: ValueCheck = (integer_from(1), "it must be a whole number of at least 1")
NOT_NEGATIVE: ValueCheck = (number_between(0.0), "it must be a number of at least 0")
SHARE: ValueCheck = (number_between(0.0, 1.0), "it must lie in [0, 1]")
BELOW_ONE: ValueCheck = (lambda value: number_between(0.0)(value) and value < 1, "it must lie in [0, 1), 1 excluded")
