"""Matrices in 8 bits: how far values move, along which axes, and what is held in memory meanwhile."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax.traverse_util import flatten_dict

from dalle3_jax.checkpoints.int8 import Quantized, input_axes, quantize
from dalle3_jax.checkpoints.placing import Piece, place_arrays
from dalle3_jax.checkpoints.shapes import abstract_params
from tests.tiny import tiny_decoders

RNG = np.random.default_rng(0)
KERNEL = "encoder.conv_in.kernel"
LAYOUTS = {
    "dense": (("embed", "out"), (24, 5), (0,), (1, 5)),
    "dense, from the heads": (("from_heads", "whole"), (24, 5), (0,), (1, 5)),
    "convolution": ((None, None, "embed", "out"), (3, 2, 7, 5), (0, 1, 2), (1, 1, 1, 5)),
    "stacked dense": (("layers", "embed", "mlp"), (4, 24, 5), (1,), (4, 1, 5)),
    "stacked, from the mlp": (("layers", "from_mlp", "whole"), (4, 24, 5), (1,), (4, 1, 5)),
    "stacked convolution": (("layers", None, None, "embed", "out"), (4, 3, 2, 7, 5), (1, 2, 3), (4, 1, 1, 1, 5)),
    "to heads": (("embed", "heads", None), (24, 3, 5), (0,), (1, 3, 5)),
    "stacked, to heads": (("layers", "embed", "heads", None), (4, 24, 3, 5), (1,), (4, 1, 3, 5)),
    "from heads": (("from_heads", None, "whole"), (3, 8, 5), (0, 1), (1, 1, 5)),
    "without names": (None, (3, 8, 5), (0, 1), (1, 1, 5)),
}


def boxed(names: tuple | None, shape: tuple[int, ...]) -> dict:
    leaf = jax.ShapeDtypeStruct(shape, jnp.float32)
    return {"layer": {"kernel": nn.LogicallyPartitioned(leaf, names) if names else leaf}}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_output_channel_has_its_own_scale_in_every_layout(layout):
    names, shape, axes, scales = LAYOUTS[layout]
    assert input_axes(boxed(names, shape)) == {"layer.kernel": axes}
    ranges = 1000.0 ** np.linspace(-1, 1, int(np.prod(scales))).reshape(scales)
    values = (RNG.normal(size=shape) * ranges).astype(np.float32)
    found = quantize(values, axes)
    assert (found.steps.dtype, found.steps.shape, found.scale.dtype, found.scale.shape) == (
        np.int8,
        shape,
        np.float32,
        scales,
    )
    np.testing.assert_allclose(found.scale, np.abs(values).max(axes, keepdims=True) / 127, rtol=2.0**-15)
    assert (np.abs(found[...] - values) <= 0.500001 * found.scale).all()
    assert (np.abs(found.steps.astype(int)).max(axes) == 127).all()


def test_a_channel_of_zeros_stays_zero_and_its_neighbours_as_they_are():
    values = RNG.normal(size=(6, 4)).astype(np.float32)
    expected = quantize(values, (0,))[...]
    values[:, 2] = expected[:, 2] = 0
    found = quantize(values, (0,))
    assert (found.scale > 0).all()
    np.testing.assert_array_equal(found[...], expected)


@pytest.mark.parametrize("size", [1e-45, 1e-40, 1e-37, 1e-30, 1e30, 3e36])
def test_small_and_large_values_stay_finite(size):
    values = (RNG.uniform(-1, 1, (50, 3)) * size).astype(np.float32)
    found = quantize(values, (0,))
    assert np.isfinite(found[...]).all()
    assert (np.abs(found[...].astype(float) - values) <= 0.500001 * found.scale.astype(float)).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.4e38, -3.4e38])
def test_what_is_not_finite_is_not_stored(value):
    values = np.ones((3, 4), np.float32)
    values[1, 2] = value
    with pytest.raises(ValueError, match="not finite as int8"):
        quantize(values, (0,))


def test_negative_values_count_as_positive_ones():
    low, high = (quantize(sign * np.float32([[1], [3]]), (0,)) for sign in (-1, 1))
    np.testing.assert_array_equal(low.scale, high.scale)
    np.testing.assert_array_equal(low.steps, -high.steps)


def test_values_once_in_8_bits_do_not_move_again():
    values = (RNG.normal(size=(9, 20_000)) * 10 ** RNG.uniform(-6, 3, 20_000)).astype(np.float32)
    once = quantize(values, (0,))
    np.testing.assert_array_equal(once[...], once.steps.astype(float) * once.scale.astype(float))  # products are exact
    again = quantize(once[...], (0,))
    np.testing.assert_array_equal(again.scale, once.scale)
    np.testing.assert_array_equal(again.steps, once.steps)


@pytest.mark.parametrize("kind", [np.float16, jnp.bfloat16, np.float64])
def test_matrices_of_any_float_are_stored(kind):
    values = RNG.normal(size=(6, 4)).astype(kind)
    found = quantize(values, (0,))
    np.testing.assert_array_equal(found[...], quantize(values.astype(np.float32), (0,))[...])


def test_kernels_alone_are_matrices():
    release = tiny_decoders()
    for name, tree in abstract_params(release.modules).items():
        leaves = flatten_dict(nn.unbox(tree), sep=".")
        assert input_axes(tree).keys() == {leaf for leaf in leaves if leaf.endswith(".kernel")}, name
    axes = {name: input_axes(tree) for name, tree in abstract_params(release.modules).items()}
    assert axes["vae"][KERNEL] == (0, 1, 2)
    assert axes["xfnet"]["project_in.kernel"] == (0,)
    stacked = {path: value for path, value in axes["unet"].items() if ".layers." in path}
    assert len(stacked) > 8
    assert set(stacked.values()) == {(1,)}


def test_a_part_is_computed_alone():
    values = RNG.normal(size=(4, 6, 8)).astype(np.float32)
    found = quantize(values, (1,))
    whole = found[...]
    for index in (np.s_[1:3], np.s_[:, 2:4, ...], np.s_[2], np.s_[:, :, 5:], np.s_[0:2, 0:3, 0:4, ...]):
        assert found[index].dtype == np.float32
        np.testing.assert_array_equal(found[index], whole[index])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_matrices_are_placed_as_the_type_asked_for(dtype):
    matrix = quantize(RNG.normal(size=(6, 4)).astype(np.float32), (0,))
    for sharding in (None, jax.sharding.SingleDeviceSharding(jax.devices()[0])):
        array = place_arrays([Piece("a", None, matrix)], {}, jnp.dtype(dtype), {"a": sharding})["a"]
        assert array.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(np.asarray(array), matrix[...].astype(dtype))


def test_a_matrix_too_large_for_the_type_is_named():
    matrix = quantize(np.float32([[1e5]]), (0,))
    with pytest.raises(ValueError, match="a holds values too large for float16"):
        place_arrays([Piece("a", None, matrix)], {}, jnp.dtype(jnp.float16), {"a": None})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_more_than_a_matrix_or_two_is_held_beside_the_arrays(dtype):
    count, side = 12, 256
    matrix = quantize(RNG.normal(size=(side, side)).astype(np.float32), (0,))
    pieces = [Piece(str(index), None, matrix) for index in range(count)]
    tracemalloc.start()
    try:
        arrays = place_arrays(iter(pieces), {}, jnp.dtype(dtype), dict.fromkeys(map(str, range(count))))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(arrays) == count
    assert peak - held < 4 * 4 * side**2


def test_quantized_is_a_view_until_it_is_read():
    steps, scale = np.zeros((3, 4), np.int8), np.ones((1, 4), np.float32)
    matrix = Quantized(steps, scale)
    assert (matrix.shape, matrix.dtype) == ((3, 4), np.float32)
    steps[1, 2] = 5
    np.testing.assert_array_equal(matrix[1], [0, 0, 5, 0])
