"""Several processes as one run: waiting for each other, agreeing, and work that the first does alone.

Everything here is to be called by all processes alike, and is nothing at all in a run of one.
"""

import functools
import hashlib
import itertools
import json
import secrets
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from dalle3_jax.typing import Params

__all__ = ["TOKEN", "announce_waiting", "barrier", "check_agreement", "from_first_process", "gather_params"]

TOKEN = ".hosts"
WAIT_SECONDS = 24 * 3600
"""How long processes wait for one that draws, encodes or saves alone; one that died ends the wait at once."""

SEEN_SECONDS = 20
"""How long a file of one host may take to be seen by the others; below the 30 s that gloo waits."""

_barriers = itertools.count()


def barrier(name: str, seconds: int = WAIT_SECONDS) -> None:
    """Until all processes are here. No device takes part, so that minutes apart are no error."""
    if jax.process_count() > 1:
        import orbax.checkpoint as ocp  # half a second, which sampling on one host need not wait for

        everyone = set(range(jax.process_count()))
        ocp.multihost.sync_global_processes(f"{name} {next(_barriers)}", timeout=seconds, processes=everyone)


def announce_waiting() -> None:
    """Say on the first process which others it waits for, before a `barrier` that they may be late for."""
    count = jax.process_count()
    if count > 1 and jax.process_index() == 0:
        print(f"waiting for {_name_processes(list(range(1, count)))} of {count}", file=sys.stderr, flush=True)


def from_first_process(value: bool) -> bool:
    """The first process's value, on all of them: for what clocks and disks answer differently."""
    if jax.process_count() == 1:
        return value
    return bool(multihost_utils.broadcast_one_to_all(np.asarray(value)))


def gather_params(tree: Params) -> Params:
    """The tree's arrays whole in the first process's memory; elsewhere the same tree of None.

    One array at a time is whole on a device. In a run of one it is the tree itself.
    """
    if jax.process_count() == 1:
        return tree
    first = jax.process_index() == 0

    def whole(leaf: jax.Array) -> np.ndarray | None:
        if not leaf.is_fully_replicated:
            assert isinstance(leaf.sharding, NamedSharding)  # as everything that lies on a mesh
            leaf = _replicate(NamedSharding(leaf.sharding.mesh, PartitionSpec()))(leaf)
        return np.asarray(leaf.addressable_data(0)) if first else None

    return jax.tree.map(whole, tree)


@functools.cache
def _replicate(sharding: NamedSharding) -> Any:
    return jax.jit(lambda leaf: leaf, out_shardings=sharding)


def check_agreement(folder: Path, settings: Mapping[str, Any], seconds: float = SEEN_SECONDS) -> None:
    """Raise ValueError, on all processes alike, unless all see the same folder and were given the same settings.

    The first process writes a word into the folder that the others must find there within `seconds`.
    """
    if jax.process_count() == 1:
        return
    word = multihost_utils.broadcast_one_to_all(np.frombuffer(secrets.token_bytes(16), np.uint8))
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TOKEN).write_bytes(word.tobytes())
    multihost_utils.sync_global_devices("the word is written")
    seen = _becomes_visible(folder / TOKEN, word.tobytes(), seconds)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).digest()
    message = np.frombuffer(bytes([seen]) + digest, np.uint8)
    messages = multihost_utils.process_allgather(message)
    errors = []
    if blind := [i for i, row in enumerate(messages) if not row[0]]:
        errors.append(
            f"{_name_processes(blind)} cannot see what process 0 writes in {folder}: give a folder that all hosts "
            "share (Filestore, NFS, gcsfuse)"
        )
    if other := [i for i, row in enumerate(messages) if (row[1:] != messages[0][1:]).any()]:
        errors.append(
            f"{_name_processes(other)} got other settings than process 0: run the same command, with the same files, "
            "on all hosts"
        )
    if errors:
        raise ValueError("; ".join(errors))


def _becomes_visible(path: Path, word: bytes, seconds: float) -> bool:
    """Whether the file holds the word, at once or soon: shared folders show a file late."""
    end = time.monotonic() + seconds
    while not (path.is_file() and path.read_bytes() == word):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def _name_processes(numbers: list[int]) -> str:
    listed = ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")
    return f"process {listed}" if len(numbers) == 1 else f"processes {listed}"
