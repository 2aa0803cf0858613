"""How much memory and time the import of a large encoder takes, beside reading the same bytes and nothing else.

python scripts/synthetic_t5.py /data/t5-xxl
python benchmarks/import_t5.py /data/t5-xxl

Both readings begin with the files out of the page cache. Memory is the peak of the process's anonymous pages: pages of
the mapped files are the cache's, which gives them back when somebody wants them.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp

from dalle3_jax import convert


def main(argv: list[str]) -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(argv).folder
    files = sorted(folder.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    jax.block_until_ready(jnp.zeros(1))  # what JAX takes for itself is not the import's
    disk = [time_call(lambda: read_sequentially(files))]
    evict_files(files)
    with peak_memory() as peak:
        begin = time.perf_counter()
        module, params = convert.load(folder, dtype=jnp.bfloat16, progress=True)
        jax.block_until_ready(params)
        seconds = time.perf_counter() - begin
    disk.append(time_call(lambda: read_sequentially(files)))
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    fast, slow = sorted(disk)
    print(f"{type(module).__name__}: {count:,} parameters, {held / 1e9:.2f} GB as bfloat16")
    print(f"import {seconds:.1f} s, {size / seconds / 1e9:.2f} GB/s")
    print(f"the disk, sequentially, before and after: {size / disk[0] / 1e9:.2f} and {size / disk[1] / 1e9:.2f} GB/s")
    print(f"share of the disk's speed: {fast / seconds:.0%} of the faster reading, {slow / seconds:.0%} of the slower")
    more = (peak[0] - held) / 1e9
    print(f"peak of anonymous memory above the start: {peak[0] / 1e9:.2f} GB, {more:.2f} GB more than the parameters")


def read_sequentially(files: list[Path]) -> None:
    """Reads all bytes in order, in pieces of 16 MiB, from the disk."""
    evict_files(files)
    for file in files:
        with file.open("rb", buffering=0) as stream:
            buffer = bytearray(2**24)
            while stream.readinto(buffer):
                pass


def evict_files(files: list[Path]) -> None:
    """Lets the page cache forget the files."""
    os.sync()
    for file in files:
        descriptor = os.open(file, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def time_call(function) -> float:
    """Seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """The growth of the process's anonymous memory at its highest, looked at every 10 ms; Linux only."""
    start, peak, done = anonymous_bytes(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], anonymous_bytes() - start)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


def anonymous_bytes() -> int:
    """Bytes of anonymous memory that this process holds."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("this system's /proc/self/status has no RssAnon: the measurement needs Linux")


if __name__ == "__main__":
    main(sys.argv[1:])
