"""A watch over the steps of a run: one that never ends, ends the run.

A process whose peer has died is told so by jax. One whose peer is alive but stuck, or whose disk or data never answers,
would wait for ever, and every other host with it.
"""

import contextlib
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from dalle3_jax.runtime.exit_codes import EXIT_HUNG

__all__ = ["Watchdog"]


class Watchdog:
    """Ends the process with a message and the stacks of all threads when `beat` is not called for `seconds`.

    It counts from the first beat, so what is set up before is not timed. Time in `pause` does not count, and neither
    does time in which the process itself was stopped.
    """

    def __init__(
        self,
        seconds: float,
        who: str = "this process",
        end: Callable[[int], object] = os._exit,
        file: TextIO | None = None,
    ):
        """Watches nothing where `seconds` is 0; `end` takes the exit code, `file` the message (stderr by default)."""
        self._seconds, self._who, self._end = seconds, who, end
        self._file = sys.__stderr__ if file is None else file
        self._tick = min(1.0, seconds / 10)
        self._idle, self._step = 0.0, 0
        self._watching, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        if seconds > 0:
            self._thread.start()

    def beat(self, step: int) -> None:
        """The step has finished."""
        self._idle, self._step = 0.0, step
        self._watching.set()

    @contextlib.contextmanager
    def pause(self) -> Iterator[None]:
        """For what takes its time: compiling, drawing, saving. The count begins anew afterwards."""
        watching = self._watching.is_set()
        self._watching.clear()
        try:
            yield
        finally:
            self._idle = 0.0
            if watching:
                self._watching.set()

    def close(self) -> None:
        """Watch no more."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(self._tick):
            now = time.monotonic()
            # A gap between ticks is time in which this process was stopped: no fault of the step's.
            elapsed, before = min(now - before, 2 * self._tick), now
            if not self._watching.is_set():
                continue
            self._idle += elapsed
            if self._idle > self._seconds:
                return self._give_up()

    def _give_up(self) -> None:
        print(  # on a line of its own, below the bar
            f"\nerror: {self._who} has finished no step since step {self._step}, for {self._seconds:g} s "
            "(train.hang_minutes): it, its data or another process hangs. The stacks of its threads follow; "
            "the same command goes on from the last checkpoint",
            file=self._file,
            flush=True,
        )
        faulthandler.dump_traceback(self._file or sys.stderr, all_threads=True)
        self._end(EXIT_HUNG)
