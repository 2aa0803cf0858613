"""The warm-up: how long a batch of each size takes, and which sizes fit into the device, before anybody asks."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import NamedTuple

__all__ = ["TimedSize", "time_sizes"]

LOGGER = logging.getLogger("dalle3_jax.serving")


class TimedSize(NamedTuple):
    """A size of batches, and the seconds of its first batch, with compilation, and of its second one, without."""

    size: int
    first_seconds: float
    seconds: float


async def time_sizes(make_batch: Callable[[int], Awaitable[object]], sizes: Sequence[int]) -> AsyncIterator[TimedSize]:
    """Makes two batches of each size, in rising order, up to one that cannot be made: it and larger ones are left out.

    What keeps the smallest from being made is raised.
    """
    for size in sizes:
        try:
            timed = TimedSize(size, await time_batch(make_batch, size), await time_batch(make_batch, size))
        except Exception as error:
            if size == sizes[0]:
                raise
            LOGGER.error("batches of %d images and more cannot be made", size, exc_info=error)
            return
        yield timed


async def time_batch(make_batch: Callable[[int], Awaitable[object]], size: int) -> float:
    """Seconds in which a batch of this size is made."""
    started = time.monotonic()
    await make_batch(size)
    return time.monotonic() - started
