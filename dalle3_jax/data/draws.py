"""Named random draws: each is a hash of its key, so that it depends on nothing drawn before or after it.

Hashes stay the same for ever, where the streams of a random generator may change from one release of a library to the
next; and a draw that a later world adds leaves all the others as they were. A draw costs about two microseconds.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Any, TypeVar

T = TypeVar("T")


def uniform(*key: Any) -> float:
    """A number in [0, 1) that only `key` (integers and strings) decides."""
    digest = blake2b(repr(key).encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def choose(options: Sequence[T], *key: Any) -> T:
    """One of `options`, all equally likely."""
    return options[int(uniform(*key) * len(options))]


def weighted_choice(options: Sequence[T], weights: Sequence[float], *key: Any) -> T:
    """One of `options` in proportion to `weights`."""
    totals = list(accumulate(weights))
    point = uniform(*key) * totals[-1]
    return next((option for option, total in zip(options, totals, strict=True) if point < total), options[-1])
