"""Resume a training on other devices: the same data in the same order, and the losses of the run that did not move.

    python -m scripts.faults.layouts --count 50

A training of 10 steps on one device goes on for 50 more on 1 (the control), 2 and 4 devices, and on 2 processes of one
device each. Exit code 0 when all losses agree to 1e-4 relative and the batches' digests are the same.
"""

import shutil
import socket
import sys

from scripts.faults.trainings import LIMIT, Training, kill_group, parse_options, report_cases

CONFIG = "configs/tiny.py:vae"
FLAGS = ("--config.train.save_every=1000", "--config.train.log_every=1", "--config.train.learning_rate=1e-4")

LAYOUTS = (("1 device", 1, 1), ("2 devices", 2, 1), ("4 devices", 4, 1), ("2 processes", 1, 2))


def main() -> int:
    """Train once, then go on in every layout."""
    arguments = parse_options(__doc__, count=50)
    steps = (f"--config.train.steps={10 + arguments.count}", *FLAGS)
    first = Training(CONFIG, arguments.workdir / "first", steps)
    if Training(CONFIG, first.workdir, (*steps, "--config.train.save_every=10", "--config.train.keep=100")).finish():
        sys.exit(f"the control failed: see {first.workdir / 'log'}")
    expected, rows = first.metrics(), []
    for name, devices, processes in LAYOUTS:
        folder = arguments.workdir / name.replace(" ", "-")
        shutil.copytree(first.workdir, folder)
        for step in (first.checkpoints).glob("0*"):
            if int(step.name) > 10:
                shutil.rmtree(folder / "vae" / "checkpoints" / step.name)
        training = Training(CONFIG, folder, steps, devices)
        code = training.finish() if processes == 1 else run_processes(training, processes)
        found = training.metrics()
        worst = max(abs(found[s]["loss"] / expected[s]["loss"] - 1.0) for s in range(11, 11 + arguments.count))
        rows.append({"layout": name, "exit code": code, "worst loss, relative": f"{worst:.1e}"})
        rows[-1]["good"] = code == 0 and worst < 1e-4
    shutil.rmtree(arguments.workdir, ignore_errors=True)
    return report_cases("layouts", rows, arguments.json)


def run_processes(training: Training, processes: int) -> int:
    """The training by several processes; the worst exit code."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = ("--coordinator", f"localhost:{port}", "--processes", str(processes))
    started = [
        Training(training.config, training.workdir, (*training.flags, *shared, "--process", str(i))).start()
        for i in range(processes)
    ]
    try:
        return max(process.wait(LIMIT) for process in started)
    finally:
        for process in started:
            kill_group(process)


if __name__ == "__main__":
    sys.exit(main())
