"""Two processes as one run on this machine, and what becomes of one when the other is stopped, killed or hangs.

    python -m scripts.faults.hosts [--only alike,terminated] [--json FILE] [--workdir W]

Every fault has its control: the same command without the fault, which must end well. The trainings are of
configs/tiny.py, each process has one CPU device, and gloo joins them. Exit code 0 when everything is as it should be.
"""

import argparse
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from dalle3_jax.runtime.distributed import HEARTBEAT_SECONDS
from dalle3_jax.runtime.exit_codes import EXIT_HUNG, EXIT_PEER, EXIT_SAVED

ROOT = Path(__file__).parents[2]
ENDLESS = ("--config.train.steps=1000000", "--config.train.save_every=20")
HANG_SECONDS = 6
LIMIT = 240
"""Seconds after which a process counts as hung for good, and is killed."""


@dataclasses.dataclass(frozen=True)
class HostsRun:
    """One training: its folder, stage, further arguments, and how many processes of how many devices it has."""

    workdir: Path
    stage: str = "vae"
    more: Sequence[str] = ()
    processes: int = 2
    devices: int = 1

    @property
    def folder(self) -> Path:
        """Where the stage's files are."""
        return self.workdir / self.stage

    def log(self, process: int) -> str:
        """What a process has printed, bars left out."""
        text = (self.workdir / f"log-{self.stage}-{process}").read_text(errors="replace")
        return "\n".join(line for line in re.split("[\r\n]+", text) if line.strip() and "step/s" not in line)

    def start(self) -> list[subprocess.Popen]:
        """All processes, each in a group of its own."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        port = free_port()
        return [self._process(index, port) for index in range(self.processes)]

    def _process(self, index: int, port: int) -> subprocess.Popen:
        words = [sys.executable, str(ROOT / "train.py"), "--config", str(ROOT / f"configs/tiny.py:{self.stage}")]
        words += ["--workdir", str(self.workdir), *self.more]
        if self.processes > 1:
            words += [f"--coordinator=localhost:{port}", f"--processes={self.processes}", f"--process={index}"]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(self.devices)}
        with (self.workdir / f"log-{self.stage}-{index}").open("wb") as log:
            return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True)


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def wait_or_kill(process: subprocess.Popen, seconds: float = LIMIT) -> int | None:
    """The exit code, or None for a process that had to be killed after so long."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        kill_process(process)


def kill_process(process: subprocess.Popen) -> None:
    """End a process and all it started; one that has ended is left alone."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_saved(run: HostsRun, processes: Sequence[subprocess.Popen], seconds: float = LIMIT) -> None:
    """Until the first checkpoint is whole; RuntimeError where a process ends before it, or it takes too long."""
    end = time.monotonic() + seconds
    while not list(run.folder.glob("checkpoints/*/manifest.json")):
        gone = [index for index, process in enumerate(processes) if process.poll() is not None]
        if gone or time.monotonic() > end:
            for process in processes:
                kill_process(process)
            raise RuntimeError(f"no checkpoint; process {gone[:1]} said: {run.log(gone[0] if gone else 0)[-2000:]}")
        time.sleep(0.05)


def interrupt_run(run: HostsRun, number: int, target: int) -> dict[str, Any]:
    """Starts the run, sends one process a signal after its first save, and says how all of them end."""
    processes = run.start()
    wait_until_saved(run, processes)
    began = time.monotonic()
    os.kill(processes[target].pid, number)
    other = processes[1 - target]
    code = wait_or_kill(other)
    seconds = time.monotonic() - began
    signalled = wait_or_kill(processes[target], 0 if number == signal.SIGSTOP else 60)
    logs = [run.log(0), run.log(1)]
    return {"seconds": round(seconds, 1), "codes": {"other": code, "signalled": signalled}, "logs": logs}


def compare_layouts(folder: Path, stage: str) -> dict[str, Any]:
    """Two processes of one device, and one of two: the last checkpoint's arrays, the losses, samples and release."""
    more = ("--config.sample.every=6", *(("--config.mesh.data=1", "--config.mesh.fsdp=2") if stage == "base" else ()))
    runs = [HostsRun(folder / "two", stage, more), HostsRun(folder / "one", stage, more, processes=1, devices=2)]
    processes = [process for run in runs for process in run.start()]
    codes = [wait_or_kill(process) for process in processes]
    if any(codes):
        return {"ok": False, "seen": f"exit codes {codes}: {runs[0].log(0)[-500:]}"}
    one, two = (newest_arrays(run) for run in runs)
    different = sorted(one.keys() ^ two.keys())
    different += [name for name in one.keys() & two.keys() if one[name].tobytes() != two[name].tobytes()]
    lines = [(run.folder / "metrics.jsonl").read_text().splitlines() for run in runs]
    losses = [[json.loads(line)["loss"] for line in of_run] for of_run in lines]
    made = [{path.name: path.read_bytes() for path in run_products(run)} for run in runs]
    different += [f"losses {losses}"] * (losses[0] != losses[1])
    different += [name for name in made[0].keys() | made[1].keys() if made[0].get(name) != made[1].get(name)]
    counts = f"{len(one)} arrays, {len(losses[0])} losses, {len(made[0])} pictures and files of weights"
    return {"ok": not different, "seen": f"{counts}: {len(different)} differ {different[:3]}"}


def run_products(run: HostsRun) -> list[Path]:
    """The pictures and the released weights that the first host made alone."""
    return [*run.folder.glob("samples/*.png"), *run.folder.glob("release/*.safetensors")]


def newest_arrays(run: HostsRun) -> dict[str, np.ndarray]:
    """The newest checkpoint's state by name, whatever devices wrote it."""
    newest = max(run.folder.glob("checkpoints/*/manifest.json")).parent / "state"
    reader = ocp.PyTreeCheckpointer()
    tree: Any = reader.metadata(newest).item_metadata
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree.tree)
    state = reader.restore(newest, restore_args=as_numpy)
    return {
        jax.tree_util.keystr(path): np.asarray(
            jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
        )
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def run_control(folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """The same command with a last step and no fault."""
    run = HostsRun(folder / "control", more=(*more, "--config.train.steps=40", "--config.train.save_every=20"))
    codes = [wait_or_kill(process) for process in run.start()]
    return {"ok": codes == [0, 0], "seen": f"exit codes {codes}"}


def stop_in_order(folder: Path, number: int, target: int) -> dict[str, Any]:
    """A signal that asks to stop: both save the same step and say so."""
    found = interrupt_run(HostsRun(folder / "fault", more=ENDLESS), number, target)
    said = [re.search(r"saved at step (\d+)", log) for log in found["logs"]]
    steps = [int(match[1]) if match else None for match in said]
    on_disk = max(int(path.parent.name) for path in (folder / "fault/vae/checkpoints").glob("*/manifest.json"))
    same = steps == [on_disk] * 2 and set(found["codes"].values()) == {EXIT_SAVED}
    seen = f"exit codes {list(found['codes'].values())}, steps {steps} said and {on_disk} saved"
    return {"ok": same and found["seconds"] < 45, "seconds": found["seconds"], "seen": seen}


def kill_one(folder: Path, target: int) -> dict[str, Any]:
    """SIGKILL of one: the other ends soon and says that it lost its peer, in our words or in jax's."""
    found = interrupt_run(HostsRun(folder / "fault", more=ENDLESS), signal.SIGKILL, target)
    code, log = found["codes"]["other"], found["logs"][1 - target]
    said = "cannot go on with the others" in log or "another task died" in log
    ok = code in (EXIT_PEER, -signal.SIGABRT) and said and found["seconds"] < HEARTBEAT_SECONDS
    return {"ok": ok, "seconds": found["seconds"], "seen": f"exit code {code}, the lost peer is named: {said}"}


def hang_one(folder: Path, target: int, seconds: float) -> dict[str, Any]:
    """SIGSTOP of one: the other's watchdog ends it with its stacks; with none (0), jax's heartbeat does."""
    more = (*ENDLESS, f"--config.train.hang_minutes={seconds / 60}")
    found = interrupt_run(HostsRun(folder / "fault", more=more), signal.SIGSTOP, target)
    code, log = found["codes"]["other"], found["logs"][1 - target]
    if seconds:
        stack = "stages/train.py" in log and "in train_loop" in log
        ok = code == EXIT_HUNG and "has finished no step since step" in log and stack
        limit, seen = seconds + 20, f"exit code {code}, the loop's stack is there: {stack}"
    else:
        said = "heartbeat" in log or "another task died" in log
        ok, limit = code in (EXIT_PEER, -signal.SIGABRT) and said, HEARTBEAT_SECONDS + 15
        seen = f"exit code {code}, the lost peer is named: {said}"
    return {"ok": ok and found["seconds"] < limit, "seconds": found["seconds"], "seen": seen}


LIMITED = (f"--config.train.hang_minutes={HANG_SECONDS / 60}",)
EXPERIMENTS: dict[str, tuple[Callable[[Path], dict[str, Any]], Sequence[str] | None]] = {
    "alike": (lambda folder: compare_layouts(folder, "vae"), None),
    "alike, fsdp": (lambda folder: compare_layouts(folder, "base"), None),
    "SIGTERM to process 1": (lambda folder: stop_in_order(folder, signal.SIGTERM, 1), ()),
    "SIGTERM to process 0": (lambda folder: stop_in_order(folder, signal.SIGTERM, 0), ()),
    "SIGINT to process 1": (lambda folder: stop_in_order(folder, signal.SIGINT, 1), ()),
    "SIGKILL of process 1": (lambda folder: kill_one(folder, 1), ()),
    "SIGKILL of process 0": (lambda folder: kill_one(folder, 0), ()),
    "SIGSTOP of process 1, watchdog": (lambda folder: hang_one(folder, 1, HANG_SECONDS), LIMITED),
    "SIGSTOP of process 0, watchdog": (lambda folder: hang_one(folder, 0, HANG_SECONDS), LIMITED),
    "SIGSTOP of process 1, heartbeat": (lambda folder: hang_one(folder, 1, 0), ("--config.train.hang_minutes=0",)),
}
"""What is done, and with which arguments the control runs; None: the experiment is a comparison, its own control."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the experiments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="words, separated by commas: experiments that hold one of them")
    parser.add_argument("--json", type=Path, help="also write the table there")
    parser.add_argument("--workdir", type=Path, help="a temporary folder by default")
    arguments = parser.parse_args(argv)
    folder = arguments.workdir or Path(tempfile.mkdtemp())
    chosen = [name for name in EXPERIMENTS if any(word in name for word in arguments.only.split(","))]
    rows, controls = [], {}
    for number, name in enumerate(chosen):
        experiment, more = EXPERIMENTS[name]
        row = {"experiment": name, **experiment(prepare_folder(folder / str(number), name))}
        if more is not None:
            if more not in controls:
                controls[more] = run_control(folder / f"{number}-control", more)
            row["control"] = controls[more]
        rows.append(row)
        print(format_row(row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0 if all(row["ok"] and row.get("control", row)["ok"] for row in rows) else 1


def prepare_folder(folder: Path, name: str) -> Path:
    """The experiment's folder; the base stage finds a VAE there."""
    if "fsdp" in name:
        vae = HostsRun(folder / "vae-first", processes=1)
        if code := wait_or_kill(vae.start()[0]):
            raise RuntimeError(f"the VAE failed with {code}: {vae.log(0)[-2000:]}")
        for side in ("two", "one"):
            (folder / side).mkdir()
            (folder / side / "vae").symlink_to(vae.folder)
    return folder


def format_row(row: dict[str, Any]) -> str:
    """A row of the table."""
    seconds = f"{row['seconds']:5.1f} s" if "seconds" in row else " " * 7
    without = f" | without the fault: {row['control']['seen']}" if "control" in row else ""
    verdict = "ok  " if row["ok"] and row.get("control", row)["ok"] else "FAIL"
    return f"{verdict} {row['experiment']:<32} {seconds}  {row['seen']}{without}"


if __name__ == "__main__":
    sys.exit(main())
