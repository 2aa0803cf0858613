"""Kill a training with SIGKILL at random moments, resume it each time, and compare its end with an uninterrupted run's.

    python -m scripts.faults.kills --count 20

Every second kill waits for a save to begin and comes within it. Exit code 0 when parameters, moving average, moments,
counters and the position in the data are equal, byte for byte.
"""

import random
import shutil
import sys
import time

from scripts.faults.trainings import (
    Training,
    differing_arrays,
    kill_group,
    last_begun_step,
    parse_options,
    report_cases,
    wait_until,
)

FLAGS = (
    "--config.train.steps=2000",
    "--config.train.save_every=20",
    "--config.train.log_every=20",
    "--config.train.warmup=5",
)


def main() -> int:
    """Run both trainings and compare."""
    arguments = parse_options(__doc__, count=20, seed=0, config="configs/tiny.py:vae")
    whole, killed = (Training(arguments.config, arguments.workdir / name, FLAGS) for name in ("whole", "killed"))
    began = time.monotonic()
    if whole.finish():
        sys.exit(f"the control failed: see {whole.workdir / 'log'}")
    duration, draw, rows = time.monotonic() - began, random.Random(arguments.seed), []
    for number in range(arguments.count):
        rows.append(kill_once(killed, number, duration / arguments.count, draw))
    code = killed.finish()
    count, different = differing_arrays(whole.checkpoints, killed.checkpoints)
    inside = sum("a save" in row["killed in"] for row in rows)
    print(f"{len(rows)} kills, {inside} of them within a save; the control took {duration:.0f} s")
    rows.append(
        {"kill": "end", "killed in": f"exit code {code}", "at step": last_begun_step(killed.checkpoints)}
        | {"good": not different and code == 0 and count > 10}
    )
    print(f"{count} arrays compared, {len(different)} differ {different[:5]}")
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("kills", rows, arguments.json)


def kill_once(training: Training, number: int, share: float, draw: random.Random) -> dict:
    """Start the training and kill it: some time after its first new save began, or within one."""
    before, process = last_begun_step(training.checkpoints), training.start()
    moved = wait_until(lambda: process.poll() is not None or last_begun_step(training.checkpoints) > before)
    time.sleep(draw.uniform(0.0, 0.02) if number % 2 else draw.uniform(0.0, share))
    running = process.poll() is None
    kill_group(process)
    step = last_begun_step(training.checkpoints)
    unfinished = (training.checkpoints / f"{step:08d}").exists() and not (
        training.checkpoints / f"{step:08d}" / "manifest.json"
    ).exists()
    where = "a save" if unfinished else "between saves"
    return {"kill": number + 1, "killed in": where, "at step": step, "good": moved and running}


if __name__ == "__main__":
    sys.exit(main())
