"""How arrays lie on the devices: the mesh, and the rules from logical axes to mesh axes."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

__all__ = [
    "RULES",
    "batch_sharding",
    "check_batch",
    "make_mesh",
    "mesh_shape",
    "put_batch",
    "replicated",
    "ruled",
    "shardings",
]

AXES = ("data", "fsdp", "tensor")
RULES = (
    ("batch", ("data", "fsdp")),
    ("height", None),
    ("in", "fsdp"),
    ("out", "tensor"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("vocab", "tensor"),
    ("layers", None),
    # Kernels of convolutions keep `in` whole: with `in` and `out` both split and the batch over data and fsdp, XLA's
    # partitioner (jaxlib 0.10.2) gives wrong gradients of a convolution's input, silently. A test holds this.
    ("kernel_in", None),
    ("kernel_out", ("tensor", "fsdp")),
)


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh (data, fsdp, tensor) over `devices` (all by default); sizes as `mesh_shape` takes them."""
    devices = jax.devices() if devices is None else list(devices)
    shape = mesh_shape(sizes, len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def mesh_shape(sizes: Mapping[str, int], devices: int) -> tuple[int, ...]:
    """Sizes of data, fsdp and tensor; one may be -1: what remains, those left out are 1.

    Raises ValueError when they do not multiply to the number of devices.
    """
    shape = [int(sizes.get(axis, 1)) for axis in AXES]
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and devices % known == 0:
        shape[shape.index(-1)] = devices // known
    if min(shape) < 1 or math.prod(shape) != devices:
        asked = ", ".join(f"{axis}={sizes.get(axis, 1)}" for axis in AXES)
        raise ValueError(
            f"mesh ({asked}) does not fit {devices} devices: the sizes must multiply to {devices}; "
            "set one of config.mesh.data, fsdp, tensor to -1 to take what remains"
        )
    return tuple(shape)


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, accumulate: int = 1) -> None:
    """Raise ValueError unless the batch divides over data * fsdp devices and `accumulate` parts."""
    rows = mesh.shape["data"] * mesh.shape["fsdp"]
    if accumulate < 1 or batch_size < 1 or batch_size % (rows * accumulate):
        raise ValueError(
            f"train.batch_size={batch_size} does not divide into {rows} devices (mesh data {mesh.shape['data']} x "
            f"fsdp {mesh.shape['fsdp']}) times train.accumulate={accumulate}: "
            f"use a multiple of {rows * max(accumulate, 1)}"
        )


def replicated(mesh: Mesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis over data and fsdp."""
    return NamedSharding(mesh, P(("data", "fsdp")))


def shardings(boxed: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Shardings of an abstract tree of boxed parameters, without the boxes.

    An axis whose length a mesh axis does not divide (three output channels, say) stays whole.
    """

    def layout(leaf: Any, logical: P) -> NamedSharding:
        return NamedSharding(mesh, _divisible(leaf.shape, nn.logical_to_mesh(_of_kernel(logical), RULES), mesh))

    return jax.tree.map(layout, nn.unbox(boxed), nn.get_partition_spec(boxed))


def _of_kernel(logical: P) -> P:
    is_convolution = len(logical) == 4 and logical[-2:] == ("in", "out")
    return P(*logical[:2], "kernel_in", "kernel_out") if is_convolution else logical


def _divisible(shape: tuple[int, ...], spec: P, mesh: Mesh | AbstractMesh) -> P:
    axes = tuple(spec) + (None,) * (len(shape) - len(spec))
    return P(*(_fitting(length, axis, mesh) for length, axis in zip(shape, axes, strict=True)))


def _fitting(length: int, axes: Any, mesh: Mesh | AbstractMesh) -> Any:
    """The mesh axes that divide `length`: of several the first ones, in turn."""
    names = (axes,) if isinstance(axes, str) else axes or ()
    while names and length % math.prod(mesh.shape[name] for name in names):
        names = names[:-1]
    return names[0] if len(names) == 1 else names or None


def ruled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function to trace, its logical constraints on activations following RULES (under `jax.set_mesh`)."""

    @functools.wraps(function)
    def traced(*args: Any) -> Any:
        with nn.logical_axis_rules(RULES):
            return function(*args)

    return traced


def put_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """This process's rows of a batch as global arrays."""
    sharding = batch_sharding(mesh)
    return {name: jax.make_array_from_process_local_data(sharding, rows) for name, rows in batch.items()}
