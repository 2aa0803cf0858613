"""What training never shows: pairs of concepts, and concepts with backgrounds, listed once and for good."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable


@dataclass(frozen=True)
class HeldOut:
    """`pairs`: sets of two concepts that never share a training scene; `settings`: (concept, background)."""

    pairs: frozenset[frozenset[str]] = frozenset()
    settings: frozenset[tuple[str, str]] = frozenset()

    def holds(self, concepts: Sequence[str], background: str) -> bool:
        """Whether a scene of these shows any held-out pair."""
        together = any(frozenset((a, b)) in self.pairs for i, a in enumerate(concepts) for b in concepts[:i])
        return together or any((concept, background) in self.settings for concept in concepts)


def read_held_out(file: Traversable) -> HeldOut:
    """The lists of a committed file, which `scripts/make_held_out.py` wrote."""
    lists = json.loads(file.read_text(encoding="utf-8"))
    return HeldOut(
        frozenset(frozenset(pair) for pair in lists["pairs"]), frozenset((c, b) for c, b in lists["settings"])
    )
