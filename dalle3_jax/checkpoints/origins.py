"""Components of a release that began with weights from elsewhere, by the record of its training."""

from collections.abc import Mapping
from typing import Any

__all__ = ["foreign_components"]

SHIPPED = "dalle3_jax/releases/"


def foreign_components(training: Mapping[str, Any]) -> set[str]:
    """Components whose weights come from outside the run and the releases shipped with this package.

    A config's `init` names an earlier stage of its run by a plain name, other weights by a path or an id of the hub,
    with a slash. What an earlier stage began with is in that stage's own record alone.
    """
    config = training.get("config", {})
    init = {name: str(where) for name, where in config.get("init", {}).items() if where}
    own = {name for name, where in init.items() if "/" not in where or where.startswith(SHIPPED)}
    return {*config.get("init_digests", init)} - own
