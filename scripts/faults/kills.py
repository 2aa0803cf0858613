"""Kill a training with SIGKILL at random moments, resume it each time, and compare its end with an uninterrupted run's.

    python scripts/kill_and_resume.py --config configs/tiny.py:vae --kills 5
    python scripts/kill_and_resume.py --config configs/tiny.py:base --init configs/tiny.py:vae --kills 5

Exit code 0 when every array of the state and the position in the data are equal, bit for bit.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

ROOT = Path(__file__).parents[1]


class Command(NamedTuple):
    """A training to run."""

    config: str
    workdir: Path
    overrides: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> Path:
        """Where its steps are saved."""
        return self.workdir / self.config.split(":")[1] / "checkpoints"


def main() -> int:
    """Run both trainings and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/tiny.py:vae")
    parser.add_argument("--init", help="a stage to train first, whose release the config begins from")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workdir", type=Path, help="a temporary folder by default")
    arguments, overrides = parser.parse_known_args()
    folder = arguments.workdir or Path(tempfile.mkdtemp())
    whole, killed = (Command(arguments.config, folder / name, tuple(overrides)) for name in ("whole", "killed"))
    if arguments.init:
        finish(Command(arguments.init, folder / "whole"))
        shutil.copytree(folder / "whole", folder / "killed")
    duration = finish(whole)
    print(f"uninterrupted: {duration:.1f} s from the first save to the end", flush=True)
    kills = kill_at_random(killed, duration, arguments.kills, random.Random(arguments.seed))
    finish(killed)
    count, different = compare(whole.checkpoints, killed.checkpoints)
    print(f"{kills} kills, {count} arrays compared, {len(different)} differ {different[:5]}")
    return 1 if different or kills < arguments.kills else 0


def kill_at_random(command: Command, duration: float, kills: int, draw: random.Random) -> int:
    """Start the training again and again and kill it; returns the kills.

    The first comes some time after the start, perhaps before any step; the others after a first save has begun.
    """
    for kill in range(kills):
        before, process = newest(command.checkpoints), start(command)
        while kill and process.poll() is None and newest(command.checkpoints) == before:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, duration / kills))
        if process.poll() is not None:
            print(f"the training ended before kill {kill + 1}: give it more steps", flush=True)
            return kill
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        unfinished = [path.name for path in command.checkpoints.glob("*") if not (path / "manifest.json").exists()]
        print(f"kill {kill + 1}: last save begun {newest(command.checkpoints)}, unfinished {unfinished}", flush=True)
    return kills


def newest(checkpoints: Path) -> int:
    """The last step that was begun to be saved."""
    return max((int(path.name) for path in checkpoints.glob("*") if path.name.isdigit()), default=0)


def start(command: Command) -> subprocess.Popen:
    """The training in a process group of its own, its output in WORKDIR/log."""
    command.workdir.mkdir(parents=True, exist_ok=True)
    words = ["--config", command.config, "--workdir", str(command.workdir), *command.overrides]
    with (command.workdir / "log").open("a") as log:
        words = [sys.executable, str(ROOT / "train.py"), *words]
        return subprocess.Popen(words, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)


def finish(command: Command) -> float:
    """Run a training that must end well; returns the seconds from its first save to its end."""
    process, first_save = start(command), None
    while process.poll() is None:
        time.sleep(0.05)
        if first_save is None and newest(command.checkpoints):
            first_save = time.monotonic()
    if process.returncode:
        sys.exit(f"the training failed with exit code {process.returncode}: see {command.workdir / 'log'}")
    return time.monotonic() - (first_save or time.monotonic())


def compare(whole: Path, killed: Path) -> tuple[int, list[str]]:
    """The number of arrays in the newest checkpoint, and the names of those that differ; the data's position is one."""
    one, other = (arrays(path / f"{newest(path):08d}") for path in (whole, killed))
    different = sorted(one.keys() ^ other.keys())
    different += [name for name in one.keys() & other.keys() if one[name].tobytes() != other[name].tobytes()]
    return len(one), different


def arrays(step: Path) -> dict[str, np.ndarray]:
    """All leaves of a saved state by name, and where the data iterator stood."""
    state = ocp.StandardCheckpointer().restore(step / "state")
    position = json.dumps(json.loads((step / "data-0.json").read_text()), sort_keys=True)
    named = {"data": np.frombuffer(position.encode(), np.uint8)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        named[jax.tree_util.keystr(path)] = np.asarray(jax.random.key_data(leaf) if is_key else leaf)
    return named


if __name__ == "__main__":
    sys.exit(main())
