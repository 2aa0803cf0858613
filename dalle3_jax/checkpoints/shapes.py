"""The parameters of a system's networks in the abstract: names, shapes and logical axes, without computing any."""

from collections.abc import Collection, Mapping
from typing import Any

import jax

__all__ = ["abstract_params"]


def abstract_params(modules: Mapping[str, Any], names: Collection[str] | None = None) -> dict[str, Any]:
    """{component: tree of shapes}, leaves boxed with their logical axes (`nn.unbox` drops them), of some or all.

    Raises ValueError where a network's input width is another network's and that one is missing.
    """
    key = jax.eval_shape(lambda: jax.random.key(0))

    def shapes(module: Any) -> Any:
        return jax.eval_shape(module.init, key, *module.example_inputs(modules))["params"]

    return {name: shapes(modules[name]) for name in (modules if names is None else names)}
