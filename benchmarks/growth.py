"""How the cost of an image grows with batch, size, steps, depth and devices: `python -m benchmarks growth [--quick]`.

Every case runs in a process of its own, so that its peak of memory is its own and a number of (virtual) devices can be
asked for. A base of one image of 128 px in 20 steps on one device; each row changes one thing.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping

import jax

from benchmarks.shortcuts import demo_pipeline

BASE = {"batch": 1, "size": 128, "steps": 20, "depth": 1, "devices": 1}
AXES: Mapping[str, tuple[int, ...]] = {
    "batch": (1, 4, 16),
    "size": (256, 512),
    "steps": (10, 40),
    "depth": (2, 4),
    "devices": (2, 4, 8),
}
QUICK_BASE = {"batch": 1, "size": 16, "steps": 2, "depth": 1, "devices": 1}
QUICK_AXES: Mapping[str, tuple[int, ...]] = {"batch": (1,), "devices": (2,)}
CALLS = 5
HEADER = """\
| case | first call, compiling | seconds a batch | seconds an image | ms a step | peak memory |
|---|---|---|---|---|---|"""


def print_growth(quick: bool) -> list[dict[str, float]]:
    """Measure every case and print the table."""
    base, axes = (QUICK_BASE, QUICK_AXES) if quick else (BASE, AXES)
    print(HEADER)
    measured = []
    for axis, values in axes.items():
        for value in values:
            case = base | {axis: value}
            if axis == "devices":
                case["batch"] = value  # an image a device
            measured.append(measure_apart(case, quick))
            print(table_row(f"{axis} {value}", case, measured[-1]), flush=True)
    return measured


def table_row(label: str, case: Mapping[str, int], found: Mapping[str, float]) -> str:
    """A line of the table."""
    seconds, memory = found["seconds"], found["memory"] / 2**20
    cells = f"{found['first']:.1f} s", f"{seconds:.3f}", f"{seconds / case['batch']:.3f}"
    return f"| {label} | {' | '.join(cells)} | {1000 * seconds / case['steps']:.1f} | {memory:.0f} MiB |"


def measure_apart(case: Mapping[str, int], quick: bool) -> dict[str, float]:
    """What `measure` finds in a process of its own; RuntimeError with the end of its errors where it fails."""
    command = [sys.executable, "-m", "benchmarks.growth", json.dumps([case, quick])]
    surroundings = {**os.environ, "JAX_NUM_CPU_DEVICES": str(case["devices"])}
    done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the case {case} ended with {done.returncode}: {done.stderr[-1000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(case: Mapping[str, int], quick: bool) -> dict[str, float]:
    """Seconds of the first call, which compiles, and of later ones (their median), and the peak of memory in bytes."""
    pipeline = demo_pipeline(quick, case["depth"], case["devices"])
    condition, null = (pipeline.encode([text] * case["batch"]) for text in ("a panda on a beach", ""))
    size = (case["size"], case["size"])
    requests = [
        pipeline.request("a panda on a beach", seed=seed, size=size, steps=case["steps"])
        for seed in range(case["batch"])
    ]
    times = []
    for _ in range(1 + CALLS):
        began = time.perf_counter()
        jax.block_until_ready(pipeline.sample_latents(condition, null, requests))
        times.append(time.perf_counter() - began)
    memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"first": times[0], "seconds": statistics.median(times[1:]), "memory": float(memory)}


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)
    print(json.dumps(measure(*json.loads(sys.argv[1]))))
