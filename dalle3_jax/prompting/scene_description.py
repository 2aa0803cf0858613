"""A description of a scene that was read from its pixels, in the words that a model of scenes was trained on."""

from collections.abc import Sequence
from typing import NamedTuple

from dalle3_jax.prompting.claims import Claims, Relation
from dalle3_jax.prompting.lexicon import Lexicon
from dalle3_jax.prompting.template import Chooser, compose_description

__all__ = ["PlacedThing", "describe_scene"]


class PlacedThing(NamedTuple):
    """A thing with its colour ("": its own), its centre as fractions of the frame, from the left and from the top."""

    name: str
    tint: str
    x: float
    y: float


def describe_scene(things: Sequence[PlacedThing], background: str, lexicon: Lexicon) -> str:
    """The description, things from left to right; "" where the lexicon has words for none of them."""
    known = sorted((thing for thing in things if thing.name in lexicon.things), key=lambda thing: thing.x)
    if not known:
        return ""
    groups: dict[str, list[PlacedThing]] = {}
    for thing in known:
        groups.setdefault(thing.name, []).append(thing)
    numbers = {name: len(group) for name, group in groups.items()}
    tints = {name: tuple(dict.fromkeys(one.tint for one in group if one.tint)) for name, group in groups.items()}
    backgrounds = (background,) if background in lexicon.backgrounds else ()
    relations = (_relation(*groups.values()),) if len(groups) == 2 else ()
    claims = Claims(numbers, tints, relations, _place(groups), backgrounds)
    return compose_description(claims, lexicon, Chooser(background))


def _relation(first: Sequence[PlacedThing], second: Sequence[PlacedThing]) -> Relation:
    """The relation of two kinds of things, by the larger distance of their centres."""
    across = _mean([one.x for one in first]) - _mean([one.x for one in second])
    down = _mean([one.y for one in first]) - _mean([one.y for one in second])
    before = across < 0 if abs(across) >= abs(down) else down < 0
    one, other = (first, second) if before else (second, first)
    return one[0].name, "left of" if abs(across) >= abs(down) else "above", other[0].name


def _place(groups: dict[str, list[PlacedThing]]) -> dict[str, str]:
    """The place of a single thing, if that is not the middle."""
    [name, *others] = groups
    [thing, *more] = groups[name]
    if others or more:
        return {}
    column, row = (min(int(3 * at), 2) for at in (thing.x, thing.y))
    place = f"{('top', '', 'bottom')[row]} {('left', '', 'right')[column]}".strip()
    return {name: place} if place else {}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
