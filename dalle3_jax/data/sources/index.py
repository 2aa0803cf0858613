"""Tables made once from files that are slow to look through, and kept for the next run and the other hosts.

A table lies in FOLDER/.dalle3_jax under a name that changes with the file that it was made from, so that one of an
older file is never taken; where that folder cannot be written to, it lies in the home folder. Tables are written whole:
hosts that make the same one do so twice, and nothing else happens.
"""

import functools
import io
import itertools
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from dalle3_jax.data import files

T = TypeVar("T")
R = TypeVar("R")
BESIDE = ".dalle3_jax"
ELSEWHERE = Path(".cache", "dalle3_jax", "indexes")
VERSION = 3
"""Of the tables' columns: another one makes all of them anew."""

THREADS = 8
UNKNOWN = (1, 1)
"""Height and width of a picture that does not say them; reading it raises BadRecord."""


def load_tables(
    entries: Sequence[files.FileEntry], make: Callable[[files.FileEntry], np.ndarray], what: str
) -> list[np.ndarray]:
    """The table of every file, made where it is not there yet; a bar shows it where it takes long.

    Hosts that start together begin at different files, and each finds what the others have finished meanwhile.
    """
    first = int(np.random.default_rng().integers(max(len(entries), 1)))
    made = map_in_threads(lambda entry: load_or_make_table(entry, make), [*entries[first:], *entries[:first]], what, 1)
    rest = len(entries) - first
    return [*made[rest:], *made[:rest]]


def map_in_threads(function: Callable[[T], R], items: Sequence[T], what: str, chunk_size: int = 64) -> list[R]:
    """The function's results for all items, `chunk_size` of them a task, under a bar where it takes long."""
    with (
        ThreadPoolExecutor(THREADS) as pool,
        tqdm(total=len(items), desc=what, dynamic_ncols=True, delay=5) as bar,
    ):

        def some(first: int) -> list[R]:
            made = [function(item) for item in items[first : first + chunk_size]]
            bar.update(len(made))
            return made

        return list(itertools.chain.from_iterable(pool.map(some, range(0, len(items), chunk_size))))


def load_or_make_table(entry: files.FileEntry, make: Callable[[files.FileEntry], np.ndarray]) -> np.ndarray:
    """The table of one file: read where it was kept, else made, and kept where that can be done."""
    places = table_paths(entry)
    for place in places:
        try:
            return np.load(io.BytesIO(files.read_bytes(place)), allow_pickle=False)
        except (OSError, EOFError, ValueError):  # none, no table, or another's: it is made again
            continue
    table = make(entry)
    content = io.BytesIO()
    np.save(content, table, allow_pickle=False)
    errors = []
    for place in places:
        try:
            files.write_whole(place, content.getvalue())
            return table
        except Exception as error:  # stores have errors of their own, and the table is there without being kept
            errors.append(getattr(error, "strerror", None) or str(error))
    note_unkept(entry.path.rpartition("/")[0], "; ".join(errors))
    return table


@functools.cache
def note_unkept(folder: str, errors: str) -> None:
    """Say once that the tables of a folder cannot be kept, and why."""
    print(f"note: {folder} is looked through at every start, its index cannot be kept: {errors}", file=sys.stderr)


def table_paths(entry: files.FileEntry) -> list[str]:
    """The paths where the table of a file may lie: beside it, else in the home folder, where there is one."""
    folder = entry.path.rpartition("/")[0] or "."
    name = f"{entry.name}.{entry.digest}.{VERSION}.npy"
    beside = files.join_path(files.join_path(folder, BESIDE), name)
    try:
        home = Path.home()
    except RuntimeError:
        return [beside]
    return [beside, str(home / ELSEWHERE / sha256(files.encode_name(folder)).hexdigest()[:16] / name)]
