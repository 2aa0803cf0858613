"""The bar and the metrics of a run, read one step behind the device so that it never waits for the host."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from dalle3_jax.training.logging import MetricsWriter

__all__ = ["Progress"]

COUNTERS = ("skipped", "skipped_in_a_row")


class Progress:
    """Shows and writes means over `log_every` steps; stops a run whose gradients stay non-finite."""

    def __init__(
        self,
        writer: MetricsWriter,
        schedule: Callable[[int], Any],
        *,
        first: int,
        steps: int,
        batch_size: int,
        log_every: int,
        max_skipped: int,
        data: Any = None,
    ):
        """`first` steps are already taken; `schedule` gives the learning rate after so many updates.

        `data` has `waited`, seconds that the loop waited for batches, and `bad`, records left out by reason.
        """
        self._data, self._waited = data, 0.0
        self._writer, self._schedule, self._steps = writer, schedule, steps
        self._batch_size, self._log_every, self._max_skipped = batch_size, log_every, max_skipped
        self._bar = self._new_bar(first, "compiling")
        self._first, self._behind = first, None
        self._window: list[dict[str, float]] = []
        self._mark = (first, time.monotonic())

    def update(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Take the metrics of a step that the device may still be computing; read those of the step before."""
        behind, self._behind = self._behind, (step, metrics)
        if behind is not None:
            self._read(*behind)

    def flush(self) -> None:
        """Read the last step too."""
        behind, self._behind = self._behind, None
        if behind is not None:
            self._read(*behind)

    def close(self) -> None:
        """End the bar and the files."""
        self._bar.close()
        self._writer.close()

    def _read(self, step: int, metrics: Mapping[str, Any]) -> None:
        values = {name: float(value) for name, value in jax.device_get(dict(metrics)).items()}
        if values["skipped_in_a_row"] >= self._max_skipped:
            raise FloatingPointError(
                f"the last {self._max_skipped} steps up to {step} had gradients that are not finite and were skipped: "
                "lower train.learning_rate or train.clip, or compute in float32, and run again from the last checkpoint"
            )
        self._window.append(values)
        if step == self._first + 1:  # it held the compilation: speed and time left begin here
            self._bar.close()
            self._bar = self._new_bar(step, "training")
            self._mark = (step, time.monotonic())
            self._waited = self._data.waited if self._data is not None else 0.0
        else:
            self._bar.update(1)
        if step % self._log_every == 0:
            self._log(step)

    def _log(self, step: int) -> None:
        good = [values for values in self._window if values["skipped_in_a_row"] == 0] or self._window
        means = {name: float(np.mean([values[name] for values in good])) for name in good[0] if name not in COUNTERS}
        skipped = int(self._window[-1]["skipped"])
        rate = float(self._schedule(step - skipped))
        images = (step - self._mark[0]) * self._batch_size
        elapsed = max(time.monotonic() - self._mark[1], 1e-9)
        speed = images / elapsed
        rates = {"learning_rate": rate, "skipped": skipped, "images_per_second": speed}
        self._writer.write(step, means | rates | self._input_metrics(elapsed))
        self._bar.set_postfix({"loss": f"{means['loss']:.4f}", "images/s": f"{speed:.1f}"}, refresh=False)
        self._window, self._mark = [], (step, time.monotonic())

    def _input_metrics(self, elapsed: float) -> dict[str, float]:
        """The share of the time that the loop waited for batches, and records left out so far, by reason."""
        if self._data is None:
            return {}
        waited, self._waited = self._data.waited - self._waited, self._data.waited
        return {"input_wait": waited / elapsed} | {f"bad_records/{name}": n for name, n in self._data.bad.items()}

    def _new_bar(self, step: int, what: str) -> tqdm:
        return tqdm(
            desc=what,
            initial=step,
            total=self._steps,
            unit="step",
            dynamic_ncols=True,
            leave=what != "compiling",
            disable=jax.process_index() > 0,
        )
