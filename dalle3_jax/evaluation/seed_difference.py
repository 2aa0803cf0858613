"""The change that a seed makes: the mean absolute difference of pictures of one prompt, in levels of 255.

A model whose layouts are a function of the caption draws nearly the same picture for every seed; where a prompt leaves
places open they should differ. What pictures of different prompts differ by stands beside it, as the scale.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.evaluation.outcomes import Outcome
from dalle3_jax.evaluation.prompts import Labels
from dalle3_jax.evaluation.statistics import Rate, bootstrap
from dalle3_jax.evaluation.tables import markdown_table

__all__ = ["DIFFERENT", "LEAST", "OPEN", "seed_difference_markdown", "seed_differences"]

LEAST = 15.0
"""Levels by which seeds of a prompt that leaves places open should differ on the mean."""

OPEN, DIFFERENT = "places left open", "different prompts"
ImageArray = UInt8[np.ndarray, "h w 3"]


def seed_differences(outcomes: Sequence[Outcome]) -> dict[str, Rate]:
    """The mean over prompts of the mean over pairs of seeds: of all, of those that leave places open, of each kind.

    Of a single seed there is nothing. The last line compares pictures of different prompts, neighbours in the list that
    are of one size.
    """
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for one in outcomes:
        groups[one.prompt.id].append(one)
    pairs = {name: pair_differences([one.image for one in group]) for name, group in groups.items() if len(group) > 1}
    if not pairs:
        return {}
    prompts = {name: groups[name][0].prompt for name in pairs}
    members = {"all prompts": list(pairs)}
    members[OPEN] = [name for name in pairs if leaves_places_open(prompts[name].labels)]
    for name, prompt in prompts.items():
        members.setdefault(prompt.kind, []).append(name)
    rates = {line: bootstrap(np.array([pairs[name] for name in names])) for line, names in members.items() if names}
    first = [group[0].image for group in groups.values()]
    others = [image_difference(a, b) for a, b in pairwise(first) if a.shape == b.shape]
    return rates | ({DIFFERENT: bootstrap(np.array(others))} if others else {})


def leaves_places_open(labels: Labels) -> bool:
    """Whether a prompt asks for things, and for no place or relation of any."""
    return bool(labels.objects) and not labels.relations and not any(wanted.place for wanted in labels.objects)


def pair_differences(images: Sequence[ImageArray]) -> float:
    """The mean over all pairs."""
    return float(np.mean([image_difference(a, b) for a, b in combinations(images, 2)]))


def image_difference(a: ImageArray, b: ImageArray) -> float:
    """The mean absolute difference of two pictures of one size, in levels of 255."""
    return float(np.mean(np.abs(a.astype(np.int16) - b)))


def seed_difference_markdown(rates: Mapping[str, Rate]) -> str:
    """The table, with what is asked for where places are open."""
    lines = [[name, str(rate.prompts), f"{rate.value:.1f}", format_levels(rate)] for name, rate in rates.items()]
    table = markdown_table(["of 255", "prompts", "mean difference", "95 % interval"], lines)
    return f"{table}\n\nWhere prompts leave places open, {LEAST:g} of 255 are wanted."


def format_levels(rate: Rate) -> str:
    """The bounds in levels."""
    return f"{rate.low:.1f} to {rate.high:.1f}"
