"""Two models on the same prompts and the same noise: how much better the second follows them, pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from dalle3_jax.evaluation.checks import CHECKS
from dalle3_jax.evaluation.outcomes import Outcome, Test, table, whole
from dalle3_jax.evaluation.report import Report, percent, plain
from dalle3_jax.evaluation.report import table as markdown_table
from dalle3_jax.evaluation.sheets import GREEN, RED, Cell, Line, sheet
from dalle3_jax.evaluation.statistics import Difference, paired

SHOWN = 12  # pairs on the sheet


@dataclass(frozen=True)
class Comparison:
    """Reports of the same prompts, rounds and seeds; raises ValueError where they are not."""

    names: tuple[str, str]
    first: Report
    second: Report

    def __post_init__(self) -> None:
        """Checks that the pictures pair."""
        keys = [[(o.prompt.id, o.protocol, o.seed) for o in report.outcomes] for report in (self.first, self.second)]
        if keys[0] != keys[1]:
            raise ValueError("the two reports are not of the same prompts and seeds: make both with one suite and seed")

    def differences(self) -> dict[str, tuple[float, float, Difference]]:
        """Line of the table -> (first rate, second rate, second minus first with its paired interval)."""
        found = {"all prompts": self._difference(self._pairs(lambda o: True), whole)}
        for kind in dict.fromkeys(o.prompt.kind for o in self.first.outcomes):
            found[kind] = self._difference(self._pairs(lambda o, kind=kind: o.prompt.kind == kind), whole)
        for name, test in CHECKS.items():
            pairs = self._pairs(lambda o, name=name: name in o.checks)
            if pairs[0]:
                found[f"check: {name}"] = self._difference(pairs, test)
        return found

    def plain(self) -> dict[str, Any]:
        """The differences as JSON values."""
        lines = {
            key: {"first": first, "second": second, "difference": plain(difference)}
            for key, (first, second, difference) in self.differences().items()
        }
        settings = {name: report.settings for name, report in zip(self.names, (self.first, self.second), strict=True)}
        return {"names": list(self.names), "settings": settings, "differences": lines}

    def markdown(self) -> str:
        """The table; a difference whose interval leaves out 0 is marked."""
        one, two = self.names
        lines = [
            [
                *(key, str(gap.prompts), percent(first), percent(second), f"{100 * gap.value:+.1f}"),
                *(f"{100 * gap.low:+.1f} to {100 * gap.high:+.1f}", "*" if gap.low > 0 or gap.high < 0 else ""),
            ]
            for key, (first, second, gap) in self.differences().items()
        ]
        titles = ["", "prompts", one, two, "difference, points", "95 % interval, paired", "clear"]
        return f"{self.first.head()}\n\n{markdown_table(titles, lines)}\n"

    def sheet(self) -> Image.Image | None:
        """Pairs of which one is right and the other is not, the first model's picture above the second's."""
        pairs = [(a, b) for a, b in zip(self.first.outcomes, self.second.outcomes, strict=True) if a.right != b.right][
            :SHOWN
        ]
        if not pairs:
            return None
        columns = min(len(pairs), 6)
        cells: list[Cell] = []
        for start in range(0, len(pairs), columns):
            row = pairs[start : start + columns]
            row += [row[-1]] * (columns - len(row)) if start else []
            for side, name in enumerate(self.names):
                cells += [cell(pair[side], name) for pair in row]
        return sheet(cells, columns=columns, title=f"{self.names[0]} above {self.names[1]}")

    def _pairs(self, chosen: Any) -> tuple[list[Outcome], list[Outcome]]:
        kept = [(a, b) for a, b in zip(self.first.outcomes, self.second.outcomes, strict=True) if chosen(a)]
        return [a for a, _ in kept], [b for _, b in kept]

    def _difference(
        self, pairs: tuple[Sequence[Outcome], Sequence[Outcome]], test: Test
    ) -> tuple[float, float, Difference]:
        first, second = (table(outcomes, test) for outcomes in pairs)
        return float(first.mean()), float(second.mean()), paired(second, first)


def cell(outcome: Outcome, name: str) -> Cell:
    """A picture with its prompt and what was read in it."""
    lines = Line(f"{name}: {outcome.prompt.text}"), Line(str(outcome.sight.reading), GREEN if outcome.right else RED)
    return Cell(Image.fromarray(outcome.image), lines)
