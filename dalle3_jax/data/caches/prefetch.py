"""Reading ahead: threads make the next results while the last ones are worked on."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["prefetch_map"]

T = TypeVar("T")
R = TypeVar("R")


def prefetch_map(function: Callable[[T], R], items: Iterable[T], threads: int, buffer_size: int) -> Iterator[R]:
    """The function's results for all items, in their order; threads make up to `buffer_size` of them in advance."""
    rest, pool = iter(items), ThreadPoolExecutor(threads)
    try:
        made = deque(pool.submit(function, item) for item in itertools.islice(rest, buffer_size))
        while made:
            result = made.popleft().result()
            made.extend(pool.submit(function, item) for item in itertools.islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
