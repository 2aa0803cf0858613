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
    mesh = AbstractMesh((4, 2, 1), ("data", "fsdp", "tensor"))
    with pytest.raises(ValueError, match=r"batch_size=12 .* 8 devices .* multiple of 8"):
        sharding.check_batch(mesh, 12)
    with pytest.raises(ValueError, match="multiple of 24"):
        sharding.check_batch(mesh, 16, accumulate=3)
    sharding.check_batch(mesh, 48, accumulate=3)


def test_axes_that_do_not_divide_stay_whole():
    mesh = AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))

    def leaf(shape, names):
        return nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)

    layout = sharding.shardings({"a": leaf((8, 6), ("in", "out")), "b": leaf((8, 3), ("in", "out"))}, mesh)
    assert layout["a"].spec == P("fsdp", "tensor")
    assert layout["b"].spec == P("fsdp", None)


def test_kernels_of_convolutions_split_their_outputs_only():
    mesh = AbstractMesh((1, 4, 2), ("data", "fsdp", "tensor"))

    def spec(outputs):
        kernel = jax.ShapeDtypeStruct((3, 3, 8, outputs), jnp.float32)
        return sharding.shardings(nn.LogicallyPartitioned(kernel, (None, None, "in", "out")), mesh).spec

    assert spec(16) == P(None, None, None, ("tensor", "fsdp"))
    assert spec(6) == P(None, None, None, "tensor")
    assert spec(3) == P(None, None, None, None)


THREE_STEPS = """
import json, sys
import jax, numpy as np
from flax import linen as nn
from dalle3_jax.training import sharding
from dalle3_jax.training.state import create, state_shardings
from dalle3_jax.training.step import compile_step, make_step
from tests.training import toy

sizes = json.loads(sys.argv[1])
adamw = toy.adamw()
mesh = sharding.make_mesh(sizes)
abstract, layout = state_shardings(toy.boxed(), adamw, mesh, jax.random.key(0))

def loss(params, frozen, batch, key):
    value, metrics = toy.loss_fn(params, frozen, batch, key)
    rows = nn.with_logical_constraint(batch["x"] * 1.0, ("batch", None))
    show = lambda s: print("activation", len(s.device_set), s.is_fully_replicated)
    jax.debug.inspect_array_sharding(rows, callback=show)
    return value + 0.0 * rows.sum(), metrics

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


def three_steps(devices: int, **mesh: int) -> tuple[dict, str]:
    """The toy's state after three steps on virtual devices, and all that was printed."""
    printed = run_on(devices, THREE_STEPS, json.dumps(mesh))
    return json.loads(printed.split("result ")[1]), printed


CONVOLUTIONS = """
import jax, numpy as np
import jax.numpy as jnp
from flax import linen as nn
from dalle3_jax.training import sharding

class Two(nn.Module):
    @nn.compact
    def __call__(self, x):
        init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), (None, None, "in", "out"))
        return nn.Conv(64, (3, 3), kernel_init=init)(nn.Conv(8, (3, 3), kernel_init=init)(x))

x = jax.random.normal(jax.random.key(0), (8, 4, 4, 8))
params = Two().init(jax.random.key(1), x)
loss = lambda params, x: jnp.sum(Two().apply(params, x) ** 2)
expected = jax.grad(loss)(nn.unbox(params), x)
for sizes in ({"data": 2, "fsdp": 2, "tensor": 2}, {"fsdp": 8}, {"fsdp": 4, "tensor": 2}):
    mesh = sharding.make_mesh(sizes)
    layout = sharding.shardings(params, mesh)
    with jax.set_mesh(mesh):
        placed = jax.device_put(nn.unbox(params), layout)
        rows = sharding.put_batch({"x": np.asarray(x)}, mesh)["x"]
        grads = jax.jit(jax.grad(loss), out_shardings=layout)(placed, rows)
    assert not any(k.is_fully_replicated for k in (placed["params"]["Conv_0"]["kernel"].sharding,))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2), expected, jax.device_get(grads))
"""


def run_on(devices: int, program: str, *arguments: str) -> str:
    """What a program prints on virtual devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_split_convolutions_have_the_gradients_of_whole_ones():
    run_on(8, CONVOLUTIONS)


def test_eight_devices_agree_with_one():
    one, _ = three_steps(1, data=1)
    eight, printed = three_steps(8, data=2, fsdp=2, tensor=2)
    np.testing.assert_allclose(eight["loss"], one["loss"], rtol=1e-5)
    np.testing.assert_allclose(eight["kernel"], one["kernel"], rtol=1e-4, atol=1e-6)
    assert "tensor" in eight["spec"]
    assert "activation 8 False" in printed
