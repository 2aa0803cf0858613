"""Checkpoints of a run: state by Orbax, data position as JSON, and a SHA-256 manifest that makes them count.

    FOLDER/00001000/state/           the training state, sharded
    FOLDER/00001000/data.json        how far the data was read, the same for any number of processes
    FOLDER/00001000/manifest.json    written last: digests of all files above, shapes and types of the arrays, its own

Orbax keeps no checksum of what it wrote, so a step without a manifest is unfinished, and one that differs from it is
damaged. Restoring walks down to the newest good step and deletes nothing. A step restores onto any mesh and any number
of processes. Only saving deletes: what no save finished, and finished steps beyond the last `keep`, once a newer one
has its manifest.
"""

import hashlib
import json
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from dalle3_jax.files import is_stray, write_whole

__all__ = ["Checkpointer", "RestoredCheckpoint", "finished_steps", "verify_step"]

MANIFEST = "manifest.json"

NONE, DAMAGED = -1, -2
"""Instead of a step: nothing was saved yet; nothing that was saved is good."""


class RestoredCheckpoint(NamedTuple):
    """The content of a checkpoint."""

    step: int
    state: Any
    data: Mapping[str, Any]


def finished_steps(folder: Path) -> list[int]:
    """Finished steps, oldest first."""
    return sorted(int(path.parent.name) for path in Path(folder).glob(f"*/{MANIFEST}") if path.parent.name.isdigit())


def verify_step(folder: Path) -> list[str]:
    """Error messages for a step's files that differ from its manifest; empty when they are good."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if _seal_manifest({name: manifest[name] for name in ("files", "arrays")}) != manifest:
            return [f"{MANIFEST} is damaged: it does not match its own sha256"]
        # What a system leaves beside files, and takes away again, says nothing of the step.
        expected = {name: digest for name, digest in manifest["files"].items() if not is_stray(Path(name).name)}
        files = _step_files(folder)
        errors = [f"{name} is missing" for name in sorted(expected.keys() - files.keys())]
        errors += [f"{name} does not belong there" for name in sorted(files.keys() - expected.keys())]
        same = sorted(expected.keys() & files.keys())
        digests = _file_digests({name: files[name] for name in same})
        return errors + [f"{name} is damaged" for name in same if digests[name] != expected[name]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST} cannot be read: {error}"]


class Checkpointer:
    """Saves in the background and restores the newest good step; keeps the last `keep`."""

    def __init__(self, folder: str | Path, keep: int = 2):
        """Nothing is written before the first save."""
        self.folder, self.keep = Path(folder).absolute(), max(keep, 1)
        self._orbax = ocp.StandardCheckpointer()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._rejected: list[str] = []

    def save(self, step: int, state: Any, data: Mapping[str, Any]) -> None:
        """Copy the state off the devices and write it in the background; what failed last time is raised here."""
        self.wait()
        target = self.folder / f"{step:08d}"
        if _from_first_process(int((target / MANIFEST).exists() and not verify_step(target))):
            return
        if jax.process_index() == 0:
            _make_room(target)
            (target / "data.json").write_text(json.dumps(data))
        _barrier(f"checkpoint {step} has room")
        self._orbax.save(target / "state", state)
        arrays = _array_specs(state)
        self._thread = threading.Thread(target=self._finish, args=(target, arrays), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last save is on disk; raises what went wrong with it."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            said = f"{type(error).__name__}: {error}"[:300]  # a store describes itself at length
            raise OSError(f"saving a checkpoint in {self.folder} failed: {said}") from error

    def restore(self, abstract: Any) -> RestoredCheckpoint | None:
        """The newest good step laid out as `abstract` says, or None before the first save.

        Raises ValueError when the checkpoint is of another model, and when no finished step is good.
        """
        good = _from_first_process(self._newest() if jax.process_index() == 0 else NONE)
        if good == NONE:
            return None
        if good == DAMAGED:
            why = " | ".join(self._rejected) or "the first process says why"
            raise ValueError(
                f"no checkpoint in {self.folder} is good ({why}): "
                "restore the folder from a copy, or move it away to begin again"
            )
        target = self.folder / f"{good:08d}"
        _check_arrays(json.loads((target / MANIFEST).read_text())["arrays"], _array_specs(abstract), target)
        data = json.loads((target / "data.json").read_text())
        return RestoredCheckpoint(good, self._orbax.restore(target / "state", abstract), data)

    def close(self) -> None:
        """Finish what is under way."""
        self.wait()
        self._orbax.close()

    def _newest(self) -> int:
        """The newest good step, NONE before the first save, DAMAGED where no finished step is good; says why not."""
        finished, self._rejected = finished_steps(self.folder), []
        for step in reversed(finished):
            errors = verify_step(self.folder / f"{step:08d}")
            if not errors:
                return step
            self._rejected.append(f"step {step}: {'; '.join(errors[:3])}")
            print(f"checkpoint rejected, {self._rejected[-1]}", file=sys.stderr)
        return DAMAGED if finished else NONE

    def _finish(self, target: Path, arrays: Mapping[str, Any]) -> None:
        try:
            self._orbax.wait_until_finished()
            if jax.process_index() == 0:
                files = _file_digests(_step_files(target))
                manifest = _seal_manifest({"files": files, "arrays": arrays})
                write_whole(target / MANIFEST, json.dumps(manifest, indent=1).encode())
                for step in finished_steps(self.folder)[: -self.keep]:
                    _remove_step(self.folder / f"{step:08d}")
        except BaseException as error:  # handed to the main thread
            self._error = error


def _make_room(target: Path) -> None:
    """A folder for a new step: unfinished ones go, a damaged one is put aside under another name."""
    if (target / MANIFEST).exists():
        target.rename(target.with_name(f"{target.name}.damaged-{time.time_ns()}"))
    for folder in target.parent.glob("*"):
        if folder.name.isdigit() and not (folder / MANIFEST).exists():
            _remove_step(folder)
    if target.exists():  # something keeps a file of it
        target.rename(target.with_name(f"{target.name}.unfinished-{time.time_ns()}"))
    target.mkdir(parents=True)


def _remove_step(folder: Path) -> None:
    """Remove a step, its manifest first, so that what is left of it no longer counts; the next save tries that again.

    A failure is said and no more: NFS keeps files that somebody still reads, and the new step is on the disk.
    """
    try:
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder)
    except OSError as error:
        print(f"note: the old checkpoint {folder} cannot be removed yet ({error.strerror})", file=sys.stderr)


def _step_files(folder: Path) -> dict[str, Path]:
    """The files that a manifest speaks of: all but itself, what was to become it when a run was killed, and strays."""
    manifest = f"*{MANIFEST}*.tmp"
    files = (path for path in folder.rglob("*") if path.is_file() and not path.match(manifest))
    paths = (path for path in files if not is_stray(path.name))
    return {path.relative_to(folder).as_posix(): path for path in paths if path != folder / MANIFEST}


def _file_digests(files: Mapping[str, Path]) -> dict[str, str]:
    """SHA-256 of each file, eight at a time: hashing lets go of the interpreter, and disks gain by it."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(files, pool.map(_file_digest, files.values()), strict=True))


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _seal_manifest(content: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the SHA-256 of its other fields."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _array_specs(tree: Any) -> dict[str, list[Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}


def _check_arrays(stored: Mapping[str, Any], expected: Mapping[str, Any], target: Path) -> None:
    """Orbax would cast a wrong type silently and name a wrong shape obscurely."""
    differ = [name for name in sorted(stored.keys() | expected.keys()) if stored.get(name) != expected.get(name)]
    if differ:
        first = differ[0]
        raise ValueError(
            f"{target} is of another model: {len(differ)} arrays differ, the first {first}: "
            f"saved {stored.get(first)}, expected {expected.get(first)}; use another workdir, or its own config"
        )


def _barrier(name: str) -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def _from_first_process(value: int) -> int:
    """The first process's value on all of them, so that none goes another way for what its disk shows it."""
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.asarray(value)))
