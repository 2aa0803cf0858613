"""Records that cannot be used: counted by reason as they are met, up to a share that stops the run."""

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

from dalle3_jax.data.records import BadRecord

__all__ = ["BadRecordCounter", "describe_bad"]

FIRST = 1000
"""Records from which on their share is taken as it is; of fewer, a share that chance may explain is let pass."""

CHANCE = 5e-5
"""How probable as many bad records or more must be, were `max_bad` of all records bad, for chance to explain them."""

NAMED = 3
"""Records of each reason that are named."""


class BadRecordCounter:
    """A counter of the bad records that a process met. Threads write in it; the training reads it between batches."""

    def __init__(self, max_bad: float, records: int | None = None) -> None:
        """`max_bad` is the share of bad records above which `check_share` raises; `records` is how many there are."""
        self._most, self._records, self._lock = max_bad, math.inf if records is None else records, threading.Lock()
        self._read, self._seen = 0, set[int]()
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[BadRecord]] = {}

    def count_good(self) -> None:
        """One more row was read."""
        with self._lock:
            self._read += 1

    def count_bad(self, index: int, error: BadRecord) -> None:
        """The record at `index` is bad; met again, it is not counted again."""
        with self._lock:
            if index not in self._seen:
                self._seen.add(index)
                self._counts[error.reason] += 1
                if len(first := self._first.setdefault(error.reason, [])) < NAMED:
                    first.append(error)

    @property
    def counts(self) -> Mapping[str, int]:
        """Bad records by reason."""
        with self._lock:
            return dict(self._counts)

    def describe(self) -> str:
        """The numbers of bad records by reason, the first of each named; empty where none is."""
        with self._lock:
            return describe_bad(self._counts, {name: [e.key for e in first] for name, first in self._first.items()})

    def check_share(self) -> None:
        """ValueError where too many of the records read were bad: their number by reason, an example of each.

        Judged from the first record on: a share that `max_bad` would rarely bring about by chance stops at once.
        """
        with self._lock:
            bad = self._counts.total()
            rows = int(min(self._read + bad, self._records))  # of a small source the same ones come again
            if bad <= self._most * rows or (rows < FIRST and chance_of(bad, rows, self._most) >= CHANCE):
                return
            counts = dict(self._counts)
            examples = {reason: f"such as {first[0]}" for reason, first in self._first.items()}
        listed = "; ".join(f"{n} {reason} ({examples[reason]})" for reason, n in counts.items())
        raise ValueError(
            f"{bad} of the first {rows} records cannot be used, more than data.max_bad={self._most:g} allows: "
            f"{listed}. Repair the data, or raise data.max_bad"
        )


def chance_of(bad: int, rows: int, share: float) -> float:
    """The probability of `bad` bad records or more among `rows`, where a share of all of them is bad."""
    return 1 - math.fsum(math.comb(rows, n) * share**n * (1 - share) ** (rows - n) for n in range(bad))


def describe_bad(counts: Mapping[str, int], keys: Mapping[str, Iterable[str]]) -> str:
    """Numbers of bad records by reason in one line, with the keys of some of them; empty where there are none."""
    parts = []
    for reason, count in sorted(counts.items()):
        named = ", ".join(map(repr, keys.get(reason, ())))
        parts.append(f"{count} {reason}" + (f" ({'such as ' if count > NAMED else ''}{named})" if named else ""))
    return ", ".join(parts)
