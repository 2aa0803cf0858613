"""Who takes part in a run: by flags, found in the environment, or nobody else."""

import argparse
import importlib.util

import pytest

from dalle3_jax.runtime.cluster import ALONE, Hosts, detect_launcher, find_hosts, split_host_flags

NOBODY = argparse.Namespace(coordinator=None, processes=None, process=None)
TWO = ["--coordinator", "10.0.0.2:8476", "--processes", "2", "--process"]


def test_flags_stand_anywhere_among_those_of_another_parser():
    words = ["--config", "a.py:vae", "--process=1", "--processes", "2", "--workdir", "W", "--coordinator=h:1"]
    assert split_host_flags(words) == (Hosts("h:1", 2, 1), ["--config", "a.py:vae", "--workdir", "W"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([*TWO, "2"], "--process '2': use 0 to 1"),
        ([*TWO, "-1"], "--process"),
        ([*TWO], "--process: expected one argument"),
        (["--process", "0"], "--coordinator and --processes must be given too"),
        (["--processes", "2"], "--coordinator and --process must be given too"),
        (["--coordinator", "h", "--processes", "2", "--process", "0"], "--coordinator 'h': use HOST:PORT"),
        (["--coordinator", "h:99999", "--processes", "2", "--process", "0"], "use HOST:PORT"),
        (["--coordinator", "h:1", "--processes", "none", "--process", "0"], "--processes 'none'"),
        (["--coordinator", ":1", "--processes", "0", "--process", "0"], "--coordinator ':1': use HOST:PORT, as"),
    ],
)
def test_flags_that_name_no_run_are_refused(words, named):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        split_host_flags(words)
    assert named in str(caught.value)


def test_all_that_is_wrong_with_the_flags_comes_at_once():
    with pytest.raises(ValueError, match=r"--coordinator ':1'.*; --processes '0'"):
        split_host_flags(["--coordinator", ":1", "--processes", "0", "--process", "0"])


SLURM = {"SLURM_STEP_NUM_TASKS": "16", "SLURM_PROCID": "3"}


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ""),
        (SLURM, "slurm"),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, ""),
        ({"SLURM_NTASKS": "16", "SLURM_PROCID": "0"}, ""),  # in the batch script, outside a step
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "ompi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, ""),
        ({"TPU_WORKER_HOSTNAMES": "a,b,c,d"}, "tpu"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),  # a notebook, or a slice of one host
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, "tpu"),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, "tpu"),
        ({"MEGASCALE_NUM_SLICES": "1"}, ""),
    ],
)
def test_launchers_are_found_by_what_they_leave_in_the_environment(environment, found):
    assert detect_launcher(environment) == found
    assert find_hosts(NOBODY, environment) == Hosts(launcher=found)
    assert find_hosts(NOBODY, environment).is_distributed == bool(found)


def test_one_process_by_its_flag_looks_for_nobody():
    arguments = argparse.Namespace(coordinator=None, processes="1", process=None)
    assert find_hosts(arguments, SLURM) == ALONE
    assert not ALONE.is_distributed


@pytest.mark.parametrize("chip", ["accel0", "vfio/0"])
def test_a_tpu_machine_is_known_by_its_chips(tmp_path, monkeypatch, chip):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "libtpu")
    assert detect_launcher({}, tmp_path) == ""
    (tmp_path / chip).parent.mkdir(exist_ok=True)
    (tmp_path / chip).touch()
    assert detect_launcher({}, tmp_path) == "tpu"
    assert detect_launcher({"JAX_PLATFORMS": "cpu"}, tmp_path) == ""
    assert detect_launcher({"TPU_SKIP_MDS_QUERY": "1"}, tmp_path) == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert detect_launcher({}, tmp_path) == ""
