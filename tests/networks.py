"""What the tests of blocks and networks share: random weights, abstract sizes, small inputs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.models.condition import Condition


def abstract(module: nn.Module, *args, **kwargs):
    """The boxed parameters of a module as shapes; no arithmetic is done."""
    return jax.eval_shape(lambda: module.init(jax.random.key(0), *args, **kwargs))["params"]


def count(module: nn.Module, *args, **kwargs) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(abstract(module, *args, **kwargs)))


def randomised(module: nn.Module, *args, seed: int = 0, **kwargs):
    """Parameters with no neutral elements: what is initialised to zero or one is random too."""
    shapes = nn.unbox(abstract(module, *args, **kwargs))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        fan_in = max(1, np.prod(leaf.shape[-len(leaf.shape) : -1][-3:])) if len(leaf.shape) > 1 else 4
        values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
        with jax.ensure_compile_time_eval():  # whoever asks, a function that is being traced too
            return jax.device_put(np.float32(values + (path[-1].key == "scale")))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.partial(jax.jit, static_argnums=0)
def apply(module: nn.Module, params, *args):
    """A module's output as one program: operation by operation, each is compiled for itself."""
    return module.apply({"params": params}, *args)


def normal(*shape: int, seed: int = 0) -> jax.Array:
    """Normal numbers as they are put on the device: `jnp.asarray` compiles a program for every shape."""
    return jax.device_put(np.float32(np.random.default_rng(seed).normal(size=shape)))


def condition(batch: int = 2, tokens: int = 5, width: int = 6, vector: int = 3, seed: int = 0) -> Condition:
    """A random condition; in every row but the first only the first two tokens count."""
    mask = np.arange(tokens)[None] < np.array([tokens, *[2] * (batch - 1)])[:, None]
    return Condition(
        normal(batch, tokens, width, seed=seed), jax.device_put(mask), normal(batch, vector, seed=seed + 1)
    )


def spoiled(values: jax.Array, mask: jax.Array) -> jax.Array:
    """`values` with other content where the mask is off."""
    return jnp.where(mask[..., None], values, 7.0 - 3 * values)
