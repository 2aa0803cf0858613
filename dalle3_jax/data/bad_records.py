"""Records that cannot be used: counted by reason as they are met, up to a share that stops the run."""

import threading
from collections import Counter
from collections.abc import Mapping

from dalle3_jax.data.records import BadRecord

__all__ = ["BadRecordCounter"]

FIRST = 1000
"""Rows read before a share is judged."""
HOPELESS = 100
"""Bad records at the very beginning, with no good one among them, that stop a run."""


class BadRecordCounter:
    """What a process has met of bad records. Threads write in it; the training reads it between batches."""

    def __init__(self, max_bad: float) -> None:
        """`max_bad` is the share of bad records above which `check_share` raises."""
        self._most, self._lock = max_bad, threading.Lock()
        self._read, self._seen = 0, set[int]()
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, BadRecord] = {}

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
                self._examples.setdefault(error.reason, error)

    @property
    def counts(self) -> Mapping[str, int]:
        """Bad records by reason."""
        with self._lock:
            return dict(self._counts)

    def check_share(self) -> None:
        """ValueError where too many of the records read were bad: their number by reason, an example of each."""
        with self._lock:
            bad, rows = self._counts.total(), self._read + self._counts.total()
            judged = rows >= FIRST or (self._read == 0 and bad >= HOPELESS)
            if not judged or bad <= self._most * rows:
                return
            examples = {reason: f"such as {self._examples[reason]}" for reason in self._counts}
            listed = "; ".join(f"{n} {reason} ({examples[reason]})" for reason, n in self._counts.items())
        raise ValueError(
            f"{bad} of the first {rows} records cannot be used, more than data.max_bad={self._most:g} allows: "
            f"{listed}. Repair the data, or raise data.max_bad"
        )
