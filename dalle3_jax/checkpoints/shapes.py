"""The parameters of a system's networks in the abstract: names, shapes and logical axes, without computing any.

Tracing a network's initialisation takes a second or two, so what it tells is kept beside JAX's compiled programs.
"""

import functools
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from dalle3_jax.runtime.persistent_files import describe_static, persistent_path, read_persistent, write_persistent

__all__ = ["abstract_params"]


def abstract_params(modules: Mapping[str, Any], names: Collection[str] | None = None) -> dict[str, Any]:
    """{component: tree of shapes}, leaves boxed with their logical axes (`nn.unbox` drops them), of some or all.

    Raises ValueError where a network's input width is another network's and that one is missing.
    """
    return {name: _abstract_network(modules[name], modules) for name in (modules if names is None else names)}


def _abstract_network(module: nn.Module, modules: Mapping[str, Any]) -> Any:
    """The shapes of one network, as a tree of the caller's own."""
    inputs, structure = jax.tree.flatten(module.example_inputs(modules))
    decisive = jax.sharding.get_abstract_mesh(), jax.config.values["jax_enable_x64"]
    leaves, boxes = _network_shapes(module, tuple(inputs), structure, decisive)
    return jax.tree.unflatten(boxes, leaves)


@functools.lru_cache(maxsize=128)
def _network_shapes(module: Any, inputs: tuple[Any, ...], structure: Any, decisive: Any) -> tuple[list[Any], Any]:
    """The flattened shapes, out of their file if there is one: a folder asks often.

    Under the mesh that is set, of which shardings of shapes speak.
    """
    arguments = jax.tree.unflatten(structure, inputs)
    path = _shapes_path(module, arguments)
    if path and (content := read_persistent(path)) is not None:
        return jax.tree.flatten(_from_json(json.loads(content)))
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(module.init, key, *arguments)["params"]
    if path and (values := _to_json(shapes)) is not None:
        write_persistent(path, json.dumps(values).encode())
    return jax.tree.flatten(shapes)


def _shapes_path(module: nn.Module, inputs: Any) -> Path | None:
    """The file of this network's shapes; None for a network of other sources, or under a mesh."""
    if not jax.sharding.get_abstract_mesh().empty:
        return None
    try:
        described = describe_static(module)
    except TypeError:
        return None
    kinds = jax.tree.map(lambda leaf: str(jax.typeof(leaf)), inputs)
    return persistent_path("params", described, str(kinds), str(jax.config.values["jax_enable_x64"]))


def _to_json(shapes: Any) -> list | None:
    """[[names on the way, shape, type, logical axes or None], ...]; None of a tree that those do not tell."""
    rows = []
    for path, leaf in flatten_dict(shapes).items():
        value = nn.unbox(leaf)
        axes = list(leaf.names) if isinstance(leaf, nn.LogicallyPartitioned) else None
        rows.append([list(path), list(value.shape), value.dtype.name, axes])
    return rows if _from_json(rows) == shapes else None


def _from_json(rows: list) -> dict[str, Any]:
    """The tree of these rows."""
    leaves = {}
    for path, shape, dtype, axes in rows:
        value = jax.ShapeDtypeStruct(tuple(shape), dtype)
        leaves[tuple(path)] = value if axes is None else nn.LogicallyPartitioned(value, tuple(axes))
    return unflatten_dict(leaves)
