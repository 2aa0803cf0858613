"""Networks on meshes of explicit axes, which is what `jax.make_mesh` makes.

Under such axes every operation has to say how its result lies. Networks here leave that to XLA's partitioner and to
`nn.fsdp`: `init` and `apply` enter automatic axes, and give back what lies split by rows as their arguments do.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import linen as nn
from jax.core import Tracer
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P

__all__ = ["accept_explicit_axes", "automatic_mesh", "automatic_sharding"]

Network = TypeVar("Network", bound=type[nn.Module])


def accept_explicit_axes(network: Network) -> Network:
    """The class, whose `init` and `apply` may be called with arrays on a mesh of explicit axes, or under one.

    Parameters may lie split in any way, and arguments by their first axis.
    """
    for name in ("init", "apply"):
        setattr(network, name, _on_automatic_axes(getattr(network, name)))
    return network


def automatic_mesh(mesh: Mesh) -> Mesh:
    """The same devices under the same names, with axes that XLA's partitioner sees to."""
    return Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))


def automatic_sharding(sharding: Sharding | None) -> Sharding | None:
    """The same layout on a mesh of automatic axes; what lies on no mesh stays as it is."""
    if not isinstance(sharding, NamedSharding) or not isinstance(sharding.mesh, Mesh):
        return sharding
    if not _has_explicit_axes(sharding.mesh):
        return sharding
    return NamedSharding(automatic_mesh(sharding.mesh), sharding.spec, memory_kind=sharding.memory_kind)


def _on_automatic_axes(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a network that enters automatic axes where its arguments, or the mesh in use, have explicit ones."""

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.Array | np.ndarray)]
        context = jax.sharding.get_abstract_mesh()
        mesh = context if not context.empty else _mesh_of(arrays)
        if mesh is None or not _has_explicit_axes(mesh):
            return function(self, *args, **kwargs)
        rows, count = _row_axes(jax.tree.leaves((args[1:], kwargs)))
        shape_of_result = []

        def compute(*arrays: Any) -> list[Any]:
            remaining = iter(arrays)
            filled = [next(remaining) if isinstance(leaf, jax.Array | np.ndarray) else leaf for leaf in leaves]
            args, kwargs = jax.tree.unflatten(tree, filled)
            rules = nn.get_logical_axis_rules() or (("batch", rows),)
            with nn.logical_axis_rules(rules):
                results, shape = jax.tree.flatten(function(self, *args, **kwargs))
            shape_of_result[:] = [shape]
            return results

        def spec(result: Any) -> P:
            return P(rows) if rows and result.ndim and result.shape[0] == count else P()

        if not context.empty:
            scope = jax.sharding.use_abstract_mesh(context)
        else:
            scope = jax.set_mesh(mesh) if isinstance(mesh, Mesh) else jax.sharding.use_abstract_mesh(mesh)
        with scope:
            results = jax.eval_shape(jax.sharding.auto_axes(compute, out_sharding=P()), *arrays)
            specs = [spec(result) for result in results]
            results: Any = jax.sharding.auto_axes(compute, out_sharding=specs)(*arrays)
        return jax.tree.unflatten(shape_of_result[0], results)

    call.__name__, call.__doc__ = function.__name__, function.__doc__
    return call


def _has_explicit_axes(mesh: Mesh | AbstractMesh) -> bool:
    return AxisType.Explicit in mesh.axis_types


def _mesh_of(arrays: list[Any]) -> Mesh | AbstractMesh | None:
    """The mesh of explicit axes that an array lies on."""
    for array in arrays:
        if not isinstance(array, jax.Array):
            continue
        traced = isinstance(array, Tracer)
        sharding = jax.typeof(array).sharding if traced else array.sharding
        if isinstance(sharding, NamedSharding) and not sharding.mesh.empty and _has_explicit_axes(sharding.mesh):
            return sharding.mesh
    return None


def _row_axes(arguments: list[Any]) -> tuple[Any, int]:
    """(The mesh axes over which arguments are split by rows, the number of rows); (None, 0) where they are not."""
    for argument in arguments:
        if isinstance(argument, jax.Array) and argument.ndim:
            spec = getattr(jax.typeof(argument).sharding, "spec", P())
            if len(spec) and spec[0] is not None:
                return spec[0], argument.shape[0]
    return None, 0
