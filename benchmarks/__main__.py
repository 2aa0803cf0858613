"""Run the comparisons and print their tables: `python -m benchmarks [name ...] [--quick] [--rounds N]`.

`shortcuts` and `growth` are of our own code alone; the others compare with PyTorch, and are left out where it is not.
"""

import argparse
import gc
import os
import platform
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import TYPE_CHECKING

from benchmarks.growth import print_growth
from benchmarks.shortcuts import print_shortcuts

if TYPE_CHECKING:
    from benchmarks.timing import TimingResult

COMPARISONS = ("t5", "vae_decode", "unet_forward", "train_step", "sampling_loop")
NAMES = (*COMPARISONS, "shortcuts", "growth")
VERSIONS = ("jax", "flax", "torch", "diffusers", "transformers")
HEADER = """\
| workload | ours | PyTorch | ratio (rounds) | floor | goal | met | GFLOP | our GFLOP/s | of peak | theirs of peak |
|---|---|---|---|---|---|---|---|---|---|---|"""


def table_row(result: "TimingResult") -> str:
    """One line of the table; times are medians, the ratios of single rounds span the brackets."""
    rate = result.gflop / result.ours
    cells = (
        result.comparison.title,
        format_seconds(result.ours),
        format_seconds(result.theirs),
        f"{result.ratio:.2f} ({min(result.ratios):.2f} to {max(result.ratios):.2f})",
        f"{result.comparison.floor:.2f}",
        f"{result.comparison.goal:.2f}",
        result.verdict(),
        f"{result.gflop:.1f}",
        f"{rate:.0f}",
        f"{rate / result.peak:.0%}",
        f"{result.gflop / result.theirs / result.peak:.0%}",
    )
    return f"| {' | '.join(cells)} |"


def format_seconds(value: float) -> str:
    """A time in milliseconds below one second."""
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.1f} ms"


def machine_line() -> str:
    """One line on what this runs on and with what."""
    versions = ", ".join(f"{name} {version(name)}" for name in VERSIONS if find_spec(name))
    malloc = "GLIBC_TUNABLES set" if os.environ.get("GLIBC_TUNABLES") else "default malloc"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{platform.machine()}, {cores} threads a side, float32, {malloc}; {versions}"


def main() -> None:
    """Measure what was asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Time ratios against PyTorch in one run.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"which to run: {', '.join(NAMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="tiny networks and two rounds: does it run at all")
    parser.add_argument("--rounds", type=int, help="rounds of alternating runs (default 7, quick 2; at least 2)")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(NAMES)):
        parser.error(f"no benchmark {', '.join(unknown)}: choose from {', '.join(NAMES)}")
    rounds = max(2, options.rounds or (2 if options.quick else 7))
    names = [name for name in options.names or NAMES if name not in COMPARISONS or find_spec("torch")]
    if missing := sorted(set(options.names) - set(names)):
        parser.error(f"{', '.join(missing)}: this comparison needs torch, diffusers and transformers")
    print(machine_line())
    if comparisons := [name for name in names if name in COMPARISONS]:
        print_comparisons(comparisons, rounds, options.quick)
    if "shortcuts" in names:
        print_shortcuts(rounds, options.quick)
    if "growth" in names:
        print_growth(options.quick)


def print_comparisons(names: list[str], rounds: int, quick: bool) -> None:
    """Measure ours and PyTorch's of each workload, and print their table."""
    import torch

    from benchmarks.timing import core_count, measure_comparison

    torch.set_num_threads(core_count())
    results = []
    for name in names:
        result = measure_comparison(import_module(f"benchmarks.{name}").comparison(quick), rounds)
        print(f"{result.comparison.title}: {result.comparison.line}; product {result.peak:.0f} GFLOP/s", flush=True)
        results.append(result)
        gc.collect()
    print(f"\n{rounds} rounds; ratio = our time / PyTorch's, below 1 we are faster")
    print("\n".join([HEADER, *map(table_row, results)]))


if __name__ == "__main__":
    main()
