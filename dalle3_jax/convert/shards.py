"""The tensors of a network that lies in one file or in several, as one mapping."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from dalle3_jax.checkpoints.tensors import FLOATS, Tensors, is_finite

__all__ = ["Shards"]

KINDS = [dtype.name for dtype in FLOATS.values()]
SHOWN = 20
"""Misfits that an error lists; of more it gives the number."""


class Shards(Mapping[str, np.ndarray]):
    """Views by name, in the order of the files and of the bytes within them, so that reading is sequential.

    `index` says which file holds which tensor, where there is such a list. Raises ValueError naming the files when a
    name is in two of them, or when the list and the files disagree.
    """

    def __init__(self, files: Sequence[Path], index: Mapping[str, str] | None = None):
        self._files: dict[str, Tensors] = {}
        errors = []
        for file in map(Tensors, files):
            twice = [name for name in file if name in self._files]
            errors += [f"{name} is in {self._files[name].path.name} and in {file.path.name}" for name in twice]
            self._files |= dict.fromkeys(file, file)
        if index is not None:
            present = {name: file.path.name for name, file in self._files.items()}
            absent = (name for name in index if present.get(name) != index[name])
            errors += [f"{name} is not in {index[name]}, as the index says" for name in absent]
            errors += [f"{name} of {file} is not in the index" for name, file in present.items() if name not in index]
        if errors:
            raise ValueError(f"{', '.join(map(str, files))}: {_join_errors(errors)}")

    def __getitem__(self, name: str) -> np.ndarray:
        return self._files[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape."""
        return self._files[name].shape(name)

    def warm(self, name: str) -> None:
        """Reads a tensor's bytes into the page cache."""
        self._files[name].warm(name)

    def check_types(self, names: Iterable[str]) -> None:
        """Raises ValueError listing those that are not of a float type; no bytes are touched."""
        files = ((name, self._files[name]) for name in names)
        types = ((name, file.dtype(name).name, file.path.name) for name, file in files)
        wrong = [f"{name} in {file} is {kind}" for name, kind, file in types if kind not in KINDS]
        if wrong:
            raise ValueError(f"{_join_errors(wrong)}; weights are {', '.join(KINDS)}")

    def read_finite(self, name: str) -> np.ndarray:
        """A tensor of a float type, after looking it through; ValueError naming the file where it is not finite."""
        tensor = self[name]
        if not is_finite(tensor):
            path = self._files[name].path
            raise ValueError(f"{name} in {path} holds NaN or infinity: the file is damaged or was never good")
        return tensor


def _join_errors(errors: Sequence[str]) -> str:
    more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
    return "; ".join(errors[:SHOWN]) + more
