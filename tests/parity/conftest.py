"""Comparison with torch: left out as a whole where the reference packages are absent."""

import os
import time
from collections.abc import Callable
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from flax import linen as nn

from tests.parity.table import Row, lines

collect_ignore_glob = [] if all(map(find_spec, ("torch", "diffusers", "transformers"))) else ["test_*.py"]

LIMIT = 1e-4
"""The largest relative error that counts as the same function in float32."""

ROUNDS = 5

_rows: dict[str, Row] = {}


def pytest_configure(config: pytest.Config) -> None:
    """Make known what a test says of the row that it belongs to."""
    config.addinivalue_line("markers", "network(name, reference): the row of the closing table that a test belongs to")


@pytest.fixture(autouse=True)
def effort(request: pytest.FixtureRequest) -> None:
    """All cores and optimised programs for what is timed; for small networks these cost more than they bring."""
    import torch

    timed = "pace" in request.fixturenames
    jax.config.update("jax_disable_most_optimizations", not timed)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(cores if timed else 1)


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """The row of the closing table for the test's network."""
    name, reference = request.node.get_closest_marker("network").args
    return _rows.setdefault(name, Row(reference))


@pytest.fixture
def agree(row: Row, request: pytest.FixtureRequest) -> Callable:
    """agree(ours, theirs): compare, and keep the largest |difference| / largest |value| for the closing table."""
    node = request.node
    configuration = node.callspec.id if hasattr(node, "callspec") else node.name.removeprefix("test_")

    def check(ours, theirs, limit: float = LIMIT) -> None:
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs.detach().numpy(), np.float64)
        assert ours.shape == theirs.shape
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        row.add(configuration, error)
        assert error < limit, f"relative error {error:.2e}"

    return check


@pytest.fixture
def pace(row: Row) -> Callable:
    """pace(ours, theirs): our least time over theirs, in turns after a first call of each, for the closing table."""

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def measure(ours: Callable[[], object], theirs: Callable[[], object]) -> float:
        ours()
        theirs()
        times = [(seconds(ours), seconds(theirs)) for _ in range(ROUNDS)]
        fastest, expected = map(min, zip(*times, strict=True))
        row.ratio = fastest / expected
        return row.ratio

    return measure


@pytest.fixture
def run() -> Callable:
    """run(module, params, *args): apply, after checking that params have exactly the tree and shapes of the module."""

    def apply(module: nn.Module, params, *args, **kwargs):
        made = nn.unbox(jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs)))["params"]
        shapes = jax.tree.map(lambda leaf: leaf.shape, (made, params))
        assert shapes[0] == shapes[1]
        return jax.jit(lambda params: module.apply({"params": params}, *args, **kwargs))(params)

    return apply


def pytest_terminal_summary(terminalreporter) -> None:
    """Print the table."""
    if _rows:
        terminalreporter.section("ours against PyTorch, float32: relative errors, and our time over theirs")
        for line in lines(_rows):
            terminalreporter.write_line(line)
