"""Several processes train as one; one that is stopped, dies or hangs ends the others in time, saying why."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dalle3_jax.runtime import processes as hosts
from dalle3_jax.runtime import watchdog as watchdogs
from dalle3_jax.runtime.exit_codes import EXIT_HUNG
from dalle3_jax.runtime.watchdog import Watchdog
from dalle3_jax.stages import train
from scripts.faults.hosts import compare_layouts, free_port, hang_one, kill_one, stop_in_order, wait_or_kill

ROOT = Path(__file__).parents[2]
MEET = """
import sys
from dalle3_jax.runtime.cluster import split_host_flags
from dalle3_jax.runtime.distributed import run_job, initialize_distributed

def job():
    initialize_distributed(split_host_flags(sys.argv[1:])[0], 2)
    return 0

sys.exit(run_job(job))
"""
AGREE = """
import sys
from pathlib import Path
import jax
from dalle3_jax.runtime.cluster import split_host_flags
from dalle3_jax.runtime.distributed import run_job, initialize_distributed
from dalle3_jax.runtime import processes as hosts

def job():
    processes, [folder] = split_host_flags(sys.argv[1:])
    initialize_distributed(processes)
    hosts.check_agreement(Path(folder), {"seed": 0})
    hosts.barrier("once")
    hosts.barrier("twice")
    hosts.check_agreement(Path(folder) / str(jax.process_index()), {"seed": jax.process_index()}, 0.5)
    return 0

sys.exit(run_job(job))
"""


EXPERIMENTS = {
    "alike": lambda folder: compare_layouts(folder, "vae"),
    "terminated": lambda folder: stop_in_order(folder, signal.SIGTERM, 1),
    "killed": lambda folder: kill_one(folder, 1),
    "hung": lambda folder: hang_one(folder, 1, 5.0),
}
"""One after the other: a process holds 0.4 GB, and programs that one has compiled the next finds."""


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_two_processes_are_one_run_and_end_as_one(experiment, tmp_path):
    seen = EXPERIMENTS[experiment](tmp_path)
    assert seen["ok"], seen


def pair(code: str, *words: object) -> list[tuple[int | None, str]]:
    """(Exit code, stderr) of two processes that run the code with these arguments after their flags."""
    port, processes = free_port(), []
    for index in range(2):
        flags = [f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}", *map(str, words)]
        command = [sys.executable, "-c", code, *flags]
        processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True))
    codes = [wait_or_kill(process) for process in processes]
    return [(code, process.communicate()[1]) for code, process in zip(codes, processes, strict=True)]


def test_processes_of_different_folders_and_settings_all_say_so(tmp_path):
    for code, said in pair(AGREE, tmp_path):
        assert code == 2
        [error] = [line for line in said.splitlines() if line.startswith("error: ")]
        assert "process 1 cannot see what process 0 writes" in error
        assert "process 1 got other settings than process 0" in error


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_whose_peers_do_not_come_says_so_in_time(process):
    words = ["--coordinator", f"localhost:{free_port()}", "--processes", "2", "--process", str(process)]
    done = subprocess.run([sys.executable, "-c", MEET, *words], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    waiting, error = done.stderr.splitlines()
    assert waiting == f"process {process} is here: waiting for process {1 - process} of 2"
    assert error.startswith(f"error: process {process} of 2 could not meet the others at localhost:")
    assert "within 2 s" in done.stderr


def test_nothing_is_joined_or_agreed_in_a_run_of_one(tmp_path):
    params = {"a": jax.device_put(np.arange(6.0).reshape(2, 3))}
    hosts.barrier("alone")
    hosts.check_agreement(tmp_path, {"seed": 0})
    assert not list(tmp_path.iterdir())
    assert hosts.from_first_process(True) is True
    assert hosts.from_first_process(False) is False
    np.testing.assert_array_equal(hosts.gather_params(params)["a"], np.arange(6.0).reshape(2, 3))


def test_hosts_ask_the_first_ones_clock_only_when_they_log(monkeypatch):
    config = ConfigDict({"train": {"save_every": 100, "save_minutes": 1.0, "log_every": 10}})
    asked, long_ago = [], time.monotonic() - 3600
    monkeypatch.setattr(hosts, "from_first_process", lambda value: asked.append(value) or True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert [step for step in range(1, 31) if train.is_save_due(config, step, long_ago)] == [10, 20, 30]
    assert asked == [True] * 3
    assert train.is_save_due(config, 10, time.monotonic())  # the first one's word counts, not this one's clock
    assert asked[-1] is False
    assert train.is_save_due(config, 100, time.monotonic())


@pytest.fixture
def watch(tmp_path, monkeypatch):
    """Runs a watchdog beside what the test does at each of its ticks; returns the exit code and what it says."""

    class Ticks:
        """Stands for the event that ends a watchdog: waiting for it moves the clock, and does what is next."""

        def __init__(self, actions):
            self.actions, self.now = iter(actions), 0.0

        def wait(self, seconds: float) -> bool:
            self.now += seconds
            action = next(self.actions, None)
            if action is not None:
                action(self)
            return action is None

    def run(seconds: float, script) -> tuple[list[int], str]:
        codes, path = [], tmp_path / "said"
        with path.open("w") as file:
            watchdog = Watchdog(0.0, "process 3", codes.append, file)  # without a thread
            watchdog._seconds, watchdog._tick = seconds, seconds / 10
            watchdog._over = ticks = Ticks(script(watchdog))
            monkeypatch.setattr(watchdogs, "time", SimpleNamespace(monotonic=lambda: ticks.now))
            watchdog._watch()
        return codes, path.read_text()

    return run


def nothing(ticks) -> None:
    """A tick at which nothing is done."""


def test_a_step_that_does_not_end_is_named_with_all_stacks(watch):
    codes, said = watch(20.0, lambda watchdog: [lambda _: watchdog.beat(41), *[nothing] * 12])
    assert codes == [EXIT_HUNG]
    assert said.startswith("\nerror: process 3 has finished no step since step 41, for 20 s (train.hang_minutes)")
    assert "in test_a_step_that_does_not_end_is_named_with_all_stacks" in said


def test_nothing_is_timed_before_the_first_step_has_ended(watch):
    def script(watchdog):
        def pause(_):
            with watchdog.pause():
                pass

        return [*[nothing] * 20, pause, *[nothing] * 20]

    assert watch(20.0, script) == ([], "")


def test_steps_in_time_and_excused_work_are_no_hang(watch):
    seen = []

    def script(watchdog):
        for step in range(8):
            yield lambda _, step=step: watchdog.beat(step)
            yield from [nothing] * 8
        with watchdog.pause():
            yield from [nothing] * 20
        yield from [nothing] * 9  # counted anew after what was excused
        seen.append("not yet")
        yield from [nothing] * 3  # and it watches again
        seen.append("too late")

    assert watch(20.0, script)[0] == [EXIT_HUNG]
    assert seen == ["not yet"]


def test_time_in_which_the_process_itself_was_stopped_is_no_hang(watch):
    def script(watchdog):
        def stop(ticks):
            ticks.now += 3600

        return [lambda _: watchdog.beat(1), *[nothing] * 3, stop, *[nothing] * 3]

    assert watch(20.0, script) == ([], "")


def test_a_watchdog_watches_beside_and_ends_when_it_is_closed(tmp_path):
    ended = threading.Event()
    with (tmp_path / "said").open("w") as file:
        hung, closed, unlimited = (
            Watchdog(seconds, end=lambda _: ended.set(), file=file) for seconds in (0.1, 60.0, 0.0)
        )
        for watching in (hung, closed, unlimited):
            watching.beat(1)
        assert ended.wait(60)
        assert [watching._thread.is_alive() for watching in (closed, unlimited)] == [True, False]
        closed.close()
        assert not closed._thread.is_alive()
    assert "in test_a_watchdog_watches_beside_and_ends_when_it_is_closed" in (tmp_path / "said").read_text()


def test_a_sigint_becomes_the_sigterm_that_all_hosts_obey(monkeypatch):
    from dalle3_jax.runtime.signals import stop_requests

    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    try:
        with stop_requests():
            signal.raise_signal(signal.SIGINT)
            assert heard == [signal.SIGTERM]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGTERM, before)
