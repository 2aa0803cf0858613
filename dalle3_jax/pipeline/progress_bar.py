"""A bar over the steps of sampling, on terminals."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

__all__ = ["progress_bar"]


@contextlib.contextmanager
def progress_bar() -> Iterator[tuple[tqdm, Callable[[int, int, Any], None]]]:
    """A bar over the sampler's steps (on terminals only) and the callback that moves it."""
    with tqdm(unit="step", desc="sampling", disable=None) as bar:

        def progress(done: int, total: int, _: Any) -> None:
            bar.total = total
            bar.update(done - bar.n)

        # Always given: with and without a terminal the same programs run, and the compilation cache has them.
        yield bar, progress
