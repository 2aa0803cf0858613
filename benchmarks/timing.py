"""Two sides timed in turns in one process, with the machine's own peak timed in the same rounds."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

PEAK_SIDE = 2048
SHORTEST = 0.3
"""Seconds that a side runs at least in a round: short work is repeated."""

Side = Callable[[], object]


@dataclass(frozen=True)
class Comparison:
    """Our side and PyTorch's of the same work; floor and goal are ratios, our time over theirs."""

    title: str
    line: str
    ours: Side
    theirs: Side
    parameters: tuple[int, int]
    floor: float
    goal: float


@dataclass(frozen=True)
class TimingResult:
    """Medians in seconds and GFLOP/s of one comparison."""

    comparison: Comparison
    ours: float
    theirs: float
    ratios: tuple[float, ...]
    gflop: float
    peak: float

    @property
    def ratio(self) -> float:
        """Our median time over theirs: below 1 we are faster."""
        return self.ours / self.theirs

    def verdict(self) -> str:
        """Whether the ratio meets the goal, the floor or neither."""
        if self.ratio <= self.comparison.goal:
            return "goal"
        return "floor" if self.ratio <= self.comparison.floor else "missed"


def core_count() -> int:
    """The cores that this process may use: XLA takes them all, and torch is given as many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_comparison(comparison: Comparison, rounds: int) -> TimingResult:
    """Load and compile both sides, then run them in turns; raises when they do not hold the same parameters."""
    ours, theirs = comparison.parameters
    if ours != theirs:
        raise ValueError(f"{comparison.title}: {ours:,} parameters against {theirs:,}: not the same network")
    gflop = counted_flops(comparison.theirs) / 1e9
    peak = _peak_product()
    sides = [_time_repeatedly(comparison.ours), _time_repeatedly(comparison.theirs), _time_repeatedly(peak)]
    times = [[] for _ in sides]
    for turn in range(rounds):
        order = range(len(sides)) if turn % 2 == 0 else reversed(range(len(sides)))
        for i in order:
            times[i].append(sides[i]())
    ours, theirs, product = map(statistics.median, times)
    ratios = tuple(a / b for a, b in zip(times[0], times[1], strict=True))
    return TimingResult(comparison, ours, theirs, ratios, gflop, 2 * PEAK_SIDE**3 / product / 1e9)


def counted_flops(side: Side) -> float:
    """Floating point operations of PyTorch's side in products and convolutions; both sides are held to it."""
    # Attention as plain products: the counter does not know the CPU's fused kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        side()
    return float(counter.get_total_flops())


def count_parameters(tree: Any) -> int:
    """Parameters in a tree of arrays or in a torch module."""
    if isinstance(tree, torch.nn.Module):
        return sum(p.numel() for p in tree.parameters())
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _time_repeatedly(side: Side) -> Callable[[], float]:
    """A function that runs a warm side often enough and returns seconds per call."""
    side()
    start = time.perf_counter()
    side()
    calls = max(1, round(SHORTEST / (time.perf_counter() - start)))

    def run() -> float:
        start = time.perf_counter()
        for _ in range(calls):
            side()
        return (time.perf_counter() - start) / calls

    return run


def _peak_product() -> Side:
    """The float32 product of the library that is faster at it here."""
    a = torch.randn(PEAK_SIDE, PEAK_SIDE)
    x = jnp.asarray(a.numpy())
    product = jax.jit(jnp.matmul)
    sides: list[Side] = [lambda: product(x, x).block_until_ready(), lambda: a @ a]
    return min(sides, key=lambda side: min(_time_repeatedly(side)() for _ in range(3)))
