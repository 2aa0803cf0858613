"""Fill the disk while a checkpoint is saved: the one before it stays good, and the error is said by the next save.

    python -m scripts.faults.disk

The workdir is a small file system in memory (needs root), filled by a neighbour's file until nothing more fits: before
a save begins (its own files cannot be made) and while it writes in the background. The control has room. Exit code 0
when the failing runs end with code 1 and name the disk, and a restart with room goes on from the checkpoint before.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from dalle3_jax.checkpoints.training import finished_steps, verify_step
from scripts.faults.trainings import Training, kill_group, last_begun_step, parse_options, report_cases, wait_until

FLAGS = ("--config.train.steps=4000", "--config.train.save_every=200", "--config.train.log_every=100")
SIZE = 24 * 2**20


def main() -> int:
    """Every case on a file system of its own."""
    arguments = parse_options(__doc__)
    names = ("control", "before a save", "in a save")
    rows = [disk_case(arguments.workdir / name.replace(" ", "-"), name) for name in names]
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("disk full", rows, arguments.json)


def disk_case(folder: Path, name: str) -> dict:
    """Train on a small file system, fill it, and restart when there is room again."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", folder], check=True)
    try:
        training, filler = Training("configs/tiny.py:vae", folder, FLAGS), folder / "neighbour"
        process = training.start()
        wait_until(lambda: len(finished_steps(training.checkpoints)) >= 1)
        if name == "control":
            wait_until(lambda: len(finished_steps(training.checkpoints)) >= 2)
            kill_group(process)
            found = finished_steps(training.checkpoints)
            good = all(not verify_step(training.checkpoints / f"{step:08d}") for step in found)
            return {"case": name, "exit code": "-", "said": "", "good checkpoints": found, "good": good}
        if name == "in a save":
            before = last_begun_step(training.checkpoints)
            wait_until(lambda: last_begun_step(training.checkpoints) > before)
        fill_disk(filler)
        code = process.wait(120)
        said = [line for line in training.log().splitlines() if "No space left" in line or "RESOURCE_EXHAUSTED" in line]
        left = [
            step
            for step in finished_steps(training.checkpoints)
            if not verify_step(training.checkpoints / f"{step:08d}")
        ]
        filler.unlink()
        process = training.start()
        on = wait_until(lambda: last_begun_step(training.checkpoints) > max(left, default=0), 60)
        time.sleep(0.5)
        kill_group(process)
        row = {"case": name, "exit code": code, "said": (said or [""])[-1][-70:], "good checkpoints": left}
        return row | {"good": code == 1 and bool(said) and bool(left) and on}
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill_disk(path: Path) -> None:
    """Write until the file system is full."""
    with path.open("wb", buffering=0) as file:
        for block in (2**16, 2**12, 2**8, 1):
            while True:
                try:
                    if not file.write(bytes(block)):
                        break
                except OSError:
                    break


if __name__ == "__main__":
    sys.exit(main())
