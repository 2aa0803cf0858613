"""Rows of a batch on the devices of a mesh, and back."""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

__all__ = ["gather_rows", "shard_rows"]


def shard_rows(rows: Any, mesh: Mesh | None) -> Any:
    """Host arrays on the device, or sharded over all devices of the mesh where their number divides the rows."""
    if mesh is None:
        return rows
    divides = len(jax.tree.leaves(rows)[0]) % mesh.size == 0
    spec = PartitionSpec(mesh.axis_names) if divides else PartitionSpec()
    return jax.device_put(rows, NamedSharding(mesh, spec))


def gather_rows(rows: Any, mesh: Mesh | None) -> Any:
    """Device arrays as numpy, all of them on every host."""
    if mesh is not None:
        rows = jax.device_put(rows, NamedSharding(mesh, PartitionSpec()))
    return jax.device_get(rows)
