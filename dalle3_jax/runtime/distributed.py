"""The set-up of commands before they compute: the other processes, the cache of compiled programs, a lock."""

import fcntl
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

from dalle3_jax.files import user_cache_folder
from dalle3_jax.runtime.cluster import Hosts
from dalle3_jax.runtime.device_errors import explain_device_error, first_line
from dalle3_jax.runtime.exit_codes import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_PEER, EXIT_SAVED, print_error

__all__ = [
    "enable_compilation_cache",
    "exit_distributed",
    "initialize_distributed",
    "lock_folder",
    "run_job",
]

CONNECT_SECONDS = 300.0
"""How long the processes of a run wait for the last of them to start."""

HEARTBEAT_SECONDS = 60
"""After so long without a sign of life a process counts as dead, and its peers end."""

LINGER_SECONDS = 3
"""So long process 0 waits before it fails: with it the others would be cut off before they could say why they fail."""


def initialize_distributed(hosts: Hosts, connect_seconds: float = CONNECT_SECONDS) -> None:
    """Join the other processes of the run through jax.distributed; nothing where there is one alone.

    Call it before anything asks jax for its devices. On CPUs the processes talk through gloo. Raises ValueError when
    they cannot, or the cluster does not say who they are; when they have not all met within `connect_seconds`, this
    process says so and ends with code 2 (jax would abort it).
    """
    if not hosts.is_distributed or jax.distributed.is_initialized():
        return
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    named = {"coordinator_address": hosts.coordinator, "num_processes": hosts.processes, "process_id": hosts.process}
    how = {} if hosts.launcher else {**named, "cluster_detection_method": "deactivate"}
    message = timeout_message(hosts, connect_seconds)
    late = threading.Timer(connect_seconds, lambda: os._exit(print_error(message, EXIT_BAD_INPUT)))
    late.daemon = True
    late.start()
    if not hosts.launcher:
        others = "the others" if hosts.processes > 2 else f"process {1 - hosts.process} of 2"
        print(f"process {hosts.process} is here: waiting for {others}", file=sys.stderr, flush=True)
    try:
        jax.distributed.initialize(
            **how,
            initialization_timeout=int(connect_seconds) + 60,  # its own end comes after ours
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError, OSError) as error:  # OSError: the metadata server of a TPU VM
        raise ValueError(f"{message} ({first_line(error)})") from None
    finally:
        late.cancel()


def timeout_message(hosts: Hosts, seconds: float) -> str:
    """The error message when the processes did not meet."""
    if hosts.launcher:
        return (
            f"the processes that {hosts.launcher} started did not meet within {seconds:g} s: see that all of them run, "
            "name them by --coordinator, --processes and --process, or go alone with --processes 1"
        )
    return (
        f"process {hosts.process} of {hosts.processes} could not meet the others at {hosts.coordinator} within "
        f"{seconds:g} s: see that all of them run, that process 0 is on that host and that the port is free and open"
    )


def run_job(job: Callable[[], int], memory_remedy: str = "") -> int:
    """The exit code of a job whose errors are one line: 2 for bad input, 1 for a failure, 69 for a lost peer.

    `memory_remedy` says what helps where the device has not memory enough.
    """
    try:
        return exit_distributed(job())
    except ValueError as error:
        return exit_distributed(print_error(error, EXIT_BAD_INPUT))
    except (FloatingPointError, OSError) as error:
        return exit_distributed(print_error(error, EXIT_FAILED))
    except BaseException as error:
        if explained := explain_device_error(error, memory_remedy):
            line, code = explained
            return exit_distributed(print_error(error, code, line))
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):
            return exit_distributed(print_error(error, EXIT_PEER, lost_peer_message(error)))
        traceback.print_exc()
        return exit_distributed(EXIT_FAILED)


def lost_peer_message(error: BaseException) -> str:
    """The error message when the processes cannot compute together any more."""
    return (
        f"process {jax.process_index()} cannot go on with the others ({first_line(error)}): one of them has probably "
        "ended, and its log says why. The same command on all hosts goes on from what was saved"
    )


def exit_distributed(code: int) -> int:
    """The exit code; but one of several processes that fails ends here and now.

    At an ordinary exit jax would wait for the peers, which wait for this process's part of their next computation.
    """
    if code in (0, EXIT_SAVED) or not jax.distributed.is_initialized():
        return code
    if jax.process_index() == 0:
        time.sleep(LINGER_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache directory, so that a second start compiles nothing.

    JAX_COMPILATION_CACHE_DIR names another folder, as it does everywhere in JAX. Where no folder can be written, a note
    says so, and nothing is kept.
    """
    if not jax.config.values["jax_compilation_cache_dir"]:
        folder = user_cache_folder("xla")
        if folder is None:
            print(
                "note: compiled programs are not kept, since the cache folder cannot be written: "
                "JAX_COMPILATION_CACHE_DIR names another",
                file=sys.stderr,
            )
            return
        jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Holds the folder for this process (the first of a run); ValueError when another holds it or it cannot be written.

    The lock is the kernel's: it ends with the process, however that ends. Where the file system has no locks, a note
    says so and the work goes on.
    """
    if jax.process_index() != 0:
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror}; give a --workdir that can be written") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is training in {folder}; wait for it or use another workdir") from None
        except OSError as error:
            print(
                f"note: {folder} cannot be locked ({error.strerror}): see that no other process trains there",
                file=sys.stderr,
            )
        yield
