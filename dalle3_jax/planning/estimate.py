"""A plan without a compiler: closed forms of shapes and layouts, checked against compiled programs in docs/plans."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from dalle3_jax.planning.costs import Collective

__all__ = ["activation_bytes", "parameter_collectives", "replicated_arrays", "shard_bytes", "tracing_for_tpu"]


def tracing_for_tpu() -> AbstractContextManager[Any]:
    """Within, programs are traced as for one TPU: with its kernels of attention, and its loops over layers."""
    tpu = AbstractDevice("TPU", None, "tpu")
    mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=tpu)
    return jax.sharding.use_abstract_mesh(mesh)


def shard_bytes(tree: Any) -> int:
    """Bytes that one device holds of arrays that carry their shardings."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "sharding")]
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * _item_bytes(leaf) for leaf in leaves)


def replicated_arrays(tree: Any, min_bytes: int) -> dict[str, int]:
    """Arrays of at least so many bytes that every device holds whole, by their paths."""
    arrays = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        amount = leaf.size * _item_bytes(leaf)
        if amount >= min_bytes and leaf.sharding.mesh.size > 1 and leaf.sharding.is_fully_replicated:
            arrays[jax.tree_util.keystr(path)] = amount
    return arrays


def activation_bytes(loss: Callable[[Any], Any], params: Any, rows: int) -> int:
    """Bytes that the forward pass keeps for the backward one, of arrays whose first axis is the batch of `rows`."""
    kept = jax.eval_shape(lambda params: jax.vjp(loss, params, has_aux=True)[1], params)
    leaves = [leaf for leaf in jax.tree.leaves(kept) if leaf.ndim and rows in leaf.shape[:2]]
    return sum(leaf.size * _item_bytes(leaf) for leaf in leaves)


def parameter_collectives(
    trained: Any, frozen: Any, width: int, passes: int, mesh: Mapping[str, int], axes: Sequence[str]
) -> tuple[Collective, ...]:
    """Collectives of parameters that lie split over `axes`: gathered `passes` times in the type of computation, of
    `width` bytes, frozen ones once; gradients reduced and scattered once. One mesh axis after the other.
    """
    collectives = []
    for tree, kinds in ((trained, {"all-gather": passes, "reduce-scatter": 1}), (frozen, {"all-gather": 1})):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            split = [
                name for entry in leaf.sharding.spec for name in _spec_axes(entry) if name in axes and mesh[name] > 1
            ]
            whole = leaf.size * width
            for name in split:  # the first one is gathered last, and gives the whole
                label = jax.tree_util.keystr(path)
                collectives += [Collective(kind, mesh[name], whole, times, label) for kind, times in kinds.items()]
                whole //= mesh[name]
    return tuple(collectives)


def _spec_axes(entry: Any) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else tuple(entry or ())


def _item_bytes(leaf: Any) -> int:
    return 4 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
