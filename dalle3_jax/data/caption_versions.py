"""Which versions of captions are drawn, and how often: those that a config asks for, or the only one there is."""

import functools
import sys
from collections.abc import Mapping
from typing import Any

from dalle3_jax.data.records import BadRecord

__all__ = ["main_version", "usable_captions"]

LOOKED_AT = 100
"""Records that are tried for good ones."""

GOOD = 8
"""Good records whose versions are taken for those of all."""

REMEDY = "write captions with dalle3-jax recaption, and name their folder in data.sidecars"


def usable_captions(source: Any, weights: Mapping[str, float]) -> dict[str, float]:
    """The probability of each caption version of a source's records, as data.captions says.

    Where the first records lack what is asked for and have one version alone, it is drawn every time, and that is said
    once. ValueError where they have others, or no captions.
    """
    wanted = {version for version, weight in weights.items() if weight > 0}
    versions: set[str] = set()
    good = 0
    for index in range(min(LOOKED_AT, len(source))):
        try:
            versions |= set(source[index].captions)
        except BadRecord:
            continue
        good += 1
        if wanted <= versions:
            return dict(weights)
        if good == GOOD:
            break
    if not good:  # which reading them says
        return dict(weights)
    missing = sorted(wanted - versions)
    if not versions:
        raise ValueError(f"data.captions asks for {missing}, and the records have no captions: {REMEDY}")
    if len(versions) > 1:
        raise ValueError(
            f"data.captions asks for {missing}, and the records have {sorted(versions)}: ask for those, as "
            f"--config.data.captions=\"{{'{min(versions)}': 1.0}}\", or {REMEDY}"
        )
    note_only_version(*versions, ", ".join(missing))
    return dict.fromkeys(versions, 1.0)


@functools.cache
def note_only_version(version: str, missing: str) -> None:
    """Say once that a version is drawn in place of others."""
    print(
        f"note: the records have no caption {missing}: {version}, the only version that they have, is drawn every time "
        f"(--config.data.captions=\"{{'{version}': 1.0}}\" says the same)",
        file=sys.stderr,
    )


def main_version(weights: Mapping[str, float]) -> str:
    """The version that is drawn most often."""
    return max(weights, key=lambda version: weights[version])
