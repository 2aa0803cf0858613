"""Comparison with torch: left out as a whole where the reference packages are absent."""

from collections.abc import Callable
from importlib.util import find_spec

import jax
import numpy as np
import pytest
from flax import linen as nn

collect_ignore_glob = [] if all(map(find_spec, ("torch", "diffusers", "transformers"))) else ["test_*.py"]

LIMIT = 1e-4
"""The largest relative error that counts as the same function in float32."""

_errors: dict[str, float] = {}


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Callable:
    """agree(ours, theirs): compare, and keep the largest |difference| / largest |value| for the closing table."""

    def check(ours, theirs, limit: float = LIMIT) -> None:
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs.detach().numpy(), np.float64)
        assert ours.shape == theirs.shape
        error = np.abs(ours - theirs).max() / np.abs(theirs).max()
        test = request.node.nodeid.split("/")[-1]
        _errors[test] = max(error, _errors.get(test, 0.0))
        assert error < limit, f"relative error {error:.2e}"

    return check


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
    if _errors:
        terminalreporter.section("largest relative error against torch, float32")
        for test, error in _errors.items():
            terminalreporter.write_line(f"{error:9.1e}  {test}")
