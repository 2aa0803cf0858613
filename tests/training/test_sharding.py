"""Meshes, layouts, and the same run on eight devices as on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from dalle3_jax.nn.layers import CONV_KERNEL_AXES
from dalle3_jax.training import sharding

ROOT = Path(__file__).parents[2]


def test_mesh_that_does_not_fit_the_devices_is_named():
    with pytest.raises(ValueError, match=r"data=3, fsdp=1, tensor=2.*8 devices"):
        sharding.mesh_shape({"data": 3, "tensor": 2}, 8)
    with pytest.raises(ValueError, match=r"data=-1, fsdp=3.*8 devices"):
        sharding.mesh_shape({"data": -1, "fsdp": 3}, 8)
    for sizes in ({"data": 0}, {"data": -1, "fsdp": -1}, {"data": -1, "fsdp": 0}, {"data": 4}):
        with pytest.raises(ValueError, match=r"config\.mesh"):
            sharding.mesh_shape(sizes, 8)


def test_what_remains_goes_to_the_open_axis():
    assert sharding.mesh_shape({"data": -1, "tensor": 2}, 8) == (4, 1, 2)
    assert sharding.mesh_shape({"data": 2, "fsdp": -1, "tensor": 1}, 8) == (2, 4, 1)


def test_batch_that_does_not_divide_is_named_with_its_remedy():
    mesh = AbstractMesh((4, 2, 1, 1), sharding.AXES)
    with pytest.raises(ValueError, match=r"batch_size=12 .* 8 devices .* multiple of 8"):
        sharding.check_batch(mesh, 12)
    with pytest.raises(ValueError, match="multiple of 24"):
        sharding.check_batch(mesh, 16, accumulate=3)
    sharding.check_batch(mesh, 48, accumulate=3)


def test_axes_that_do_not_divide_stay_whole():
    mesh = AbstractMesh((1, 4, 1, 2), sharding.AXES)

    def leaf(shape, names):
        return nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)

    layout = sharding.param_shardings({"a": leaf((8, 6), ("embed", "out")), "b": leaf((8, 3), ("embed", "out"))}, mesh)
    assert layout["a"].spec == P(("fsdp", "fsdp_inner"), "tensor")
    assert layout["b"].spec == P(("fsdp", "fsdp_inner"), None)


def test_kernels_are_split_along_their_inputs():
    mesh = AbstractMesh((1, 2, 2, 2), sharding.AXES)

    def spec(inputs, axes):
        kernel = jax.ShapeDtypeStruct((3, 3, inputs, 6)[-len(axes) :], jnp.float32)
        return sharding.param_shardings(nn.LogicallyPartitioned(kernel, axes), mesh).spec

    assert spec(16, CONV_KERNEL_AXES) == P(None, None, ("fsdp", "fsdp_inner"), "tensor")
    assert spec(6, CONV_KERNEL_AXES) == P(None, None, "fsdp", "tensor")
    assert spec(3, CONV_KERNEL_AXES) == P(None, None, None, "tensor")
    assert spec(16, ("from_mlp", "whole")) == P(("tensor", "fsdp", "fsdp_inner"), None)


THREE_STEPS = """
import json, math
import jax, numpy as np
from flax import linen as nn
from dalle3_jax.training import sharding
from dalle3_jax.training.state import create_state, state_shardings
from dalle3_jax.training.step import compile_step, make_step
from tests.training import toy

adamw = toy.adamw()

def loss(params, frozen, batch, key):
    value, metrics = toy.loss_fn(params, frozen, batch, key)
    rows = nn.with_logical_constraint(batch["x"] * 1.0, ("batch", None))
    show = lambda s: print("activation", len(s.device_set), s.is_fully_replicated)
    jax.debug.inspect_array_sharding(rows, callback=show)
    return value + 0.0 * rows.sum(), metrics

for sizes in ({"data": 1}, {"data": 2, "fsdp": 2, "tensor": 2}):
    mesh = sharding.make_mesh(sizes, jax.devices()[:math.prod(sizes.values())])
    abstract, layout = state_shardings(toy.boxed(), adamw, mesh, jax.random.key(0))
    with jax.set_mesh(mesh):
        step = compile_step(make_step(loss, adamw, ema=0.9, accumulate=2), layout, mesh)
        state = jax.jit(lambda: toy.new_state(adamw), out_shardings=layout)()
        for n in range(3):
            state, metrics = step(state, toy.FROZEN, sharding.put_batch(toy.batch(n, rows=32), mesh))
    kernel = [tree["net"]["kernel"] for tree in (state.params, state.ema, state.opt_state[1].mu, state.opt_state[1].nu)]
    assert all(k.sharding.spec == layout.params["net"]["kernel"].spec for k in kernel), [k.sharding for k in kernel]
    result = {"loss": float(metrics["loss"]), "kernel": [np.asarray(k).tolist() for k in kernel]}
    print("result", json.dumps({**result, "spec": str(kernel[0].sharding.spec)}))
"""


LAYERS = """
import re
import jax, numpy as np
import jax.numpy as jnp
from flax import linen as nn
from dalle3_jax.nn.attention import Attention
from dalle3_jax.nn.layers import conv, dense
from dalle3_jax.training import sharding

class Layers(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = conv(64, name="wide", dtype=x.dtype)(x)
        x = conv(8, stride=2, name="narrow", dtype=x.dtype)(x).reshape(8, 4, 8)
        x = x + Attention(2, 4, name="attention")(x)
        hidden = dense(32, axes=("embed", "mlp"), name="in", dtype=x.dtype)(x)
        x = dense(8, axes=("from_mlp", "whole"), name="out", dtype=x.dtype)(nn.gelu(hidden))
        return nn.with_logical_constraint(x, ("batch", None, None))

x = jax.random.normal(jax.random.key(0), (8, 4, 4, 8))
params = jax.jit(Layers().init)(jax.random.key(1), x)["params"]
loss = lambda params, x: jnp.sum(Layers().apply({"params": params}, x) ** 2)
expected = jax.jit(jax.value_and_grad(loss, (0, 1)))(nn.unbox(params), x)
tangent = jax.jit(lambda x: jax.jvp(lambda x: loss(nn.unbox(params), x), (x,), (x,)))(x)
for sizes in ({"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8}, {"fsdp": 4, "tensor": 2}, {"tensor": 8}, {"data": 8}):
    mesh = sharding.make_mesh(sizes)
    layout = sharding.param_shardings(params, mesh)
    with jax.set_mesh(mesh):
        placed = jax.device_put(nn.unbox(params), layout)
        rows = sharding.put_batch({"x": np.asarray(x)}, mesh)["x"]
        whole = sharding.replicated_sharding(mesh)
        out = (whole, (layout, sharding.batch_sharding(mesh)))
        step = jax.jit(sharding.with_axis_rules(jax.value_and_grad(loss, (0, 1))), out_shardings=out)
        found, lowered = step(placed, rows), step.lower(placed, rows)
        moved = jax.jit(sharding.with_axis_rules(lambda x: jax.jvp(lambda x: loss(placed, x), (x,), (x,))))(rows)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), expected, jax.device_get(found))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), tangent, moved)
    if sizes != {"fsdp": 8}:
        continue
    split = [name for name, spec in placed["wide"].items() if not spec.sharding.is_fully_replicated]
    assert split == ["kernel"], split
    kernels = 8  # of two convolutions, four of attention, two of the rest
    assert lowered.as_text().count("stablehlo.reduce_scatter") == kernels
    assert lowered.as_text().count("stablehlo.all_gather") >= kernels
    assert not re.search("all-to-all", lowered.compile().as_text())
"""


def run_on(devices: int, program: str, *arguments: str) -> str:
    """What a program prints on virtual devices."""
    flags = {"JAX_NUM_CPU_DEVICES": str(devices), "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env={**os.environ, **flags}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_split_layers_compute_what_whole_ones_do_and_scatter_their_gradients():
    run_on(8, LAYERS)


def test_eight_devices_agree_with_one():
    printed = run_on(8, THREE_STEPS)
    one, eight = (json.loads(line.split(" ", 1)[1]) for line in printed.splitlines() if line.startswith("result "))
    np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(eight["kernel"], one["kernel"], rtol=1e-4, atol=1e-6)
    assert "tensor" in eight["spec"]
    assert "activation 8 False" in printed
