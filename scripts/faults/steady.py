"""Train 500 steps on two buckets and watch what must not grow: memory, open files, compiled programs.

    python -m scripts.faults.steady --count 500

The control is the same run's own first fifth, in which caches fill. Exit code 0 when from there to the end memory grows
by less than 2 %, open files by none, and every bucket was compiled exactly once.
"""

import os
import shutil
import sys
import time
from pathlib import Path

from scripts.faults.trainings import Training, kill_group, parse_options, report_cases

CONFIG = "configs/tiny.py:vae"
FLAGS = (
    "--config.data.buckets=((32, 32), (32, 64))",
    "--config.train.save_every=1000",
    "--config.train.save_minutes=1000.0",
    "--config.train.log_every=10",
)


def main() -> int:
    """Run it, and read /proc as it runs."""
    arguments = parse_options(__doc__, count=500)
    flags = (*FLAGS, f"--config.train.steps={arguments.count}")
    training = Training(CONFIG, arguments.workdir, flags, environment={"JAX_LOG_COMPILES": "1"})
    process, samples = training.start(), []
    while process.poll() is None:
        if (seen := sample_process(process.pid)) is not None:
            samples.append((last_logged_step(training), *seen))
        time.sleep(0.2)
    kill_group(process)
    fifth = arguments.count // 5
    warm = [row for row in samples if fifth <= row[0] < 2 * fifth]
    # Without the last save and the release, which open files of their own.
    end = [row for row in samples if arguments.count - fifth <= row[0] <= arguments.count - 20]
    # The command's own name for the step; previews and initialisation are other programs.
    compiled = sum("Finished XLA compilation of jit(step)" in line for line in training.log().splitlines())
    rows = [
        growth_case("memory, MiB", [row[1] / 2**20 for row in warm], [row[1] / 2**20 for row in end], 1.02),
        growth_case("open files", [row[2] for row in warm], [row[2] for row in end], 1.0),
        {"what": "programs of the step", "after a fifth": "", "at the end": compiled, "good": compiled == 2},
    ]
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("steady", rows, arguments.json)


def growth_case(what: str, early: list[float], late: list[float], most: float) -> dict:
    """The largest value early and late."""
    first, last = max(early, default=0.0), max(late, default=float("inf"))
    return {"what": what, "after a fifth": f"{first:.0f}", "at the end": f"{last:.0f}", "good": last <= most * first}


def sample_process(pid: int) -> tuple[int, int] | None:
    """Resident bytes and open files of a process; None once it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError, IndexError):
        return None


def last_logged_step(training: Training) -> int:
    """The last step in the metrics."""
    file = training.folder / "metrics.jsonl"
    return max(training.metrics(), default=0) if file.exists() else 0


if __name__ == "__main__":
    sys.exit(main())
