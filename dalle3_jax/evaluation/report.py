"""The report of an evaluation: for people as a table and sheets of pictures, for programs as plain values."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dalle3_jax.evaluation.judge import MISTAKES, mistake
from dalle3_jax.evaluation.reader import Reading
from dalle3_jax.evaluation.sheets import GREEN, RED, Cell, Line, sheet
from dalle3_jax.evaluation.statistics import Rate

SHOWN = 12  # pictures on a sheet


class Row(NamedTuple):
    """One measure: the model's rate, that of shuffled prompts, chance, and the rates of pictures without fault."""

    model: Rate
    shuffled: Rate
    chance: float
    ceilings: dict[str, float]


@dataclass(frozen=True)
class Outcome:
    """One prompt, what its picture should show and what was read, and its PSNR against the true scene (dB)."""

    prompt: str
    kind: str
    asked: Reading
    read: Reading
    image: np.ndarray
    psnr: float


@dataclass(frozen=True)
class Report:
    """The whole evaluation; `psnr` is that of the VAE's reconstructions of the true scenes (dB)."""

    settings: dict[str, Any]
    rows: dict[str, Row]
    psnr: float
    outcomes: list[Outcome]

    def mistakes(self) -> dict[str, dict[str, int]]:
        """For each kind of scene, how often the objects were right, and how often wrong in which way."""
        found: dict[str, Counter] = {}
        for outcome in self.outcomes:
            found.setdefault(outcome.kind, Counter())[mistake(outcome.read, outcome.asked)] += 1
        return {kind: {name: counts[name] for name in MISTAKES} for kind, counts in sorted(found.items())}

    def plain(self) -> dict[str, Any]:
        """Everything but the pixels, as plain JSON values."""
        return {
            "settings": self.settings,
            "reconstruction_psnr": self.psnr,
            "metrics": {name: _plain_row(row) for name, row in self.rows.items()},
            "mistakes": self.mistakes(),
            "pictures": [
                {"prompt": one.prompt, "kind": one.kind, "asked": str(one.asked), "read": str(one.read)}
                | {"right": one.read == one.asked, "mistake": mistake(one.read, one.asked), "psnr": one.psnr}
                for one in self.outcomes
            ],
        }

    def markdown(self) -> str:
        """The settings, the rates with their controls, and what kinds of mistakes there were."""
        used = self.settings
        height, width = used["size"]
        head = (
            f"{used['count']} prompts ({used['split'].replace('_', ' ')}, seed {used['seed']}) of the world "
            f"{used['world']!r} at {width}x{height}; {used['steps']} steps of {used['sampler']}, guidance "
            f"{used['guidance_scale']:g}; release {used['checkpoint'][:10] or 'in memory'}. "
            f"VAE reconstructions of the true scenes: {self.psnr:.1f} dB."
        )
        ceilings = list(next(iter(self.rows.values())).ceilings)
        titles = ["", "prompts", "right", "95 % interval", "shuffled prompts", "chance", *ceilings]
        rates = [
            [name, str(row.model.prompts), percent(row.model.value), span(row.model)]
            + [f"{percent(row.shuffled.value)} ({span(row.shuffled)})", percent(row.chance)]
            + [percent(row.ceilings[ceiling]) for ceiling in ceilings]
            for name, row in self.rows.items()
        ]
        wrong = [[kind, *map(str, counts.values())] for kind, counts in self.mistakes().items()]
        return "\n\n".join([head, table(titles, rates), table(["objects", *MISTAKES], wrong)]) + "\n"

    def sheets(self) -> dict[str, Image.Image]:
        """The best, the median and the worst pictures: the right ones first, then by nearness to the true scene."""
        ranked = sorted(self.outcomes, key=lambda one: (one.read != one.asked, -one.psnr))
        middle = max(0, (len(ranked) - SHOWN) // 2)
        parts = {"best": ranked[:SHOWN], "median": ranked[middle : middle + SHOWN], "worst": ranked[-SHOWN:]}
        return {name: _sheet(f"{name} of {len(ranked)}", part) for name, part in parts.items()}


def percent(share: float) -> str:
    """A share in [0, 1] for people, with a digit more where it is small."""
    return f"{share:.1%}".replace("%", " %")


def span(rate: Rate) -> str:
    """The interval of a rate, for people."""
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f}"


def table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as plain text too."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    lines = [titles, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines)


def _plain_row(row: Row) -> Mapping[str, Any]:
    return row._asdict() | {"model": row.model._asdict(), "shuffled": row.shuffled._asdict()}


def _sheet(title: str, outcomes: Sequence[Outcome]) -> Image.Image:
    cells = []
    for one in outcomes:
        verdict = Line(f"read: {one.read}", GREEN if one.read == one.asked else RED)
        cells.append(Cell(Image.fromarray(one.image), (Line(one.prompt), verdict)))
    return sheet(cells, columns=4, title=title)
