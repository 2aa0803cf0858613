"""The optimiser that a config asks for."""

from typing import Any

import optax
from ml_collections import ConfigDict

from dalle3_jax.training import optimizer

__all__ = ["updates"]


def updates(config: ConfigDict, boxed: Any) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser for the parameters that learn, and its learning rate after so many updates."""
    c = config.train
    schedule = optimizer.learning_rate(c.learning_rate, c.steps, c.warmup, c.constant)
    if unknown := sorted(set(c.rates) - set(c.trainable)):
        raise ValueError(f"train.rates names {', '.join(unknown)}, which train.trainable {tuple(c.trainable)} lacks")
    adamw = optimizer.adamw(
        schedule,
        b1=c.b1,
        b2=c.b2,
        weight_decay=c.weight_decay,
        clip=c.clip,
        mask=optimizer.decayed(boxed),
        rates=dict(c.rates),
    )
    return adamw, schedule
