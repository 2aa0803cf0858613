"""Outcomes of each prompt, and rates over many of them, with their controls."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.evaluation.checks import CHECKS, ImageReading, applicable_checks, passes_all_checks
from dalle3_jax.evaluation.prompts import VISITORS, Labels, Prompt
from dalle3_jax.evaluation.statistics import Rate, bootstrap, shuffled_rate

ImageArray = UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class Outcome:
    """One picture: what was asked for, by which protocol, in which round and with which seed; what was seen in it."""

    prompt: Prompt
    protocol: str
    round: int
    seed: int
    image: ImageArray
    sight: ImageReading
    checks: dict[str, bool]

    @property
    def right(self) -> bool | None:
        """Whether all is as asked for; None where words are asked for that nobody reads."""
        return all(self.checks.values()) if is_checkable(self) else None

    @property
    def quality(self) -> tuple[float, float]:
        """For ranking: the share of checks that hold, then how sure the reader is of the objects; 0 of nothing."""
        scores = [seen.score for seen in self.sight.reading.objects]
        return mean_or_none(list(self.checks.values())) or 0.0, mean_or_none(scores) or 0.0


@dataclass(frozen=True)
class Truth:
    """A prompt's faultless picture and what the VAE makes of it, with what is seen in both."""

    prompt: Prompt
    image: ImageArray
    copy: ImageArray
    sight: ImageReading
    copy_sight: ImageReading


class RateRow(NamedTuple):
    """One line of the table: the model's rate, on seen and on held-out combinations, and its controls.

    `shuffled` judges every picture by the other prompts' labels; `ceiling` and `copies` are the rates of faultless
    pictures and of the VAE's copies of them. None where there is nothing to measure.
    """

    model: Rate
    seen: Rate | None
    held_out: Rate | None
    shuffled: Rate | None
    ceiling: float | None
    copies: float | None


Check = Callable[[ImageReading, Labels], bool]
Selector = Callable[[Outcome | Truth], bool]


def is_checkable(one: Outcome | Truth) -> bool:
    """Whether all that was asked for can be checked: words need an OCR."""
    return one.sight.words is not None or not one.prompt.labels.words


def table_lines(outcomes: Sequence[Outcome]) -> dict[str, tuple[Selector, Check]]:
    """Line of a table -> what it counts, and the test: all prompts, each kind and group (wholly right), each check.

    Beside visitors' prompts, the others have a line together: the suite was measured with these alone before.
    """
    kinds = dict.fromkeys(outcome.prompt.kind for outcome in outcomes)
    lines: dict[str, tuple[Selector, Check]] = {"all prompts": (is_checkable, passes_all_checks)}
    if VISITORS in kinds and len(kinds) > 1:
        lines[f"all but {VISITORS}"] = (
            lambda one: is_checkable(one) and one.prompt.kind != VISITORS,
            passes_all_checks,
        )
    for kind in kinds:
        lines[kind] = (lambda one, kind=kind: is_checkable(one) and one.prompt.kind == kind, passes_all_checks)
        for group in dict.fromkeys(one.prompt.group for one in outcomes if one.prompt.kind == kind):
            pair = kind, group
            if group:
                lines[f"{kind}: {group}"] = (
                    lambda one, pair=pair: is_checkable(one) and (one.prompt.kind, one.prompt.group) == pair,
                    passes_all_checks,
                )
    for name, test in CHECKS.items():
        lines[f"check: {name}"] = (lambda one, name=name: name in outcome_checks(one), test)
    return {name: (member, test) for name, (member, test) in lines.items() if any(map(member, outcomes))}


def outcome_checks(one: Outcome | Truth) -> tuple[str, ...]:
    """The checks that a picture is put to."""
    return applicable_checks(one.prompt.labels, ocr=one.sight.words is not None)


def rate_rows(outcomes: Sequence[Outcome], truths: Sequence[Truth]) -> dict[str, RateRow]:
    """The lines of one protocol."""
    return {
        name: rate_row(list(filter(member, outcomes)), list(filter(member, truths)), test)
        for name, (member, test) in table_lines(outcomes).items()
    }


def right_shares(outcomes: Sequence[Outcome]) -> dict[str, float]:
    """The lines of one protocol as shares of the pictures that are right, without intervals and controls."""
    return {
        name: float(np.mean([test(one.sight, one.prompt.labels) for one in filter(member, outcomes)]))
        for name, (member, test) in table_lines(outcomes).items()
    }


def rate_row(outcomes: Sequence[Outcome], truths: Sequence[Truth], test: Check) -> RateRow:
    """The rates of a test on pictures and on the faultless ones."""

    def rate(chosen: Sequence[Outcome]) -> Rate | None:
        return bootstrap(hit_matrix(chosen, test)) if chosen else None

    model = bootstrap(hit_matrix(outcomes, test))
    first = [outcome for outcome in outcomes if outcome.round == 0]
    sights, labels = [outcome.sight for outcome in first], [outcome.prompt.labels for outcome in first]
    return RateRow(
        model,
        rate([outcome for outcome in outcomes if not outcome.prompt.held_out]),
        rate([outcome for outcome in outcomes if outcome.prompt.held_out]),
        shuffled_rate(test, sights, labels) if len(first) > 1 else None,
        mean_or_none([test(truth.sight, truth.prompt.labels) for truth in truths]),
        mean_or_none([test(truth.copy_sight, truth.prompt.labels) for truth in truths]),
    )


def hit_matrix(outcomes: Sequence[Outcome], test: Check) -> np.ndarray:
    """Whether each picture passes: a row per prompt, a column per round."""
    prompts = list(dict.fromkeys(outcome.prompt.id for outcome in outcomes))
    hits = np.zeros((len(prompts), 1 + max(outcome.round for outcome in outcomes)), bool)
    place = {prompt: number for number, prompt in enumerate(prompts)}
    for outcome in outcomes:
        hits[place[outcome.prompt.id], outcome.round] = test(outcome.sight, outcome.prompt.labels)
    return hits


def mean_or_none(hits: Sequence[bool] | Sequence[float]) -> float | None:
    """The mean, of hits their share; None of nothing."""
    return float(np.mean(hits)) if len(hits) else None
