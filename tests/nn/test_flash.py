"""The flash kernel: what plain attention computes, with its gradients, and a kernel of its own where it runs."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu

from dalle3_jax.nn.attention import _attend_at_once, attend
from dalle3_jax.nn.backend import target_platform
from dalle3_jax.nn.flash import flash_attention, suits_flash
from tests.training.test_sharding import run_on


def arrays(length, keys, heads=1, head_size=32, rows=1):
    shapes = [(rows, length, heads, head_size), *2 * [(rows, keys, heads, head_size)], (rows, length, heads, head_size)]
    return [jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(("length", "keys", "kept"), [(128, 128, None), (130, 200, 170)], ids=["whole", "masked, odd"])
def test_flash_computes_what_plain_attention_does_with_its_gradients(length, keys, kept):
    q, k, v, weights = arrays(length, keys)
    mask = None if kept is None else jnp.arange(keys)[None] < kept

    def gradients(function):
        return jax.value_and_grad(lambda *qkv: jnp.sum(function(*qkv) * weights), (0, 1, 2))(q, k, v)

    expected = gradients(lambda q, k, v: _attend_at_once(q, k, v, mask, None, 0.3))
    with tpu.force_tpu_interpret_mode():
        found = gradients(lambda q, k, v: flash_attention(q, k, v, mask, scale=0.3))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    if kept is not None:
        assert float(jnp.abs(found[1][1][:, kept:]).max()) == 0.0  # masked keys learn nothing


def test_a_program_for_tpus_holds_the_kernel_forward_and_backward():
    q, k, v, _ = arrays(1024, 1024, head_size=64)

    def total(q, k, v):
        return flash_attention(q, k, v, None, scale=0.125).sum()

    text = jax.jit(jax.grad(total)).trace(q, k, v).lower(lowering_platforms=("tpu",)).as_text()
    assert text.count("tpu_custom_call") >= 2
    assert "1024x1024x" not in text  # no scores are written


def test_only_long_sequences_with_narrow_heads_are_the_kernel_s():
    def suits(length, keys, head_size):
        q, k, *_ = (jax.ShapeDtypeStruct((1, n, 1, head_size), jnp.float32) for n in (length, keys))
        return suits_flash(jnp.zeros(q.shape), jnp.zeros(k.shape))

    assert suits(512, 512, 64)
    assert suits(1008, 1008, 128)
    assert not suits(1024, 77, 64)
    assert not suits(64, 1024, 64)
    assert not suits(1024, 1024, 160)


SPLIT = """
import jax, numpy as np
import jax.numpy as jnp
from jax.experimental.pallas import tpu
from dalle3_jax.nn.attention import _attend_at_once
from dalle3_jax.nn.flash import flash_attention
from dalle3_jax.training import sharding

q, k, v = (jax.random.normal(jax.random.key(i), (2, 128, 2, 32)) for i in range(3))
mask = jnp.arange(128)[None] < jnp.array([[100], [60]])
mesh = sharding.make_mesh({"fsdp": 2, "tensor": 2})
with jax.set_mesh(mesh), tpu.force_tpu_interpret_mode():
    split = jax.jit(sharding.with_axis_rules(lambda *qkvm: flash_attention(*qkvm, scale=0.2)))
    found = split(*(jax.device_put(x, sharding.batch_sharding(mesh)) for x in (q, k, v, mask)))
assert found.sharding.spec[0] is not None and found.sharding.spec[2] == "tensor", found.sharding
np.testing.assert_allclose(found, _attend_at_once(q, k, v, mask, None, 0.2), rtol=1e-5, atol=1e-5)
"""


def test_rows_and_heads_are_split_over_the_mesh():
    run_on(4, SPLIT)


def test_the_platform_is_that_of_the_mesh_which_need_not_be_here():
    program = """
        import jax
        from jax.sharding import AbstractDevice, AbstractMesh, AxisType
        from dalle3_jax.nn.backend import target_platform
        assert target_platform() == "cpu"
        device = AbstractDevice(device_kind="TPU v5 lite", num_cores=1, platform="tpu")
        mesh = AbstractMesh((1,), ("data",), axis_types=(AxisType.Auto,), abstract_device=device)
        with jax.sharding.use_abstract_mesh(mesh):
            assert target_platform() == "tpu"
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_attention_on_a_cpu_is_not_the_kernel_s():
    q, k, v, _ = arrays(512, 512)
    assert target_platform() == "cpu"
    np.testing.assert_allclose(attend(q, k, v, scale=0.2), _attend_at_once(q, k, v, None, None, 0.2), atol=1e-5)
