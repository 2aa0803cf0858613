"""What a CPU computes in another way: shallow stacks without a loop, and products over one axis of rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

from dalle3_jax.nn import backend, transformer
from dalle3_jax.nn.backend import dense_product
from dalle3_jax.nn.transformer import TransformerBlock, scan_layers
from tests.networks import normal

X = normal(4, 6, 8)
KERNEL = normal(8, 10, seed=1)
LAST = (((2,), (0,)), ((), ()))


@pytest.fixture
def tpu(monkeypatch):
    """Programs are traced as for a TPU."""
    monkeypatch.setattr(backend, "target_platform", lambda: "tpu")


def mesh(devices: int) -> AbstractMesh:
    return AbstractMesh((devices,), ("data",), axis_types=(AxisType.Auto,))


def gradient_of_stack(layers: int):
    stack = scan_layers(TransformerBlock, layers)(2, 4, cross=False)
    params = nn.unbox(jax.jit(stack.init)(jax.random.key(0), X)["params"])
    function = jax.jit(jax.grad(lambda params: jnp.sum(jnp.square(stack.apply({"params": params}, X)[0]))))
    return function.lower(params).as_text(), function(params)


def test_shallow_stacks_have_no_loop_and_the_same_gradient(monkeypatch):
    text, gradient = gradient_of_stack(2)
    assert "stablehlo.while" not in text
    monkeypatch.setattr(transformer, "unrolled_layers", lambda layers: 1)
    looped, expected = gradient_of_stack(2)
    assert "stablehlo.while" in looped
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5), gradient, expected)


def test_deep_stacks_and_those_of_other_backends_keep_their_loop(request):
    assert [backend.unrolled_layers(layers) for layers in (1, 4, 5, 24)] == [1, 4, 1, 1]
    request.getfixturevalue("tpu")
    assert backend.unrolled_layers(2) == 1


def ranks() -> set[int]:
    """The ranks of what the product and its gradients multiply."""

    def gradients(x, kernel):
        return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(dense_product(x, kernel, LAST))), (0, 1))(x, kernel)

    equations = jax.make_jaxpr(gradients)(X, KERNEL).eqns
    return {e.invars[0].aval.ndim for e in equations if e.primitive.name == "dot_general"}


def test_rows_are_one_axis_in_training_on_one_cpu_alone(request):
    assert ranks() == {3}  # no mesh: no training
    with jax.sharding.use_abstract_mesh(mesh(8)):
        assert ranks() == {3}
    with jax.sharding.use_abstract_mesh(mesh(1)):
        assert ranks() == {2}
        request.getfixturevalue("tpu")
        assert ranks() == {3}


def test_rows_are_one_axis_within_shard_map():
    shapes = []

    def rows(x, kernel):
        y = dense_product(x, kernel, LAST)
        shapes.append(jax.make_jaxpr(dense_product, static_argnums=2)(x, kernel, LAST).eqns[0].primitive.name)
        return y

    with jax.sharding.use_abstract_mesh(mesh(2)):
        out = jax.eval_shape(jax.shard_map(rows, in_specs=(P("data"), P()), out_specs=P("data")), X, KERNEL)
    assert shapes == ["reshape"]
    assert out.shape == (4, 6, 10)


def test_the_product_is_that_of_lax():
    expected = lax.dot_general(X, KERNEL, LAST)
    with jax.sharding.use_abstract_mesh(mesh(1)):
        np.testing.assert_allclose(dense_product(X, KERNEL, LAST), expected, rtol=1e-5, atol=1e-5)


def test_what_is_not_updated_keeps_its_bits(request):
    tree = {"a": jnp.asarray([1.0, jnp.nan]), "b": jnp.arange(3)}

    def update(tree):
        return {"a": tree["a"] / 2.0, "b": tree["b"] + 1}

    def branches() -> bool:
        function = jax.jit(lambda condition, tree: backend.update_if(condition, update, tree))
        text = function.lower(True, tree).as_text()
        if jax.sharding.get_abstract_mesh().empty:
            jax.tree.map(np.testing.assert_array_equal, function(False, tree), tree)
            jax.tree.map(np.testing.assert_array_equal, function(True, tree), update(tree))
        return "stablehlo.case" in text

    assert branches()
    with jax.sharding.use_abstract_mesh(mesh(8)):
        assert not branches()
    request.getfixturevalue("tpu")
    assert not branches()
