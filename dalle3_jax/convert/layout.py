"""How one public class of network lies on disk: what its config.json means, and the table of its tensors."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from flax import linen as nn

from dalle3_jax.convert.rules import Rule

__all__ = ["NetworkLayout"]

Config = Mapping[str, Any]


class NetworkLayout(NamedTuple):
    """One public class.

    `module` and `rules` read a config.json, `config` writes one: each raises a ValueError that names every option, or
    field, that cannot be had on the other side. `ignored` are patterns of tensors that may be there and belong to
    parts that are not imported. `tied` are tensors that may be there as copies of another one.
    """

    module: Callable[[Config], nn.Module]
    rules: Callable[[Config], list[Rule]]
    config: Callable[[Any], dict[str, Any]]
    ignored: tuple[str, ...] = ()
    tied: Mapping[str, str] = {}
