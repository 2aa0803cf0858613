"""Tables of results, and rates as people read them."""

from collections.abc import Sequence

from dalle3_jax.evaluation.distances import Distance
from dalle3_jax.evaluation.statistics import Rate

__all__ = ["format_control", "format_interval", "format_percent", "markdown_table"]


def markdown_table(titles: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as plain text too."""
    widths = [max(map(len, column)) for column in zip(titles, *lines, strict=True)]
    rows = [titles, ["-" * width for width in widths], *lines]
    return "\n".join("| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in rows)


def format_percent(share: float) -> str:
    """A share in [0, 1] for people."""
    return f"{share:.1%}".replace("%", " %")


def format_interval(rate: Rate | Distance) -> str:
    """The interval of a rate, for people."""
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f}"


def format_control(shuffled: Rate | None) -> str:
    """The score of shuffled prompts, for people."""
    return f"{format_percent(shuffled.value)} ({format_interval(shuffled)})" if shuffled else "-"
