"""The layout of one public class of network on disk: what its config.json means, and the table of its tensors."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from dalle3_jax.convert.rules import Rule

__all__ = ["NetworkLayout"]

Config = Mapping[str, Any]


class NetworkLayout(NamedTuple):
    """One public class.

    `module` reads a config.json, `rules` takes that and the module, `config` writes one: each raises a ValueError that
    names every option, or field, that cannot be had on the other side. `ignored` are patterns of tensors that may be
    there and belong to parts that are not imported. `tied` are, for a config, the names under which one tensor may be
    there: the first of them counts, and others that are not ignored must be copies of it. `float32` are patterns of
    parameters that stay in float32 where the others are in float16.
    """

    module: Callable[[Config], nn.Module]
    rules: Callable[[Config, Any], list[Rule]]
    config: Callable[[Any], dict[str, Any]]
    ignored: tuple[str, ...] = ()
    tied: Callable[[Config], tuple[str, ...]] = lambda config: ()
    float32: tuple[str, ...] = ()
