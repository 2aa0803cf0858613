"""Reports on captions: a table, and warnings of what DALL-E 3's paper warns of where it blends captions.

A captioner's texts are regular where people's are not: they all begin with "a", have one case, one length, one end. A
model learns that too, and meets prompts that are not so; some human captions in the blend are the remedy.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dalle3_jax.evaluation.captions.style import SAMPLE, Style
from dalle3_jax.evaluation.captions.style_distance import PromptDistance
from dalle3_jax.evaluation.tables import format_percent, markdown_table
from dalle3_jax.files import write_whole

__all__ = ["style_warnings", "styles_as_json", "styles_markdown", "write_style_report"]

WARNINGS: tuple[tuple[Callable[[Style], float], float, str], ...] = (
    (lambda s: s.articles, 0.6, "{0} begin with an article: prompts often do not"),
    (lambda s: max(s.first_words.values()), 0.4, "{0} begin with the same word"),
    (lambda s: s.lower_case, 0.9, "{0} have no capital letter: a prompt with one is unlike anything learnt"),
    (lambda s: s.capitalised, 0.9, "{0} begin with a capital letter: prompts often do not"),
    (lambda s: s.title_case + s.upper_case, 0.1, "{0} are written Like a Title or in CAPITALS: prompts seldom are"),
    (lambda s: s.end_punctuation, 0.8, "{0} end with punctuation: a prompt without any is unlike anything learnt"),
    (lambda s: 1 - s.end_punctuation, 0.98, "{0} end without punctuation"),
    (lambda s: s.outer_spaces, 0.01, "{0} begin or end with a blank: strip them"),
    (lambda s: s.commonest_length, 0.4, "{0} have the same number of tokens"),
    (lambda s: s.truncated, 0.01, "{0} are longer than the model reads: raise data.text_length or shorten them"),
    (lambda s: s.duplicates, 0.2, "{0} are the same as another caption"),
    (lambda s: s.odd_characters, 0.01, "{0} hold control characters or other scripts"),
)
"""What is worth a warning: a share, above which value, and what to say of it."""


def style_warnings(name: str, style: Style) -> list[str]:
    """Warnings about a set of captions; blending in human captions regularises most of it."""
    said = [(measure(style), most, text) for measure, most, text in WARNINGS]
    return [f"{name}: {text.format(format_percent(value))}" for value, most, text in said if value > most]


def styles_markdown(styles: Mapping[str, Style], distances: Mapping[str, PromptDistance]) -> str:
    """A column a set of captions, then the distances to prompts, then the warnings."""
    rows = [[name, *map(write, styles.values())] for name, write in ROWS.items()]
    parts = [markdown_table(["", *styles], rows)]
    if distances:
        lines = [[name, *(write(one) for write in AGAINST.values())] for name, one in distances.items()]
        parts.append(markdown_table(["against the prompts", *AGAINST], lines))
    said = [line for name, one in styles.items() for line in style_warnings(name, one)]
    parts.append("\n".join(f"- {line}" for line in said) if said else "Nothing to warn of.")
    return "\n\n".join(parts) + "\n"


def first_words_text(one: Style) -> str:
    """The commonest five first words."""
    return ", ".join(f"{word or '(none)'} {n:.0%}" for word, n in list(one.first_words.items())[:5])


def tokens_text(one: Style) -> str:
    """Lengths as people read them."""
    return " / ".join(f"{one.tokens[name]:.0f}" for name in ("min", "median", "mean", "p95", "p99", "max"))


ROWS: dict[str, Callable[[Style], str]] = {
    "captions": lambda one: f"{one.captions:,}",
    "begin with a, an, the": lambda one: format_percent(one.articles),
    "commonest first words": first_words_text,
    "first words, bits": lambda one: f"{one.first_word_entropy:.1f}",
    "no capital letter": lambda one: format_percent(one.lower_case),
    "capital at the start": lambda one: format_percent(one.capitalised),
    "Each Word, ALL LETTERS": lambda one: f"{format_percent(one.title_case)}, {format_percent(one.upper_case)}",
    "end punctuation": lambda one: format_percent(one.end_punctuation),
    "outer blanks": lambda one: format_percent(one.outer_spaces),
    "tokens: min / median / mean / 95 % / 99 % / max": tokens_text,
    "of the commonest length": lambda one: format_percent(one.commonest_length),
    "truncated": lambda one: format_percent(one.truncated),
    "duplicates": lambda one: format_percent(one.duplicates),
    "but for case and blanks": lambda one: format_percent(one.near_duplicates),
    f"distinct words of {SAMPLE:,}": lambda one: f"{one.vocabulary:,}",
    "the 100 commonest words": lambda one: format_percent(one.commonest),
    "control characters, other scripts": lambda one: format_percent(one.odd_characters),
}
"""Line of the table -> how it is written."""

AGAINST: dict[str, Callable[[PromptDistance], str]] = {
    "words (JS)": lambda one: f"{one.words:.2f}",
    "first words (JS)": lambda one: f"{one.first_words:.2f}",
    "words more a text": lambda one: f"{one.longer:+.1f}",
    "more begin with a capital": lambda one: f"{100 * one.capitalised:+.0f} %",
    "told apart (AUC)": lambda one: f"{one.told_apart:.2f}",
    "control": lambda one: f"{one.control:.2f}",
}
"""Column of the table of distances -> how it is written."""


def styles_as_json(styles: Mapping[str, Style], distances: Mapping[str, PromptDistance]) -> dict[str, Any]:
    """Everything as JSON values."""
    return {
        "styles": {name: asdict(one) for name, one in styles.items()},
        "distances": {name: asdict(one) for name, one in distances.items()},
        "warnings": [line for name, one in styles.items() for line in style_warnings(name, one)],
    }


def write_style_report(folder: Path, text: str, values: Mapping[str, Any], figure: bytes) -> None:
    """Writes the tables, all values and the figure into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / "report.md", text.encode())
    write_whole(folder / "report.json", (json.dumps(values, indent=1) + "\n").encode())
    write_whole(folder / "report.png", figure)
