"""Stopping in good order: SIGTERM and SIGINT ask, the loop answers at the end of a step."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

__all__ = ["stop_requests"]


@contextmanager
def stop_requests() -> Iterator[Callable[[int], bool]]:
    """Yields (step) -> whether to save and stop after it. A second SIGINT interrupts at once.

    Between several processes `jax.distributed` watches for SIGTERM on any of them and stops all after the same step,
    which is the next one that none has passed yet; a SIGINT is handed to it as a SIGTERM.
    """
    requested = threading.Event()
    several = jax.process_count() > 1

    def handle(number: int, frame: FrameType | None) -> None:
        if requested.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        requested.set()
        if several:
            os.kill(os.getpid(), signal.SIGTERM)

    def stop(step: int) -> bool:
        return multihost_utils.reached_preemption_sync_point(step) if several else requested.is_set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    numbers = (signal.SIGINT,) if several else (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
