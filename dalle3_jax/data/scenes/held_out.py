"""Combinations that training never shows, listed once and for good in a committed file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources.abc import Traversable


@dataclass(frozen=True)
class HeldOut:
    """Combinations that no training scene holds.

    `pairs`: sets of two concepts that never share a scene; `settings`: (concept, background); `styles`: (concept,
    style); `counts`: (number, concept); `words`: drawn words, in lower case.
    """

    pairs: frozenset[frozenset[str]] = frozenset()
    settings: frozenset[tuple[str, str]] = frozenset()
    styles: frozenset[tuple[str, str]] = frozenset()
    counts: frozenset[tuple[int, str]] = frozenset()
    words: frozenset[str] = frozenset()

    def matches(
        self,
        concepts: Sequence[str],
        background: str = "",
        style: str = "",
        numbers: Sequence[int] = (),
        words: Sequence[str] = (),
    ) -> bool:
        """Whether a scene of these, with `numbers` of the concepts, shows any held-out combination or word."""
        return (
            any(frozenset((a, b)) in self.pairs for i, a in enumerate(concepts) for b in concepts[:i])
            or any((concept, background) in self.settings for concept in concepts)
            or any((concept, style) in self.styles for concept in concepts)
            or any(pair in self.counts for pair in zip(numbers, concepts, strict=False))
            or any(word.lower() in self.words for word in words)
        )


def read_held_out(file: Traversable) -> HeldOut:
    """The lists of a committed file, which `scripts/make_held_out.py` wrote."""
    lists = json.loads(file.read_text(encoding="utf-8"))
    return HeldOut(
        pairs=frozenset(frozenset(pair) for pair in lists.get("pairs", ())),
        settings=frozenset((concept, background) for concept, background in lists.get("settings", ())),
        styles=frozenset((concept, style) for concept, style in lists.get("styles", ())),
        counts=frozenset((number, concept) for number, concept in lists.get("counts", ())),
        words=frozenset(lists.get("words", ())),
    )
