"""The training state: everything that a run needs to go on, and its layout on a mesh."""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from dalle3_jax.training import sharding
from dalle3_jax.typing import Key, Params

__all__ = ["TrainState", "create_state", "init_params", "state_shardings", "with_shardings"]


class TrainState(flax.struct.PyTreeNode):
    """Weights, their moving average, moments, randomness and counters; all on the device, all donated.

    Leaves are arrays; or their shapes or shardings, in trees that describe a state.
    """

    step: Any  # Int[Array, ""]: steps taken, skipped ones included
    params: Params
    ema: Params
    opt_state: optax.OptState
    key: Any  # Key: randomness of the whole run, folded with the step
    skipped: Any  # Int[Array, ""]
    skipped_in_a_row: Any  # Int[Array, ""]


def init_params(modules: Mapping[str, nn.Module], inputs: Mapping[str, Sequence[Any]], key: Key) -> dict[str, Any]:
    """Boxed fresh parameters {component: tree} of those that `inputs` holds abstract arguments for.

    Each has its own part of the key, whichever of the modules are asked for.
    """

    def init(name: str, key: Key) -> Any:
        zeros = [jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), argument) for argument in inputs[name]]
        return modules[name].init(key, *zeros)["params"]

    names = sorted(modules)
    keys = zip(names, jax.random.split(key, len(names)), strict=True)
    return {name: init(name, k) for name, k in keys if name in inputs}


def create_state(params: Params, optimizer: optax.GradientTransformation, key: Key) -> TrainState:
    """The state before the first step; the average starts at the parameters."""
    zero = jnp.zeros((), jnp.int32)
    ema = jax.tree.map(jnp.copy, params)
    return TrainState(zero, params, ema, optimizer.init(params), key, zero, jnp.copy(zero))


def state_shardings(
    boxed: Mapping[str, Any], optimizer: optax.GradientTransformation, mesh: Mesh | AbstractMesh, key: Key
) -> tuple[TrainState, TrainState]:
    """(abstract state, its shardings) for abstract boxed parameters: averages and moments lie as their parameters."""
    params = sharding.param_shardings(boxed, mesh)
    abstract = jax.eval_shape(lambda p: create_state(p, optimizer, key), nn.unbox(boxed))
    whole = sharding.replicated_sharding(mesh)
    moments = optax.tree.map_params(
        optimizer, lambda _, s: s, abstract.opt_state, params, transform_non_params=lambda _: whole
    )
    return abstract, TrainState(whole, params, params, moments, whole, whole, whole)


def with_shardings(abstract: Any, layout: Any) -> Any:
    """Abstract arrays that carry their shardings, as restoring wants them."""
    return jax.tree.map(lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), abstract, layout)
