"""A linear model with a frozen target: what the step and the checkpoints are tested on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from dalle3_jax.training import optimizer, sharding
from dalle3_jax.training.state import TrainState, create_state, state_shardings
from dalle3_jax.training.step import compile_step, make_step

FROZEN = {"teacher": {"kernel": jnp.arange(6.0).reshape(3, 2)}}


def loss_fn(params, frozen, batch, key):
    """Squared distance from the frozen teacher's outputs, times the batch's own weight."""
    del key
    x = batch["x"]
    error = x @ params["net"]["kernel"] + params["net"]["bias"] - x @ frozen["teacher"]["kernel"]
    loss = jnp.mean(batch["weight"][:, None] * jnp.square(error))
    return loss, {"error": jnp.mean(jnp.abs(error))}


def boxed():
    """Abstract parameters with logical axes."""

    def leaf(shape, names):
        return nn.LogicallyPartitioned(jax.ShapeDtypeStruct(shape, jnp.float32), names)

    return {"net": {"kernel": leaf((3, 2), ("embed", "out")), "bias": leaf((2,), ("out",))}}


def new_state(adamw: optax.GradientTransformation, key: int = 0) -> TrainState:
    """The state before the first step."""
    kernel = jax.random.normal(jax.random.key(1), (3, 2))
    return create_state({"net": {"kernel": kernel, "bias": jnp.zeros(2)}}, adamw, jax.random.key(key))


def batch(seed: int, rows: int = 8) -> dict[str, np.ndarray]:
    """Random inputs."""
    x = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    return {"x": x, "weight": np.ones(rows, np.float32)}


def adamw(learning_rate: float = 0.1, clip: float = 1e9) -> optax.GradientTransformation:
    """AdamW at a constant rate."""
    return optimizer.adamw(lambda count: learning_rate, weight_decay=0.0, clip=clip)


def compiled(ema: float = 0.9, accumulate: int = 1, loss=loss_fn, **fields: float):
    """(jitted step with donated state, first state)."""
    transform = adamw(**fields)
    mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
    _, layout = state_shardings(boxed(), transform, mesh, jax.random.key(0))
    step = compile_step(make_step(loss, transform, ema=ema, accumulate=accumulate), layout, mesh)
    return step, jax.jit(lambda: new_state(transform), out_shardings=layout)()
