"""Which processes make up a run: said by flags, or found where a cluster's launcher says it. Knows no jax."""

import argparse
import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["ALONE", "Hosts", "add_host_flags", "find_hosts", "split_host_flags"]


class Hosts(NamedTuple):
    """The processes of a run; `launcher` names a cluster that tells jax the rest itself."""

    coordinator: str = ""
    processes: int = 1
    process: int = 0
    launcher: str = ""

    @property
    def is_distributed(self) -> bool:
        """Whether there is anybody to join."""
        return self.processes > 1 or bool(self.launcher)


ALONE = Hosts()
FLAGS = ("coordinator", "processes", "process")


def add_host_flags(parser: argparse.ArgumentParser) -> None:
    """The three flags that name the processes of a run, alike in every command."""
    group = parser.add_argument_group("several hosts (found by itself on TPU pods, under SLURM and Open MPI)")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens for the others")
    group.add_argument("--processes", metavar="N", help="how many processes there are; 1: look for no others")
    group.add_argument("--process", metavar="I", help="which of them this is, from 0")


def split_host_flags(argv: Sequence[str]) -> tuple[Hosts, list[str]]:
    """(The processes, the other arguments) of a command line that another parser reads; raises ValueError."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_host_flags(parser)
    try:
        known, rest = parser.parse_known_args(list(argv))
    except argparse.ArgumentError as error:
        raise ValueError(str(error)) from None
    return find_hosts(known), rest


def find_hosts(arguments: argparse.Namespace, environment: Mapping[str, str] | None = None) -> Hosts:
    """The processes that the flags name, or those of the cluster that this process was started in.

    Raises ValueError with all that is wrong with the flags.
    """
    given = {name: getattr(arguments, name) for name in FLAGS if getattr(arguments, name) is not None}
    if not given:
        hosts = detect_launcher(os.environ if environment is None else environment)
        return Hosts(launcher=hosts) if hosts else ALONE
    if given == {"processes": "1"}:
        return ALONE
    return parse_host_flags(given)


def parse_host_flags(flags: Mapping[str, str]) -> Hosts:
    """The processes that flags name; ValueError with all that is wrong."""
    if missing := [f"--{name}" for name in FLAGS if name not in flags]:
        raise ValueError(f"{' and '.join(missing)} must be given too: the three flags go together")
    errors = []
    host, _, port = flags["coordinator"].rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 65536):
        errors.append(f"--coordinator {flags['coordinator']!r}: use HOST:PORT, as 10.0.0.2:8476")
    if not (flags["processes"].isdecimal() and int(flags["processes"]) > 0):
        errors.append(f"--processes {flags['processes']!r}: it must be a number from 1")
    elif not (flags["process"].isdecimal() and int(flags["process"]) < int(flags["processes"])):
        errors.append(f"--process {flags['process']!r}: use 0 to {int(flags['processes']) - 1}")
    if errors:
        raise ValueError("; ".join(errors))
    return Hosts(flags["coordinator"], int(flags["processes"]), int(flags["process"]))


def detect_launcher(environment: Mapping[str, str], devices: Path = Path("/dev")) -> str:
    """The launcher whose processes this is one of, or "".

    SLURM: a step (srun) of several tasks. Open MPI: mpirun with several. TPU: several hosts in TPU_WORKER_HOSTNAMES or
    several slices in MEGASCALE_NUM_SLICES, which GKE sets; or a Cloud TPU VM, known by its chips: what its slice is
    made of is the metadata server's to say. A notebook's TPU is one host, and says so by TPU_WORKER_HOSTNAMES.
    """
    if is_above_one(environment.get("SLURM_STEP_NUM_TASKS", "")) and "SLURM_PROCID" in environment:
        return "slurm"
    if is_above_one(environment.get("OMPI_COMM_WORLD_SIZE", "")):
        return "ompi"
    if is_above_one(environment.get("MEGASCALE_NUM_SLICES", "")):
        return "tpu"
    if names := environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES", "")):
        return "tpu" if "," in names else ""
    asked = environment.get("JAX_PLATFORMS", "tpu").split(",")
    barred = "tpu" not in asked or "TPU_SKIP_MDS_QUERY" in environment
    return "" if barred or not has_tpu(devices) else "tpu"


def is_above_one(number: str) -> bool:
    """Whether it is a number above 1."""
    return number.isdecimal() and int(number) > 1


def has_tpu(devices: Path) -> bool:
    """Whether there are TPU chips here and the library that runs them."""
    chips = [*devices.glob("accel[0-9]*"), *devices.glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None
