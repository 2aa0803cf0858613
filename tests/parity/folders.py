"""Networks of the reference packages through folders: written by them and read by us, and the other way round."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.typing import Params


def imported(theirs: torch.nn.Module, folder: Path) -> tuple[nn.Module, Params]:
    """What we make of a network of theirs."""
    theirs.save_pretrained(folder)
    return convert.load(folder)


def exported(
    module: nn.Module, params: Params, cls: type[torch.nn.Module], folder: Path, config: Mapping[str, Any] | None = None
) -> torch.nn.Module:
    """What they make of a network of ours, written with its own config.json or a given one."""
    convert.save(folder, module, params, config=config)
    return cls.from_pretrained(folder).eval().requires_grad_(False)


def assert_same_weights(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], weight)


def assert_same_tree(ours: Params, theirs: Params) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
