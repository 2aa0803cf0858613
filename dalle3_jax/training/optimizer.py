"""AdamW with warm-up, a constant part and a cosine to zero; gradient clipping; decay on matrices only."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

__all__ = ["adamw", "decay_mask", "learning_rate"]


def learning_rate(peak: float, steps: int, warmup: int = 0, constant: float = 0.0) -> optax.Schedule:
    """Linear over `warmup` updates, `peak` until `constant` (a fraction of `steps`), then half a cosine to 0."""
    start = max(warmup, constant * steps)

    def schedule(count: Any) -> jax.Array:
        ramp = jnp.minimum(1.0, (count + 1) / max(warmup, 1))
        progress = jnp.clip((count - start) / max(steps - start, 1), 0.0, 1.0)
        return peak * jnp.minimum(ramp, 0.5 * (1.0 + jnp.cos(jnp.pi * progress)))

    return schedule


def decay_mask(boxed: Any) -> Any:
    """Which parameters weight decay applies to: those with two axes or more beside the stacked layers."""

    def is_matrix(leaf: Any) -> bool:
        if isinstance(leaf, nn.LogicallyPartitioned):
            return sum(name != "layers" for name in leaf.names) >= 2
        return leaf.ndim >= 2

    return jax.tree.map(is_matrix, boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned))


def adamw(
    schedule: optax.Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    mask: Any = None,
    rates: Mapping[str, float] | None = None,
) -> optax.GradientTransformation:
    """AdamW (arXiv 1711.05101) on gradients clipped to a global norm of `clip`; `mask` says what decays.

    `rates` multiplies the learning rate of the components that it names.
    """
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
        optax.add_decayed_weights(weight_decay, mask=mask),
        optax.scale_by_learning_rate(schedule),
        *(
            optax.masked(optax.scale(rate), functools.partial(_component_mask, name))
            for name, rate in (rates or {}).items()
        ),
    )


def _component_mask(component: str, params: Mapping[str, Any]) -> Any:
    return {name: jax.tree.map(lambda _, here=name == component: here, tree) for name, tree in params.items()}
