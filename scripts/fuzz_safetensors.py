"""Mutated safetensors headers against the reader: each file is refused by its name, or read as what it says.

    python scripts/fuzz_safetensors.py --count 20000 --seed 0

Exit code 1 when one of them is a failure: any other error, a tensor that is not the bytes which the safetensors library
finds, a file that the library refuses and the reader does not, or more than a second for one file.
"""

import argparse
import faulthandler
import random
import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors_mutations import mutate_file, valid_file

from dalle3_jax.checkpoints.tensors import FLOATS, Tensors, is_finite

SECONDS, STUCK = 1.0, 30.0
REASONS = {
    "a pickle": "pickle",
    "cut short": "cut short",
    "more than .* is not believed": "header too long",
    "header is not JSON": "no JSON object",
    "occurs twice": "a name twice",
    "is no name": "bad name",
    "is not described": "bad entry",
    "of the type": "unknown type",
    "made of whole numbers": "no sizes",
    "only sizes belong": "other numbers",
    "larger than any": "too large",
    "cannot take": "shape and bytes differ",
    "begins at byte": "gap or overlap",
    "__metadata__": "bad metadata",
}


class FuzzOutcome(NamedTuple):
    """What became of one file; `failure` is empty where that was right."""

    verdict: str
    library: bool
    seconds: float
    failure: str


def judge_file(path: Path, data: bytes, original: bytes) -> FuzzOutcome:
    """Writes one file, and reads it whole, here and by the safetensors library."""
    path.write_bytes(data)
    theirs = _read_by_library(data)
    start = time.perf_counter()
    try:
        ours = _read_by_package(path)
    except ValueError as error:
        verdict, failure = f"refused: {_reason(str(error))}", "" if path.name in str(error) else f"unnamed: {error}"
    except Exception as error:
        verdict, failure = "failed", repr(error)
    else:
        verdict = "read: the same tensors" if ours == _read_by_library(original) else "read: other tensors"
        failure = "" if ours == theirs else "the library refuses it" if theirs is None else "not the library's tensors"
    seconds = time.perf_counter() - start
    slow = f"{seconds:.1f} s" if seconds > SECONDS else ""
    return FuzzOutcome(verdict, theirs is not None, seconds, failure or slow)


def fuzz(folder: Path, count: int, seed: int) -> Iterator[tuple[str, FuzzOutcome]]:
    """So many mutations, each with its kind; number i of a seed is the same in every run."""
    original = valid_file()
    for i in range(count):
        kind, data = mutate_file(original, random.Random(f"{seed} {i}"))
        yield kind, judge_file(folder / "mutated.safetensors", data, original)


def _read_by_package(path: Path) -> dict[str, tuple[Any, ...]]:
    """Every tensor's type, shape and bytes, after looking through those of a float type."""
    tensors = {}
    for name, tensor in Tensors(path).items():
        if tensor.dtype in FLOATS.values():
            is_finite(tensor)
        tensors[name] = tensor.dtype, tensor.shape, tensor.tobytes()
    return tensors


def _read_by_library(data: bytes) -> dict[str, tuple[Any, ...]] | None:
    """The same by the safetensors library; None where it refuses."""
    try:
        found = safetensors.deserialize(data)
    except (safetensors.SafetensorError, ValueError):
        return None
    kinds = {"F16": "float16", "BF16": jnp.bfloat16, "F32": "float32", "F64": "float64", "BOOL": "bool"}
    kinds |= {f"{sign.upper()[0]}{bits}": f"{sign}{bits}" for sign in ("int", "uint") for bits in (8, 16, 32, 64)}
    return {
        name: (np.dtype(kinds.get(entry["dtype"], "V1")), tuple(entry["shape"]), bytes(entry["data"]))
        for name, entry in found
    }


def _reason(message: str) -> str:
    return next((reason for pattern, reason in REASONS.items() if re.search(pattern, message)), "no JSON")


def main() -> int:
    """Runs all of them and prints the counts."""
    parser = argparse.ArgumentParser(description="Mutated safetensors headers against the reader.")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.dump_traceback_later(max(STUCK, arguments.count / 50), exit=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        found = list(fuzz(Path(folder), arguments.count, arguments.seed))
    for verdict, count in sorted(Counter(outcome.verdict for _, outcome in found).items()):
        print(f"{count:7,}  {verdict}")
    stricter = sum(outcome.library and outcome.verdict.startswith("refused") for _, outcome in found)
    print(f"{stricter:7,}  refused here, read by the safetensors library")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    slowest = max(outcome.seconds for _, outcome in found)
    print(
        f"{time.perf_counter() - start:.1f} s in all, {slowest * 1000:.1f} ms for the slowest, {peak:.0f} MiB at most"
    )
    failures = [(i, kind, outcome.failure) for i, (kind, outcome) in enumerate(found) if outcome.failure]
    for i, kind, failure in failures[:20]:
        print(f"FAILURE number {i} ({kind}): {failure}")
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
