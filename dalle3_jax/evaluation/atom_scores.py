"""Scores of atoms as rates: by skill, and by how many atoms a prompt has.

As GenEval 2 has them (arXiv 2512.16853): the arithmetic mean of the atoms' probabilities says how many things are
right, their geometric mean over a prompt whether all of it is; both are averaged over prompts.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dalle3_jax.evaluation.atoms import SKILLS, Atom, count_atoms, label_atoms
from dalle3_jax.evaluation.checks import ImageReading
from dalle3_jax.evaluation.outcomes import Outcome, Truth
from dalle3_jax.evaluation.prompts import Labels
from dalle3_jax.evaluation.statistics import Rate, bootstrap, pooled_rate
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table

__all__ = [
    "AtomRow",
    "AtomScores",
    "atom_counts",
    "atom_markdown",
    "atom_rows",
    "outcome_atom_rows",
    "read_atoms",
]

SHIFTS = 10
"""Pictures of so many other prompts on which each prompt's atoms are judged, as the control."""

MEAN, WHOLE = "mean of atoms", "whole prompt (geometric mean)"


class AtomScores(NamedTuple):
    """The probabilities of a prompt's atoms in one picture; `atom_count` is of how many it is a composition."""

    prompt: str
    atom_count: int
    atoms: tuple[Atom, ...]
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The arithmetic mean."""
        return sum(self.scores) / len(self.scores)

    @property
    def geometric_mean(self) -> float:
        """The geometric mean: 0 where any atom is surely not there."""
        return math.prod(self.scores) ** (1 / len(self.scores))


class AtomRow(NamedTuple):
    """One line of the table: the model's, and what other prompts' pictures, true scenes and the VAE's copies have."""

    model: Rate
    shuffled: float | None = None
    ceiling: float | None = None
    copies: float | None = None


def read_atoms(prompt: str, labels: Labels, sight: ImageReading) -> AtomScores | None:
    """The atoms of a picture by its reader; None where there is nothing that it can say."""
    atoms = label_atoms(labels, ocr=sight.words is not None)
    scores = tuple(atom.probability(sight) for atom in atoms if atom.probability is not None)
    return AtomScores(prompt, count_atoms(atoms), atoms, scores) if atoms else None


def outcome_atom_rows(outcomes: Sequence[Outcome], truths: Sequence[Truth]) -> dict[str, AtomRow]:
    """The lines of one protocol, by the reader."""
    return atom_rows(
        without_missing([read_atoms(one.prompt.id, one.prompt.labels, one.sight) for one in outcomes]),
        shuffled_atoms([one for one in outcomes if one.round == 0]),
        without_missing([read_atoms(one.prompt.id, one.prompt.labels, one.sight) for one in truths]),
        without_missing([read_atoms(one.prompt.id, one.prompt.labels, one.copy_sight) for one in truths]),
    )


def shuffled_atoms(outcomes: Sequence[Outcome]) -> list[AtomScores]:
    """The atoms of every prompt in the pictures of others."""
    count = len(outcomes)
    pairs = [(i, (i + shift) % count) for shift in range(1, min(SHIFTS, count - 1) + 1) for i in range(count)]
    return without_missing(
        [read_atoms(outcomes[i].prompt.id, outcomes[i].prompt.labels, outcomes[other].sight) for i, other in pairs]
    )


def without_missing(scores: Sequence[AtomScores | None]) -> list[AtomScores]:
    """Those that there are."""
    return [one for one in scores if one is not None]


def atom_rows(
    model: Sequence[AtomScores],
    shuffled: Sequence[AtomScores] = (),
    ceiling: Sequence[AtomScores] = (),
    copies: Sequence[AtomScores] = (),
) -> dict[str, AtomRow]:
    """Both means, the mean of each skill's atoms, and the geometric means of prompts with 1, 2, ... atoms."""
    lines: dict[str, Callable[[Sequence[AtomScores]], Rate | None]] = {MEAN: mean_rate, WHOLE: whole_rate}
    skills = {atom.skill for one in model for atom in one.atoms}
    for skill in [*filter(skills.__contains__, SKILLS), *sorted(skills - {*SKILLS})]:
        lines[f"skill: {skill}"] = lambda scores, skill=skill: skill_rate(scores, skill)
    for count in atom_counts(model):
        name = f"{count} atom{'s' * (count > 1)}"
        lines[name] = lambda scores, count=count: whole_rate([one for one in scores if one.atom_count == count])
    rows = {}
    for name, rate in lines.items():
        if (model_rate := rate(model)) is not None:
            controls = [one.value if (one := rate(scores)) else None for scores in (shuffled, ceiling, copies)]
            rows[name] = AtomRow(model_rate, *controls)
    return rows


def atom_counts(scores: Sequence[AtomScores]) -> list[int]:
    """The numbers of atoms that prompts have."""
    return sorted({one.atom_count for one in scores} - {0})


def mean_rate(scores: Sequence[AtomScores]) -> Rate | None:
    """The arithmetic means, averaged over prompts."""
    return mean_by_prompt(scores, lambda one: one.mean)


def whole_rate(scores: Sequence[AtomScores]) -> Rate | None:
    """The geometric means, averaged over prompts."""
    return mean_by_prompt(scores, lambda one: one.geometric_mean)


def skill_rate(scores: Sequence[AtomScores], skill: str) -> Rate | None:
    """The mean of all atoms of a skill."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in scores:
        values = [value for atom, value in zip(one.atoms, one.scores, strict=True) if atom.skill == skill]
        if values:
            groups[one.prompt] += values
    return pooled_rate(list(groups.values())) if groups else None


def mean_by_prompt(scores: Sequence[AtomScores], value: Callable[[AtomScores], float]) -> Rate | None:
    """The average over prompts, each of which has the mean of its pictures; None of nothing."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in scores:
        groups[one.prompt].append(value(one))
    return bootstrap(np.array([np.mean(values) for values in groups.values()])) if groups else None


def atom_markdown(rows: Mapping[str, AtomRow]) -> str:
    """The table; controls that nobody measured are left out."""
    controls = {"shuffled": "other prompts", "ceiling": "true scenes", "copies": "VAE's copies"}
    shown = {
        name: title for name, title in controls.items() if any(getattr(row, name) is not None for row in rows.values())
    }

    def cells(row: AtomRow) -> list[str]:
        values = [getattr(row, name) for name in shown]
        rate = [str(row.model.prompts), format_percent(row.model.value), format_interval(row.model)]
        return [*rate, *(format_percent(value) if value is not None else "-" for value in values)]

    titles = ["", "prompts", "probability", "95 % interval", *shown.values()]
    return markdown_table(titles, [[name, *cells(row)] for name, row in rows.items()])


def atoms_to_list(scores: AtomScores) -> list[dict[str, Any]]:
    """The atoms of a picture as JSON values."""
    return [
        {"skill": atom.skill, "question": atom.question, "answer": atom.answer, "probability": round(value, 4)}
        for atom, value in zip(scores.atoms, scores.scores, strict=True)
    ]
