"""Files beside JAX's compiled programs that spare a later process some tracing, and may be made again at any time.

A name holds the digest of all that decides the content: what the caller says, the package's sources, the libraries. So
nothing is ever out of date, and nothing is kept where sources were edited under a process that may have read others.
What is not asked for any more goes when the folder is full. Functions that a user has patched are not seen.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np

from dalle3_jax.files import write_whole

__all__ = ["MAX_BYTES", "describe_static", "persistent_path", "read_persistent", "write_persistent"]

MAX_BYTES = 64 * 2**20
"""The bytes that the folder holds at most: the files that were used last."""
DIGEST_BYTES = hashlib.sha256().digest_size
PACKAGE = Path(__file__).parents[1]
STARTED = time.time()


def persistent_path(name: str, *decisive: str) -> Path | None:
    """The file of what follows from these texts, this package and its libraries, whether it is there yet or not.

    None where JAX keeps no compiled programs, or keeps them on another machine.
    """
    settings, sources = jax.config.values, _sources_digest(PACKAGE)
    folder = settings["jax_compilation_cache_dir"]
    if not folder or "://" in folder or not settings["jax_enable_compilation_cache"] or not sources:
        return None
    versions = sys.version, jax.__version__, jaxlib.__version__, flax.__version__, np.__version__
    digest = hashlib.sha256("\0".join((sources, *versions, *decisive)).encode()).hexdigest()
    return Path(folder, "traced", f"{name}-{digest}")


def read_persistent(path: Path) -> bytes | None:
    """The file's content; None where there is none, or it is damaged, which a note says."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:DIGEST_BYTES], data[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        print(f"note: {path} is damaged, and is made again", file=sys.stderr)
        return None
    with contextlib.suppress(OSError):  # a folder of somebody else's, who may empty it
        os.utime(path)
    return content


def write_persistent(path: Path, content: bytes) -> None:
    """Writes the file, and removes those that were used longest ago beyond MAX_BYTES; a note says where it cannot."""
    if len(content) > MAX_BYTES:
        return
    try:
        write_whole(path, hashlib.sha256(content).digest() + content, parents=True)
    except OSError as error:
        _note_unwritable(path.parent, str(error))
        return
    _remove_oldest(path.parent, MAX_BYTES)


@functools.cache
def _note_unwritable(folder: Path, error: str) -> None:
    """Say once what keeps files from being written."""
    print(f"note: traced programs and shapes are not kept in {folder}: {error}", file=sys.stderr)


def describe_static(value: Any) -> str:
    """A text that is another for every other value: of a number, text or type, and of records and lists of those.

    Raises TypeError for anything else, and for records of classes that are not this package's.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}({','.join(map(describe_static, value))})"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{describe_static(key)}:{describe_static(value[key])}' for key in sorted(value))}}}"
    if isinstance(value, np.dtype):
        return f"dtype({value.name})"
    if isinstance(value, type) and value.__module__.partition(".")[0] in ("jax", "numpy"):
        return f"{value.__module__}.{value.__name__}"
    own = type(value).__module__.partition(".")[0] == PACKAGE.name
    if not own or not dataclasses.is_dataclass(value):
        raise TypeError(f"{value!r} is no number, text, type or record of {PACKAGE.name}")
    fields = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    texts = (f"{name}={describe_static(value)}" for name, value in fields)
    return f"{type(value).__module__}.{type(value).__qualname__}({','.join(texts)})"


@functools.cache
def _sources_digest(folder: Path) -> str:
    """The SHA-256 of all sources in a folder; "" where they cannot be read, or have changed since the start."""
    digest = hashlib.sha256()
    paths = [path for path in sorted(folder.rglob("*.py")) if not path.name.startswith(".")]  # an editor's
    try:
        for path in paths:
            status = path.stat()
            if status.st_mtime > STARTED:
                return ""
            digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0".encode() + path.read_bytes())
    except OSError:
        return ""
    return digest.hexdigest() if paths else ""


def _remove_oldest(folder: Path, most: int) -> None:
    """Removes the files of a folder that were used longest ago until at most so many bytes are left."""
    files = []
    for path in folder.glob("[!.]*"):  # not those that others are writing
        with contextlib.suppress(OSError):  # another process has removed it
            status = path.stat()
            files.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            return
        with contextlib.suppress(OSError):  # of another user
            path.unlink(missing_ok=True)
            total -= size
