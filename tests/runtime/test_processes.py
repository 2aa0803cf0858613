"""Several processes train as one; one that is stopped, dies or hangs ends the others in time, saying why."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from dalle3_jax.runtime import processes as hosts
from dalle3_jax.runtime import watchdog
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


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What became of the experiments, which run side by side: most of their time is spent starting."""
    experiments = {
        "alike": lambda folder: compare_layouts(folder, "vae"),
        "terminated": lambda folder: stop_in_order(folder, signal.SIGTERM, 1),
        "killed": lambda folder: kill_one(folder, 1),
        "hung": lambda folder: hang_one(folder, 1, 5.0),
    }
    with ThreadPoolExecutor() as pool:
        return {name: pool.submit(run, tmp_path_factory.mktemp(name)) for name, run in experiments.items()}


@pytest.mark.parametrize("experiment", ["alike", "terminated", "killed", "hung"])
def test_two_processes_are_one_run_and_end_as_one(found, experiment):
    seen = found[experiment].result()
    assert seen["ok"], seen


def pair(code: str, *words: object) -> list[tuple[int | None, str]]:
    """(Exit code, stderr) of two processes that run the code with these arguments after their flags."""
    port, processes = free_port(), []
    for index in range(2):
        flags = [f"--coordinator=localhost:{port}", "--processes=2", f"--process={index}", *map(str, words)]
        command = [sys.executable, "-c", code, *flags]
        processes.append(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True))
    codes = [wait_or_kill(process, 60) for process in processes]
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
    done = subprocess.run([sys.executable, "-c", MEET, *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
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
def watch(tmp_path):
    """Makes watchdogs that note the exit code and write what they say to tmp_path/said."""
    codes, made = [], []
    with (tmp_path / "said").open("w") as file:

        def make(seconds: float) -> Watchdog:
            made.append(Watchdog(seconds, "process 3", codes.append, file))
            return made[-1]

        yield make, codes, tmp_path / "said"
        for started in made:
            started.close()


def test_a_step_that_does_not_end_is_named_with_all_stacks(watch):
    make, codes, said = watch
    make(0.2).beat(41)
    end = time.monotonic() + 10
    while not codes and time.monotonic() < end:
        time.sleep(0.01)
    assert codes == [EXIT_HUNG]
    text = said.read_text()
    assert text.startswith("\nerror: process 3 has finished no step since step 41, for 0.2 s (train.hang_minutes)")
    assert "in test_a_step_that_does_not_end_is_named_with_all_stacks" in text


def test_nothing_is_timed_before_the_first_step_has_ended(watch):
    make, codes, _ = watch
    make(0.1)
    with make(0.1).pause():
        pass
    time.sleep(0.5)
    assert codes == []


def test_steps_in_time_and_excused_work_are_no_hang(watch):
    make, codes, _ = watch
    watching = make(0.6)
    for step in range(8):
        watching.beat(step)
        time.sleep(0.1)
    time.sleep(0.3)
    with watching.pause():
        time.sleep(0.8)
    time.sleep(0.4)  # counted anew after what was excused
    assert codes == []
    watching._thread.join(10)  # and it watches again
    assert codes == [EXIT_HUNG]


def test_a_closed_watchdog_and_one_without_a_limit_stay_silent(watch):
    make, codes, _ = watch
    for silent in (make(0.1), make(0.0)):
        silent.beat(1)
        silent.close()
    time.sleep(0.4)
    assert codes == []


def test_time_in_which_the_process_itself_was_stopped_is_no_hang(watch, monkeypatch):
    make, codes, _ = watch
    make(5.0).beat(1)
    time.sleep(0.6)
    clock, now = time.monotonic, time.monotonic()
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: clock() + (3600 if clock() > now + 0.1 else 0))
    time.sleep(1.2)
    assert codes == []


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
