"""How often each version of a caption is drawn: counted over the batches that training would see, on 1 and on 2 hosts.

    python -m scripts.blend                    # 100,000 draws of 0.95 descriptive, 0.05 alt, a tenth left empty

Draws go through the pipeline as in training (order, rows, blend), on records whose pictures are a few pixels.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from dalle3_jax.data import batches
from dalle3_jax.data.records import Record
from dalle3_jax.data.sources.scenes import ScenesSource

BATCH = 500
VERSIONS = ("", "descriptive", "alt")


@dataclass(frozen=True)
class NumberedCaptions(ScenesSource):
    """Records that differ in nothing but their number; as many as a large run reads in a few epochs."""

    length: int = 40_000

    def __getitem__(self, index: int) -> Record:
        """The record at `index`, whose captions are their version and its number."""
        texts = {version: f"{version} {index}" for version in VERSIONS if version}
        return Record(str(index), np.zeros((8, 8, 3), np.uint8), 8, 8, texts)


def tokenize_numbers(texts: Sequence[str], length: int) -> tuple[np.ndarray, np.ndarray]:
    """Captions as (version, record) in the place of token ids."""
    parts = [text.split() or ["", "-1"] for text in texts]
    ids = np.array([[VERSIONS.index(version), int(number)] for version, number in parts], np.int32)
    return ids, np.ones(ids.shape, bool)


def collect_rows(count: int, hosts: int, seed: int = 0) -> np.ndarray:
    """(version, record) of the first `count` rows, in the order of the batches, put together from all hosts."""
    data = {"size": (8, 8), "captions": {"descriptive": 0.95, "alt": 0.05}, "dropout": 0.1, "threads": 1}
    how = {"tokenize": tokenize_numbers, "batch_size": BATCH // hosts, "seed": seed, "process_count": hosts}
    streams = [batches.make_batches(data, **how, process_index=i, source=NumberedCaptions()) for i in range(hosts)]
    return np.concatenate([np.concatenate([next(one)["ids"] for one in streams]) for _ in range(count // BATCH)])


def main() -> None:
    """Print the counts and whether both are the same, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000, help="draws (default 100,000)")
    found = {}
    for hosts in (1, 2):
        rows = collect_rows(parser.parse_args().count, hosts)
        counts = Counter(VERSIONS[version] or "(empty)" for version in rows[:, 0].tolist())
        said = ", ".join(f"{name} {n:,} ({n / len(rows):.2%})" for name, n in counts.most_common())
        found[hosts] = sha256(rows.tobytes()).hexdigest()[:16]
        print(f"{hosts} host{'s' * (hosts > 1)}: {said}; rows {found[hosts]}")
    print("the same rows in the same order" if found[1] == found[2] else "NOT THE SAME")


if __name__ == "__main__":
    main()
