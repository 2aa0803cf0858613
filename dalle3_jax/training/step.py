"""One training step as a pure function of state, frozen parameters and a batch."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, Mesh

from dalle3_jax.nn.backend import update_if
from dalle3_jax.training import sharding
from dalle3_jax.training.state import TrainState
from dalle3_jax.typing import Array, Float, Int, Key, LossFn, Params

__all__ = ["Metrics", "Step", "compile_step", "ema_decay", "make_step"]

Metrics = dict[str, Array]
Held = tuple[Params, Params, Any]
"""Parameters, their moving average, and the optimiser's moments."""

Step = Callable[[TrainState, Params, Mapping[str, Array]], tuple[TrainState, Metrics]]


def ema_decay(decay: float, updates: Int[Array, ""]) -> Float[Array, ""]:
    """The moving average's decay with its warm-up: min(decay, (1 + n) / (10 + n)) after n updates."""
    return jnp.minimum(decay, (1.0 + updates) / (10.0 + updates))


def make_step(loss_fn: LossFn, optimizer: optax.GradientTransformation, *, ema: float, accumulate: int = 1) -> Step:
    """The step for `loss_fn`: gradient over `accumulate` parts of the batch, update, average.

    A loss or gradient that is not finite leaves parameters, average and moments as they were and is counted.
    The loss finds the moving average and the number of the step in frozen["run"], as `ema` and `step`.
    """
    gradient = jax.value_and_grad(loss_fn, has_aux=True)

    def step(state: TrainState, frozen: Params, batch: Mapping[str, Array]) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        known = {**frozen, "run": {"ema": state.ema, "step": state.step}}
        (loss, metrics), grads = _accumulate_gradients(gradient, accumulate)(state.params, known, batch, key)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)

        def update(held: Held) -> Held:
            updates, opt_state = optimizer.update(grads, held[2], held[0])
            params: Any = optax.apply_updates(held[0], updates)
            decay = ema_decay(ema, state.step - state.skipped)
            average = jax.tree.map(lambda old, new: new + decay * (old - new), held[1], params)
            return params, average, opt_state

        params, average, opt_state = update_if(finite, update, (state.params, state.ema, state.opt_state))
        bad = 1 - finite.astype(jnp.int32)
        state = state.replace(
            step=state.step + 1,
            params=params,
            ema=average,
            opt_state=opt_state,
            skipped=state.skipped + bad,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * bad,
        )
        counts = {"skipped": state.skipped, "skipped_in_a_row": state.skipped_in_a_row}
        return state, {"loss": loss, "grad_norm": norm, **metrics, **counts}

    return step


def compile_step(step: Step, layout: TrainState, mesh: Mesh | AbstractMesh) -> Any:
    """The step jitted over the mesh: the state is donated and keeps its layout, metrics are whole everywhere."""
    return jax.jit(
        sharding.with_axis_rules(step), donate_argnums=0, out_shardings=(layout, sharding.replicated_sharding(mesh))
    )


def _accumulate_gradients(gradient: Callable[..., Any], parts: int) -> Callable[..., Any]:
    """Means of loss, metrics and gradients over `parts` slices of the batch, one after the other."""
    if parts == 1:
        return gradient

    def split(x: Array) -> Array:  # rows i, i + parts, ...: every device keeps rows of its own
        return x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1)

    def run(params: Params, frozen: Params, batch: Mapping[str, Array], key: Key) -> Any:
        def part(total: Any, slice_and_key: Any) -> tuple[Any, None]:
            rows, part_key = slice_and_key
            return jax.tree.map(jnp.add, total, gradient(params, frozen, rows, part_key)), None

        slices = (jax.tree.map(split, dict(batch)), jax.random.split(key, parts))
        shapes = jax.eval_shape(gradient, params, frozen, *jax.tree.map(lambda x: x[0], slices))
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        total, _ = jax.lax.scan(part, zeros, slices)
        return jax.tree.map(lambda x: x / parts, total)

    return run
