"""From views onto devices: values, types, layouts, and how little is held meanwhile."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding

from dalle3_jax.checkpoints import placing
from dalle3_jax.checkpoints.int8 import quantize
from dalle3_jax.checkpoints.placing import Piece, place_arrays

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
F32 = jnp.dtype(jnp.float32)


def mesh() -> Mesh:
    return Mesh(np.array(jax.devices()[:1]), ("x",))


def layouts() -> list:
    return [None, SingleDeviceSharding(jax.devices()[0]), NamedSharding(mesh(), PartitionSpec())]


def mapped(path: Path, shape: tuple[int, ...], dtype=np.float32) -> np.ndarray:
    """A read-only view of a file, aligned as the CPU's arrays are."""
    RNG.normal(size=shape).astype(dtype).tofile(path)
    return np.memmap(path, dtype, "r", shape=shape)


def placed(view: np.ndarray, sharding=None, dtype=F32) -> jax.Array:
    return place_arrays([Piece("a", None, view)], {}, dtype, {"a": sharding})["a"]


@pytest.mark.parametrize("layout", range(3))
@pytest.mark.parametrize("transposed", [False, True])
def test_an_array_is_its_own_and_does_not_change_with_the_file(layout, transposed, tmp_path):
    view = mapped(tmp_path / "x", (64, 64))
    view = view.T if transposed else view
    before = np.array(view)
    array = placed(view, layouts()[layout])
    np.memmap(tmp_path / "x", np.float32, "r+")[:] = 7
    assert (view == 7).all()
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(jax.jit(lambda x: x + 1, donate_argnums=0)(array), before + 1)


@pytest.mark.parametrize("layout", range(3))
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3, 4, 5)])
def test_every_shape_is_placed(layout, shape):
    view = RNG.normal(size=shape).astype(np.float32)
    array = placed(view, layouts()[layout])
    assert (array.shape, array.dtype) == (shape, F32)
    np.testing.assert_array_equal(array, view)


@pytest.mark.parametrize("layout", range(3))
def test_views_may_lie_askew(layout):
    values = RNG.normal(size=(3, 4)).astype(np.float32)
    askew = np.frombuffer(b"\0" + values.tobytes(), np.uint8)[1:].view(np.float32).reshape(3, 4)
    assert not askew.flags.aligned
    for view in (askew, askew.T):
        np.testing.assert_array_equal(placed(view, layouts()[layout]), view)


@pytest.mark.parametrize("source", [np.float16, jnp.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("target", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_values_are_rounded_as_numpy_rounds_them(source, target):
    view = RNG.normal(size=(5, 7)).astype(source)
    for layout in layouts():
        array = placed(view.T, layout, jnp.dtype(target))
        assert array.dtype == target
        np.testing.assert_array_equal(np.asarray(array), view.T.astype(target))


@pytest.mark.parametrize(
    ("value", "source", "target"),
    [
        (70_000, np.float32, jnp.float16),
        (70_000, jnp.bfloat16, jnp.float16),
        (3.4e38, np.float32, jnp.bfloat16),
        (1e39, np.float64, jnp.float32),
    ],
)
def test_a_value_that_the_type_cannot_hold_is_named(value, source, target):
    view = np.array([1, -value], source)
    for layout in layouts():
        with pytest.raises(ValueError, match=rf"a holds values too large for {jnp.dtype(target).name}"):
            placed(view, layout, jnp.dtype(target))
    assert np.isfinite(placed(view[:1], None, jnp.dtype(target))).all()


@pytest.mark.parametrize("layout", range(3))
def test_layers_are_stacked_by_their_numbers(layout):
    layers = RNG.normal(size=(4, 3, 2)).astype(np.float32)
    order = [2, 0, 3, 1]
    pieces = [Piece("a", index, layers[index].T.copy().T) for index in order]
    pieces.insert(2, Piece("b", None, layers[0]))
    shardings = dict.fromkeys("ab", layouts()[layout])
    found = place_arrays(pieces, {"a": (4, 3, 2), "b": (3, 2)}, F32, shardings)
    np.testing.assert_array_equal(found["a"], layers)
    np.testing.assert_array_equal(found["b"], layers[0])
    if layouts()[layout]:
        assert {array.sharding for array in found.values()} == {layouts()[layout]}


@pytest.mark.parametrize("layout", range(3))
def test_a_stack_of_one_slice_is_that_slice_and_no_program(layout, monkeypatch):
    monkeypatch.delattr(placing, "_fill")
    values, sharding = RNG.normal(size=(4, 3)).astype(np.float32), layouts()[layout]
    for view in (values, values.T, quantize(values, (0,))):
        shape = (1, *view.shape)
        found = place_arrays([Piece("a", 0, view)], {"a": shape}, F32, {"a": sharding})["a"]
        assert found.shape == shape
        np.testing.assert_array_equal(found[0], view[...])
        if sharding:
            assert found.sharding == sharding


def test_the_reader_is_at_most_two_pieces_ahead(monkeypatch):
    read, filled, ahead = [], [], []
    fill = placing._fill

    def counting(*args):
        ahead.append(len(read) - len(filled))
        filled.append(args[2])
        return fill(*args)

    def pieces():
        for index in range(20):
            read.append(index)
            yield Piece("a", index, np.full((8,), index, np.float32))

    monkeypatch.setattr(placing, "_fill", counting)
    array = place_arrays(pieces(), {"a": (20, 8)}, F32, {"a": None})["a"]
    np.testing.assert_array_equal(array[:, 0], np.arange(20))
    assert read == filled == list(range(20))
    assert max(ahead) <= 2


def test_an_error_of_the_reader_comes_through_and_ends_it():
    def pieces():
        yield Piece("a", None, np.ones(2, np.float32))
        raise ValueError("this piece is bad")

    with pytest.raises(ValueError, match="this piece is bad"):
        place_arrays(pieces(), {}, F32, {"a": None})


SHARES = """
import jax, numpy as np
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from dalle3_jax.checkpoints.int8 import quantize
from dalle3_jax.checkpoints.placing import Piece, place_arrays

mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
specs = {"flat": P("y", "x"), "one": P(), "stacked": P(None, "x", "y"), "short": P(None, "x"), "split": P("y", "x")}
values = np.random.default_rng(0).normal(size=(2, 8, 4)).astype(np.float32)
reads = []

class Watched(np.ndarray):
    def __getitem__(self, index):
        part = super().__getitem__(index)
        reads.append(part.size)
        return np.asarray(part)

pieces = [Piece(name, None, values[0].view(Watched)) for name in ("flat", "one")]
pieces += [Piece(name, i, values[i].view(Watched)) for i in (1, 0) for name in ("stacked", "short", "split")]
where = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
found = place_arrays(pieces, dict.fromkeys(specs, values.shape), jnp.dtype(jnp.float32), where)
largest = sorted({*reads})
for name, array in found.items():
    expected = values[0] if name in ("flat", "one") else values
    np.testing.assert_array_equal(array, expected)
    assert array.sharding.is_equivalent_to(where[name], array.ndim), (name, array.sharding)
sizes = {name: {shard.data.size for shard in array.addressable_shards} for name, array in found.items()}
assert sizes == {"flat": {4}, "one": {32}, "stacked": {8}, "short": {16}, "split": {8}}, sizes
matrix = quantize(values[0], (0,))
spied = type(matrix)(matrix.steps.view(Watched), matrix.scale)
reads.clear()
[array] = place_arrays([Piece("m", None, spied)], {}, jnp.dtype(jnp.float32), {"m": where["flat"]}).values()
np.testing.assert_array_equal(array, matrix[...])
assert {shard.data.size for shard in array.addressable_shards} == {4} == {*reads}, reads
print("largest reads", largest)
"""


def test_every_device_reads_and_holds_its_share_only():
    flags = {"JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", SHARES]
    done = subprocess.run(command, env={**os.environ, **flags}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "largest reads [4, 8, 32]" in done.stdout
