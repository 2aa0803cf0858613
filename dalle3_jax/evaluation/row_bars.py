"""A bar of a loop over pictures, on a terminal or nowhere."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tqdm import tqdm

__all__ = ["Bar", "hide_progress", "show_progress"]

Bar = Callable[[Sequence[Any], str], Iterable[Any]]
"""Shows how far a loop over rows has come: (rows, what is being done) -> the rows."""

FEWEST = 8  # rows that are worth a bar


def hide_progress(rows: Sequence[Any], text: str) -> Iterable[Any]:
    """The rows, and nothing to be seen."""
    return rows


def show_progress(rows: Sequence[Any], text: str) -> Iterable[Any]:
    """The rows under a bar, where there are more than a few."""
    if len(rows) <= FEWEST:
        return rows
    return tqdm(rows, desc=text, unit="row", dynamic_ncols=True, leave=False)
