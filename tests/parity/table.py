"""The closing table of `make parity`: network by network, what was compared, how far apart, how fast."""

import textwrap
from dataclasses import dataclass, field

NAMES = 60
"""Letters that the names of the configurations may take."""


@dataclass
class Row:
    """What is known of one network; `ratio` is our time over the reference's, None where it was not measured."""

    reference: str
    error: float = 0.0
    configurations: dict[str, None] = field(default_factory=dict)
    ratio: float | None = None

    def add(self, configuration: str, error: float) -> None:
        """Count a comparison."""
        self.configurations[configuration] = None
        self.error = max(self.error, error)


def lines(rows: dict[str, Row]) -> list[str]:
    """The table, in columns of equal width."""
    titles = ("network", "reference", "tried", "largest error", "time ratio", "configurations")
    cells = [titles, *(_cells(network, row) for network, row in rows.items())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    padded = (map(str.ljust, line, widths) for line in cells)
    return ["  ".join(line).rstrip() for line in padded]


def _cells(network: str, row: Row) -> tuple[str, ...]:
    error = f"{row.error:.1e}" if row.configurations else ""
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    names = textwrap.shorten(", ".join(row.configurations), NAMES, placeholder=" ...")
    return network, row.reference, str(len(row.configurations)), error, ratio, names
