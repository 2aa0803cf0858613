"""Trainings as processes of their own, and what they leave behind."""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[2]
LIMIT = 300.0
"""Seconds after which a training counts as hung, and is killed."""


@dataclass(frozen=True)
class Training:
    """`python train.py` on a config in a workdir, on so many virtual devices, with further flags."""

    config: str
    workdir: Path
    flags: tuple[str, ...] = ()
    devices: int = 1
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return self.workdir / self.config.split(":")[1]

    @property
    def checkpoints(self) -> Path:
        """Where its steps are saved."""
        return self.folder / "checkpoints"

    def start(self) -> subprocess.Popen:
        """The training in a process group of its own, its output in WORKDIR/log."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, str(ROOT / "train.py"), f"--config={self.config}", f"--workdir={self.workdir}"]
        machine = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(self.devices)}
        surroundings = {**os.environ, **machine, **self.environment}
        with (self.workdir / "log").open("a") as log:
            return subprocess.Popen(
                [*words, *self.flags], cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=surroundings
            )

    def finish(self) -> int:
        """Run it to its end; its exit code."""
        process = self.start()
        try:
            return process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            kill_group(process)
            raise

    def log(self) -> str:
        """All that it printed."""
        return (self.workdir / "log").read_text()

    def metrics(self) -> dict[int, dict[str, Any]]:
        """What it logged, by step."""
        rows = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        return {row["step"]: row for row in rows}


def kill_group(process: subprocess.Popen) -> None:
    """SIGKILL to the process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_begun_step(checkpoints: Path) -> int:
    """The last step that was begun to be saved; 0 before the first."""
    return max((int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()), default=0)


def saved_arrays(step: Path) -> dict[str, np.ndarray]:
    """All leaves of a saved state by name, and how far the data was read."""
    with ocp.StandardCheckpointer() as checkpointer:
        state = checkpointer.restore(step / "state")
    position = json.dumps(json.loads((step / "data.json").read_text()), sort_keys=True)
    named = {"data": np.frombuffer(position.encode(), np.uint8)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        named[jax.tree_util.keystr(path)] = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    return named


def differing_arrays(one: Path, other: Path) -> tuple[int, list[str]]:
    """How many arrays the newest step holds, and the names of those that are not the same bytes in both folders."""
    first, second = (saved_arrays(path / f"{last_begun_step(path):08d}") for path in (one, other))
    different = sorted(first.keys() ^ second.keys())
    different += [name for name in first.keys() & second.keys() if first[name].tobytes() != second[name].tobytes()]
    return len(first), different


def report_cases(what: str, rows: Sequence[dict[str, Any]], json_file: str | None) -> int:
    """Print a table of cases, each with `good`; write them as JSON; the exit code."""
    titles = list(rows[0])
    texts = [[str(row[title]) for title in titles] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *texts, strict=True)]
    for line in [titles, ["-" * width for width in widths], *texts]:
        print("| " + " | ".join(map(str.ljust, line, widths)) + " |")
    bad = [row for row in rows if not row["good"]]
    print(f"{what}: {len(rows) - len(bad)} of {len(rows)} as promised")
    if json_file:
        Path(json_file).write_text(json.dumps(rows, indent=1) + "\n")
    return 1 if bad else 0


def parse_options(description: str | None, **options: Any) -> argparse.Namespace:
    """The options that all experiments have, and those given as name=default."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, help="a temporary folder by default")
    parser.add_argument("--json", metavar="FILE", help="write the cases here")
    for name, default in options.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    arguments = parser.parse_args()
    arguments.workdir = arguments.workdir or Path(tempfile.mkdtemp())
    return arguments


def wait_until(condition: Any, seconds: float = LIMIT) -> bool:
    """Whether the condition became true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True
