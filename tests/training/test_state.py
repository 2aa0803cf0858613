"""Fresh parameters: of those components that are asked for, the same whichever others are."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.training.state import init_params


def test_a_component_s_fresh_parameters_are_the_same_whichever_others_are_made():
    modules = {"b": nn.Dense(3), "a": nn.Dense(3)}
    inputs = {name: (jax.ShapeDtypeStruct((1, 4), jnp.float32),) for name in modules}

    @jax.jit
    def both(key):
        return init_params(modules, inputs, key), init_params(modules, {"b": inputs["b"]}, key)

    whole, part = both(jax.random.key(0))
    assert (whole.keys(), part.keys()) == ({"a", "b"}, {"b"})
    jax.tree.map(np.testing.assert_array_equal, part["b"], whole["b"])
    assert (whole["a"]["kernel"] != whole["b"]["kernel"]).all()
