"""A stage: what the training loop needs to know of what it trains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.stages.config import plain_config
from dalle3_jax.typing import LossFn, Params

__all__ = ["Stage", "apply_network", "training_metadata"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The objective, the data, a preview of what was learnt (parameters, file, step) and the release of it.

    A preview leaves a picture and returns figures by name, for the metrics. `frozen` is what the objective is given
    beside the networks that do not learn.
    """

    loss_fn: LossFn
    data: Callable[[], Any]
    preview: Callable[[Params, Path, int], Mapping[str, float]]
    release: Callable[[Params, int], Release]
    frozen: Params = field(default_factory=dict)


def apply_network(module: nn.Module, params: Params, *args: Any, method: str | None = None) -> Any:
    """The network as a function that takes its parameters first."""
    return module.apply({"params": params}, *args, method=method)


def training_metadata(config: ConfigDict, step: int) -> dict[str, Any]:
    """A release's record of its training."""
    return {
        "stage": config.train.stage,
        "steps": step,
        "images": step * config.train.batch_size,
        "config": plain_config(config),
    }
