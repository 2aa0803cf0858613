"""Components of a release that began with weights from elsewhere, by the record of its training."""

from collections.abc import Mapping
from typing import Any

__all__ = ["foreign_components"]


def foreign_components(training: Mapping[str, Any]) -> set[str]:
    """Components that began with neither nothing nor an earlier stage of the same run nor the demo.

    Of those a config's `init` gives a plain name; a path or an id of the hub has a slash. Records from before
    `init_digests` tell of none.
    """
    config = training.get("config", {})
    own = {name for name, where in config.get("init", {}).items() if "/" not in str(where)}
    return {*config.get("init_digests", {})} - own
