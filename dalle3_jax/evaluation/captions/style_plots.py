"""Plots of how captions are written; needs matplotlib, of the extra `eval`."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dalle3_jax.evaluation.captions.style import Style, first_word
from dalle3_jax.evaluation.plots import COLOURS, figure_png

__all__ = ["caption_style_figure"]

FORMS = (
    "articles",
    "lower_case",
    "capitalised",
    "end_punctuation",
    "outer_spaces",
    "commonest_length",
    "truncated",
    "duplicates",
)
SHOWN = 10  # first words
BINS = 40  # lengths, at most


def caption_style_figure(
    captions: Mapping[str, Sequence[str]], styles: Mapping[str, Style], count: Callable[[str], int]
) -> bytes:
    """A PNG of three panels: lengths in tokens, the commonest first words, and the shares of each form."""
    from matplotlib.figure import Figure

    sheet = Figure(figsize=(12, 3.8), layout="constrained")
    lengths, firsts, forms = sheet.subplots(1, 3)
    draw_lengths(lengths, {name: [count(text) for text in texts] for name, texts in captions.items()})
    draw_firsts(firsts, captions)
    draw_forms(forms, styles)
    for axes in (lengths, firsts, forms):
        axes.spines[["top", "right"]].set_visible(False)
    sheet.legend(*lengths.get_legend_handles_labels(), loc="outside lower center", ncols=len(captions), frameon=False)
    return figure_png(sheet, dpi=90)


def draw_lengths(axes: Any, lengths: Mapping[str, Sequence[int]]) -> None:
    """Draw the number of captions by their number of tokens."""
    longest = max(max(rows) for rows in lengths.values())
    step = -(-(longest + 1) // BINS)  # whole tokens: a bin of less would hold none, and look like a gap
    edges = np.arange(0, longest + 1 + step, step) - 0.5
    for i, (name, rows) in enumerate(lengths.items()):
        weights = np.full(len(rows), 100 / len(rows))
        axes.hist(
            rows, edges, weights=weights, histtype="step", linewidth=1.6, color=COLOURS[i % len(COLOURS)], label=name
        )
    axes.set(xlabel="tokens", ylabel="captions (%)", title="length")


def draw_firsts(axes: Any, captions: Mapping[str, Sequence[str]]) -> None:
    """The commonest first words of all sets together, and their share in each."""
    counts = {name: Counter(map(first_word, texts)) for name, texts in captions.items()}
    together = Counter()
    for name, occurrences in counts.items():
        together.update({word: n / len(captions[name]) for word, n in occurrences.items()})
    words = [word for word, _ in together.most_common(SHOWN)]
    draw_bars(
        axes,
        words,
        {name: [occurrences[word] / len(captions[name]) for word in words] for name, occurrences in counts.items()},
    )
    axes.set(title="first words", xlabel="captions (%)")


def draw_forms(axes: Any, styles: Mapping[str, Style]) -> None:
    """The shares of each form."""
    draw_bars(
        axes,
        [name.replace("_", " ") for name in FORMS],
        {name: [getattr(one, form) for form in FORMS] for name, one in styles.items()},
    )
    axes.set(title="form", xlabel="captions (%)", xlim=(0, 101))


def draw_bars(axes: Any, labels: Sequence[str], rows: Mapping[str, Sequence[float]]) -> None:
    """A group of bars a label, one a set."""
    height = 0.8 / len(rows)
    for i, (_, values) in enumerate(rows.items()):
        places = np.arange(len(labels)) + (i + 0.5) * height - 0.4
        axes.barh(places, 100 * np.array(values), height, color=COLOURS[i % len(COLOURS)])
    axes.set_yticks(range(len(labels)), [label or "(none)" for label in labels])
    axes.invert_yaxis()
