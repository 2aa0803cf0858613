"""Two models on the same prompts and the same noise: how much better the second follows them, pair by pair."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from dalle3_jax.evaluation.outcomes import Check, Outcome, rate_row, table_lines
from dalle3_jax.evaluation.outcomes import hit_matrix as hits
from dalle3_jax.evaluation.report import Report, namedtuple_to_dict
from dalle3_jax.evaluation.statistics import Difference, Rate, paired_difference
from dalle3_jax.evaluation.tables import format_control, format_percent, markdown_table
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, SheetCell, SheetLine, draw_sheet
from dalle3_jax.pipeline.png import encode_png

SHOWN = 12  # pairs on the sheet
Pair = tuple[Outcome, Outcome]


class RateChange(NamedTuple):
    """One line of the table: both rates with what shuffled prompts score, and second minus first, paired."""

    first: Rate
    first_shuffled: Rate | None
    second: Rate
    second_shuffled: Rate | None
    difference: Difference


@dataclass(frozen=True)
class Comparison:
    """Reports of the same prompts, rounds, seeds and sizes; raises ValueError where they are not."""

    names: tuple[str, str]
    first: Report
    second: Report

    def __post_init__(self) -> None:
        """Checks that the pictures pair."""
        both = self.first.outcomes, self.second.outcomes
        if len({tuple((o.prompt.id, o.protocol, o.seed) for o in outcomes) for outcomes in both}) > 1:
            raise ValueError("the two reports are not of the same prompts and seeds: make both with one suite and seed")
        if len({tuple(o.image.shape for o in outcomes) for outcomes in both}) > 1:
            raise ValueError(
                "the two reports are of pictures of other sizes, and so of other noise: give both one size"
            )

    def changes(self) -> dict[str, RateChange]:
        """Line of the table -> how the rates differ; with several protocols each has its own lines."""
        changes = {}
        for protocol in self.first.rows:
            pairs = [pair for pair in self._pairs() if pair[0].protocol == protocol]
            before = f"{protocol}: " if len(self.first.rows) > 1 else ""
            for name, (member, test) in table_lines([one for one, _ in pairs]).items():
                changes[before + name] = rate_change([pair for pair in pairs if member(pair[0])], test)
        return changes

    def to_dict(self) -> dict[str, Any]:
        """The differences as JSON values."""
        settings = [self.first.settings, self.second.settings]
        values = {key: namedtuple_to_dict(change) for key, change in self.changes().items()}
        return {"names": list(self.names), "settings": settings, "differences": values}

    def markdown(self) -> str:
        """The table; a difference whose interval leaves out 0 is marked."""
        one, two = self.names
        cells = [
            [
                *(
                    key,
                    str(gap.prompts),
                    format_percent(first.value),
                    format_control(apart),
                    format_percent(second.value),
                    format_control(other),
                ),
                *(f"{100 * gap.value:+.1f}", f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}"),
                "*" if gap.low > 0 or gap.high < 0 else "",
            ]
            for key, (first, apart, second, other, gap) in self.changes().items()
        ]
        rates = [title for name in (one, two) for title in (name, f"{name}, shuffled prompts")]
        titles = ["", "prompts", *rates, "difference, points", "95 % interval, paired", "clear"]
        return f"{self.summary()}\n\n{markdown_table(titles, cells)}\n"

    def summary(self) -> str:
        """The settings with which both were made, and those that differ."""
        one, two = self.first.settings, self.second.settings
        others = [f"{key} ({one[key]} and {two[key]})" for key in one if key != "checkpoint" and one[key] != two[key]]
        both = zip(self.names, (self.first, self.second), strict=True)
        summaries = "\n".join(f"- {name}: {report.summary()}" for name, report in both)
        return f"{summaries}\n\nBoth are on the same noise. They differ in {', '.join(others) or 'no setting'}."

    def sheet(self) -> Image.Image | None:
        """Pairs of which one is right and the other is not, the first model's picture left of the second's."""
        pairs = [(a, b) for a, b in self._pairs() if a.right != b.right][:SHOWN]
        if not pairs:
            return None
        cells = [outcome_cell(one, name) for pair in pairs for one, name in zip(pair, self.names, strict=True)]
        return draw_sheet(cells, columns=min(len(cells), 6), title=f"{self.names[0]} left of {self.names[1]}")

    def _pairs(self) -> list[Pair]:
        return list(zip(self.first.outcomes, self.second.outcomes, strict=True))


def rate_change(pairs: Sequence[Pair], test: Check) -> RateChange:
    """The change of a test's rate, in pairs."""
    both = [list(outcomes) for outcomes in zip(*pairs, strict=True)]
    first, second = (rate_row(outcomes, [], test) for outcomes in both)
    difference = paired_difference(hits(both[1], test), hits(both[0], test))
    return RateChange(first.model, first.shuffled, second.model, second.shuffled, difference)


def outcome_cell(outcome: Outcome, name: str) -> SheetCell:
    """A picture with its prompt and what was read in it."""
    lines = (
        SheetLine(f"{name}: {outcome.prompt.text}"),
        SheetLine(str(outcome.sight.reading), GREEN if outcome.right else RED),
    )
    return SheetCell(Image.fromarray(outcome.image), lines)


def short_names(first: str, second: str) -> tuple[str, str]:
    """Short names for two checkpoints that differ."""
    one, two = Path(first).name, Path(second).name
    return (one, two) if one != two else (first, second)


def write_comparison(compared: Comparison, folder: Path) -> None:
    """Writes the table, its values, and the pairs that differ into the folder."""
    write_whole(folder / "comparison.md", compared.markdown().encode())
    write_whole(folder / "comparison.json", (json.dumps(compared.to_dict(), indent=1) + "\n").encode())
    if (page := compared.sheet()) is not None:
        write_whole(folder / "comparison.png", encode_png(page))
