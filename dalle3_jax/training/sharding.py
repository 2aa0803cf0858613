"""Sharding of arrays over devices: the mesh, and the rules from logical axes to mesh axes."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from dalle3_jax.nn.fsdp import divisible_spec

__all__ = [
    "FSDP_AXES",
    "RULES",
    "abstract_mesh",
    "batch_sharding",
    "check_batch",
    "fsdp_size",
    "make_mesh",
    "mesh_shape",
    "param_shardings",
    "put_batch",
    "replicated_sharding",
    "with_axis_rules",
]

AXES = ("data", "fsdp", "fsdp_inner", "tensor")
"""The mesh's axes; the config's `fsdp` is two of them, see `make_mesh`."""
FSDP_AXES = ("fsdp", "fsdp_inner")
ROWS = ("data", *FSDP_AXES)
RULES = (
    ("batch", ROWS),
    ("height", None),
    ("out", "tensor"),
    ("heads", "tensor"),
    ("mlp", "tensor"),
    ("vocab", "tensor"),
    # Kernels are stored split along their inputs: shards of outputs would be narrower than a TPU's 128 lanes, and its
    # compiler then adds up whole gradients instead of reducing and scattering them.
    ("embed", FSDP_AXES),
    ("from_heads", ("tensor", *FSDP_AXES)),
    ("from_mlp", ("tensor", *FSDP_AXES)),
    ("from_vocab", ("tensor", *FSDP_AXES)),
    ("layers", None),
    ("whole", None),
)


def make_mesh(sizes: Mapping[str, int], devices: Sequence[Any] | None = None) -> Mesh:
    """The mesh over `devices` (all by default); sizes as `mesh_shape` takes them, and `slices` of a pod (default 1).

    `data` spans the slices, which the data centre's network joins; everything else stays within one. On TPUs `fsdp` is
    laid over two axes, as near to square as it goes: over the whole mesh at once, and where a shard has fewer than 16
    rows, TPU's compiler (libtpu 0.0.42) adds up whole gradients instead of reducing and scattering them.
    """
    devices = jax.devices() if devices is None else list(devices)
    data, fsdp, tensor = mesh_shape(sizes, len(devices))
    slices = sizes.get("slices", 1)
    if slices < 1 or data % slices:
        raise ValueError(f"mesh.slices={slices} does not divide mesh.data={data}: data spans the slices")
    on_tpu = devices[0].platform == "tpu"
    inner = _largest_divisor(fsdp) if on_tpu else 1
    shape = (data // slices, fsdp // inner, inner, tensor)
    if slices > 1 and on_tpu:
        grid = mesh_utils.create_hybrid_device_mesh(shape, (slices, 1, 1, 1), devices, allow_split_physical_axes=True)
    else:
        shape = (data, *shape[1:])
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def abstract_mesh(sizes: tuple[int, int, int]) -> AbstractMesh:
    """The mesh that TPUs would have, of sizes of data, fsdp and tensor, without its devices."""
    data, fsdp, tensor = sizes
    inner = _largest_divisor(fsdp)
    return AbstractMesh((data, fsdp // inner, inner, tensor), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def fsdp_size(mesh: Mesh | AbstractMesh) -> int:
    """The config's fsdp of a mesh."""
    return math.prod(mesh.shape[name] for name in FSDP_AXES)


def _largest_divisor(fsdp: int) -> int:
    """The largest divisor up to the square root."""
    return max(n for n in range(1, math.isqrt(fsdp) + 1) if fsdp % n == 0)


def mesh_shape(sizes: Mapping[str, int], devices: int) -> tuple[int, int, int]:
    """Sizes of data, fsdp and tensor; one may be -1: what remains, those left out are 1.

    Raises ValueError when they do not multiply to the number of devices.
    """
    axes = ("data", "fsdp", "tensor")
    shape = [int(sizes.get(axis, 1)) for axis in axes]
    known = math.prod(size for size in shape if size != -1)
    if shape.count(-1) == 1 and known > 0 and devices % known == 0:
        shape[shape.index(-1)] = devices // known
    if min(shape) < 1 or math.prod(shape) != devices:
        asked = ", ".join(f"{axis}={sizes.get(axis, 1)}" for axis in axes)
        raise ValueError(
            f"mesh ({asked}) does not fit {devices} devices: the sizes must multiply to {devices}; "
            "set one of config.mesh.data, fsdp, tensor to -1 to take what remains"
        )
    data, fsdp, tensor = shape
    return data, fsdp, tensor


def check_batch(mesh: Mesh | AbstractMesh, batch_size: int, accumulate: int = 1) -> None:
    """Raise ValueError unless the batch divides over data * fsdp devices and `accumulate` parts."""
    fsdp = fsdp_size(mesh)
    rows = mesh.shape["data"] * fsdp
    if accumulate < 1 or batch_size < 1 or batch_size % (rows * accumulate):
        raise ValueError(
            f"train.batch_size={batch_size} does not divide into {rows} devices (mesh data {mesh.shape['data']} x "
            f"fsdp {fsdp}) times train.accumulate={accumulate}: "
            f"use a multiple of {rows * max(accumulate, 1)}"
        )


def replicated_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The same array on every device."""
    return NamedSharding(mesh, P())


def batch_sharding(mesh: Mesh | AbstractMesh) -> NamedSharding:
    """The first axis over data and fsdp."""
    return NamedSharding(mesh, P(ROWS))


def param_shardings(boxed: Any, mesh: Mesh | AbstractMesh) -> Any:
    """Shardings of an abstract tree of boxed parameters, without the boxes."""

    def layout(leaf: Any, logical: P) -> NamedSharding:
        return NamedSharding(mesh, divisible_spec(leaf.shape, nn.logical_to_mesh(logical, RULES), mesh))

    return jax.tree.map(layout, nn.unbox(boxed), nn.get_partition_spec(boxed))


def with_axis_rules(function: Callable[..., Any]) -> Callable[..., Any]:
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
