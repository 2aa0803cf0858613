"""Kernels lie split over the mesh and are used whole: each layer gathers its own and scatters the gradient back.

This is fully sharded data parallelism (ZeRO stage 3, arXiv 1910.02054), with Megatron's split of wide layers over
`tensor` (arXiv 1909.08053) beside it, written out for the product of each layer instead of left to XLA's partitioner.
Left alone it splits activations by channels wherever a kernel is split, with collectives about every layer, and adds
gradients up whole before it cuts them. Here a kernel is gathered in the type of the computation, in the forward pass
and again in what is recomputed, and the transpose of gathering reduces and scatters its gradient. Under `nn.remat` and
in scanned layers no more than a layer's kernels are whole at a time.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

from dalle3_jax.typing import Array

__all__ = ["Axes", "compute_axes", "divisible_spec", "gather_kernel", "with_gathered_kernel"]

Axes = tuple[str | None, ...]

COMPUTE_AXES = {"embed": "whole", "from_heads": "heads", "from_mlp": "mlp", "from_vocab": "vocab"}
"""What an axis of a stored kernel is called while a layer computes with it; others keep their names."""


def compute_axes(axes: Axes) -> Axes:
    """The logical axes of a stored kernel (or of what is added to its products) while a layer computes."""
    return tuple(COMPUTE_AXES.get(name, name) if name else None for name in axes)


def divisible_spec(shape: tuple[int, ...], axes: P, mesh: Mesh | AbstractMesh) -> P:
    """The spec with those mesh axes that divide the array's axes: of several the first ones, in turn.

    An axis whose length a mesh axis does not divide (three output channels, say) stays whole.
    """
    axes = P(*axes, *(None,) * (len(shape) - len(axes)))
    return P(*(_dividing_axes(length, names, mesh) for length, names in zip(shape, axes, strict=True)))


def with_gathered_kernel(product: Callable[..., Array], axes: Axes) -> Callable[..., Array]:
    """`product` (x, kernel, ...) on each device's rows of x, with the kernel gathered from the devices that store it.

    `axes` are the logical axes of the stored kernel, whose last two are its inputs and outputs. Without a mesh of
    several devices or logical rules (`training.sharding.with_axis_rules`), and where the rows are not split over
    devices, it is `product` alone.
    """

    def apply(x: Array, kernel: Array, *args: Any, **kwargs: Any) -> Array:
        mesh, rules = jax.sharding.get_abstract_mesh(), nn.get_logical_axis_rules()
        if mesh.size < 2 or not rules:
            return product(x, kernel, *args, **kwargs)

        def placed(shape: tuple[int, ...], names: Axes) -> P:
            return divisible_spec(shape, nn.logical_to_mesh(P(*names), rules), mesh)

        [rows], every = placed(x.shape[:1], ("batch",)), nn.logical_to_mesh(P("batch"), rules)
        if rows is None or P(rows) != every:
            return product(x, gather_kernel(kernel, axes), *args, **kwargs)
        stored, local = placed(kernel.shape, axes), placed(kernel.shape, compute_axes(axes))
        middle = (None,) * (x.ndim - 2)

        def shard(x: Array, kernel: Array) -> Array:
            y = product(x, _gather_shard(kernel, stored, local), *args, **kwargs)
            return jax.lax.psum(y, local[-2]) if local[-2] else y

        specs = (P(rows, *middle, local[-2]), stored)
        return jax.shard_map(shard, in_specs=specs, out_specs=P(rows, *middle, local[-1]))(x, kernel)

    return apply


def gather_kernel(kernel: Array, axes: Axes) -> Array:
    """The kernel laid out as a layer computes with it, where a mesh and rules say how."""
    mesh, rules = jax.sharding.get_abstract_mesh(), nn.get_logical_axis_rules()
    if mesh.empty or not rules:
        return kernel
    spec = divisible_spec(kernel.shape, nn.logical_to_mesh(P(*compute_axes(axes)), rules), mesh)
    return jax.lax.with_sharding_constraint(kernel, spec)


def _gather_shard(kernel: Array, stored: P, local: P) -> Array:
    """A shard of a kernel, joined with those of the devices that hold the rest of what this device computes with."""
    for axis, (held, wanted) in enumerate(zip(map(_axis_names, stored), map(_axis_names, local), strict=True)):
        for name in reversed(held[len(wanted) :]):
            if jax.lax.axis_size(name) > 1:
                kernel = jax.lax.all_gather(kernel, name, axis=axis, tiled=True)
    return kernel


def _axis_names(entry: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (entry,) if isinstance(entry, str) else entry or ()


def _dividing_axes(length: int, entry: str | tuple[str, ...] | None, mesh: Mesh | AbstractMesh) -> Any:
    names = _axis_names(entry)
    while names and length % math.prod(mesh.shape[name] for name in names):
        names = names[:-1]
    return names[0] if len(names) == 1 else names or None
