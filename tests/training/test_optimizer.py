"""Learning rate, weight decay and clipping."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.training import optimizer


def test_learning_rate_warms_up_holds_and_falls_to_zero():
    schedule = optimizer.learning_rate(2.0, 100, warmup=10, constant=0.6)
    expected = {0: 0.2, 4: 1.0, 9: 2.0, 10: 2.0, 60: 2.0, 80: 1.0, 100: 0.0, 120: 0.0}
    for count, value in expected.items():
        np.testing.assert_allclose(schedule(count), value, atol=1e-6)


def test_cosine_begins_after_warm_up_without_constant_part():
    schedule = optimizer.learning_rate(1.0, 100, warmup=20)
    np.testing.assert_allclose([schedule(19), schedule(20), schedule(60), schedule(100)], [1, 1, 0.5, 0], atol=1e-6)


def test_only_matrices_decay_stacked_layers_aside():
    def leaf(shape, names):
        return nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)

    params = {
        "kernel": leaf((4, 3, 2), ("layers", "embed", "out")),
        "bias": leaf((4, 2), ("layers", "out")),
        "scale": leaf((2,), ("out",)),
        "conv": leaf((3, 3, 2, 2), (None, None, "embed", "out")),
    }
    assert optimizer.decay_mask(params) == {"kernel": True, "bias": False, "scale": False, "conv": True}


def test_decay_shrinks_what_the_mask_names_and_nothing_else():
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    adamw = optimizer.adamw(lambda count: 0.5, weight_decay=0.1, mask={"kernel": True, "bias": False})
    updates, _ = adamw.update(jax.tree.map(jnp.zeros_like, params), adamw.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], 0.0)


def test_gradients_are_clipped_to_their_global_norm():
    params = {"a": jnp.zeros(2), "b": jnp.zeros(2)}
    grads = {"a": jnp.array([30.0, 0.0]), "b": jnp.array([0.0, 40.0])}
    adamw = optimizer.adamw(lambda count: 1.0, b1=0.0, clip=5.0)
    _, state = adamw.update(grads, adamw.init(params), params)
    moments = next(part for part in state if hasattr(part, "mu"))
    np.testing.assert_allclose(moments.mu["a"], [3.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(moments.mu["b"], [0.0, 4.0], rtol=1e-6)


def test_a_rate_scales_the_steps_of_its_component_alone():
    params = {"text_encoder": {"w": jnp.ones(3)}, "unet": {"w": jnp.ones(3)}}
    grads = jax.tree.map(lambda leaf: leaf * 0.1, params)
    adamw = optimizer.adamw(lambda count: 1.0, rates={"text_encoder": 0.25})
    updates, _ = adamw.update(grads, adamw.init(params), params)
    np.testing.assert_allclose(updates["text_encoder"]["w"], 0.25 * updates["unet"]["w"], rtol=1e-6)
    np.testing.assert_allclose(updates["unet"]["w"], -1.0, rtol=1e-5)
