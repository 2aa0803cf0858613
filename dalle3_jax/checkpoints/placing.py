"""From views of mapped files onto devices, tensor by tensor: nothing is held twice but the one under way."""

import collections
import functools
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from dalle3_jax.checkpoints.int8 import Quantized
from dalle3_jax.checkpoints.tensors import is_finite
from dalle3_jax.nn.explicit_axes import automatic_mesh, automatic_sharding
from dalle3_jax.typing import Array, Params

__all__ = ["Piece", "automatic_mesh", "map_ahead", "on_automatic_axes", "place_arrays"]

T = TypeVar("T")
U = TypeVar("U")


class Piece(NamedTuple):
    """The values of a parameter, or of the slice `layer` of a stacked one: a view, in the parameter's order of axes."""

    target: str
    layer: int | None
    view: np.ndarray | Quantized


def place_arrays(
    pieces: Iterable[Piece],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: Any,
    shardings: Mapping[str, Sharding | None],
    float32: Collection[str] = (),
) -> dict[str, Array]:
    """Arrays of `dtype` on their shardings (None: the default device), each device having read only what it holds.

    Those that `float32` names are of that type instead.

    A stacked parameter is made once and filled slice by slice in place; one slice alone is the stack, and nothing is
    compiled for it. The pieces are read in their order, one ahead.
    Nothing refers to the views afterwards. Raises ValueError naming a parameter with values too large for `dtype`.
    """
    arrays: dict[str, Array] = {}
    asked, shardings = shardings, {name: automatic_sharding(sharding) for name, sharding in shardings.items()}

    def kind(target: str) -> Any:
        return jnp.dtype(jnp.float32 if target in float32 else dtype)

    def read(piece: Piece) -> tuple[str, int | None, Array]:
        target, layer, _ = piece
        alone = layer is not None and shapes[target][0] == 1
        sharding = shardings[target] if layer is None or alone else _slice_sharding(shardings[target])
        return target, None if alone else layer, _put_piece(piece, kind(target), sharding, alone)

    for target, index, array in map_ahead(read, pieces):
        sharding = shardings[target]
        if index is None:
            arrays[target] = array
        else:
            if target not in arrays:
                arrays[target] = _zeros(shapes[target], kind(target), sharding)
            arrays[target] = _fill(arrays[target], array, np.int32(index), sharding)
        jax.block_until_ready(arrays[target])  # else slices pile up where reading is faster than the way to the device
    # Under explicit axes no slice could be filled in: what shall lie there does so at the end.
    explicit = {name for name in arrays if shardings[name] is not asked[name]}
    return arrays | {name: jax.device_put(arrays[name], asked[name]) for name in explicit}


def on_automatic_axes(params: Params) -> Params:
    """The same arrays where they lie, on meshes of automatic axes: those that programs of ours are compiled for."""

    def place(array: Any) -> Any:
        sharding = automatic_sharding(array.sharding) if isinstance(array, jax.Array) else None
        return array if sharding is None or sharding is array.sharding else jax.device_put(array, sharding)

    return jax.tree.map(place, params)


def map_ahead(function: Callable[[T], U], items: Iterable[T], depth: int = 1) -> Iterator[U]:
    """function(item) of each item in order, the next `depth` of them under way in a thread while one is in use."""
    iterator = iter(items)

    def step() -> list[U]:
        return [function(item) for item in itertools.islice(iterator, 1)]

    with ThreadPoolExecutor(1) as thread:
        waiting = collections.deque(thread.submit(step) for _ in range(depth))
        while result := waiting.popleft().result():
            waiting.append(thread.submit(step))
            yield result.pop()


def _put_piece(piece: Piece, dtype: Any, sharding: Sharding | None, alone: bool) -> Array:
    """The piece on its sharding; one that is `alone` as the stack of one that it is."""

    def part(index: Any = ()) -> np.ndarray:
        return values_at(index[1:])[None] if alone else values_at(index)

    def values_at(index: Any) -> np.ndarray:
        values = piece.view[(*index, ...)]  # with the dots a single number stays an array
        if values.dtype != dtype:
            return _cast(values, dtype, piece.target)
        # Arrays of the CPU adopt what is in C order as it lies, and would change with the file. Other views keep their
        # strides: XLA copies transposed arrays several times faster than numpy. What was computed lies in no file.
        return values.copy() if values.flags.c_contiguous and not values.flags.owndata else values

    if sharding is None:
        return jax.device_put(part())
    return jax.make_array_from_callback((1,) * alone + piece.view.shape, sharding, part)


def _cast(values: np.ndarray, dtype: Any, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    if jnp.finfo(dtype).max < jnp.finfo(values.dtype).max and not is_finite(cast):
        raise ValueError(f"{name} holds values too large for {jnp.dtype(dtype).name}: load it in a wider type")
    return cast


@functools.partial(jax.jit, static_argnames=("shape", "dtype", "sharding"))
def _zeros(shape: tuple[int, ...], dtype: Any, sharding: Sharding | None) -> Array:
    zeros = jnp.zeros(shape, dtype)
    return zeros if sharding is None else jax.lax.with_sharding_constraint(zeros, sharding)


@functools.partial(jax.jit, donate_argnums=0, static_argnames="sharding")
def _fill(stacked: Array, layer: Array, index: Array, sharding: Sharding | None) -> Array:
    # As bits: XLA's CPU backend takes the whole stack of bfloat16 through float32 for every slice that it writes.
    bits = f"uint{8 * stacked.dtype.itemsize}"
    whole, part = (jax.lax.bitcast_convert_type(array, bits) for array in (stacked, layer))
    filled = jax.lax.dynamic_update_slice_in_dim(whole, part[None], index, 0)
    filled = jax.lax.bitcast_convert_type(filled, stacked.dtype)
    return filled if sharding is None else jax.lax.with_sharding_constraint(filled, sharding)


def _slice_sharding(sharding: Sharding | None) -> Sharding | None:
    """The sharding of one layer of a stacked parameter: that of the whole, without its first axis."""
    if not isinstance(sharding, NamedSharding):
        return sharding
    return NamedSharding(sharding.mesh, PartitionSpec(*sharding.spec[1:]))
