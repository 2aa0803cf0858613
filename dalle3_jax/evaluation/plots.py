"""Plots of evaluations, and the colours that all plots share; needs matplotlib, of the extra `eval`."""

import textwrap
from collections.abc import Mapping
from importlib.util import find_spec
from io import BytesIO
from typing import Any

from dalle3_jax.evaluation.atom_scores import AtomRow
from dalle3_jax.evaluation.outcomes import RateRow

INSTALL = 'matplotlib is not installed, so there are none: pip install "dalle3_jax[eval]"'
SEEN, HELD_OUT, CONTROL, CEILING = "#0072b2", "#d55e00", "#999999", "#000000"  # told apart by all (Okabe and Ito)

# Okabe and Ito's colours, told apart by colour-blind readers; markers tell them apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vP*"

ATOM_CONTROLS = (
    ("ceiling", "true scenes", CEILING),
    ("copies", "VAE's copies", HELD_OUT),
    ("shuffled", "other prompts", CONTROL),
)
"""Fields of `AtomRow`, what they are called, and their colours."""


def has_matplotlib() -> bool:
    """Whether plots can be drawn; INSTALL says what to do where not."""
    return find_spec("matplotlib") is not None


def rates_figure(lines: Mapping[str, RateRow], title: str) -> bytes:
    """A PNG: the rate of every line on seen and on held-out combinations, with intervals, controls and ceilings."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 0.42 * len(lines) + 1.7), layout="constrained")
    axes = figure.subplots()
    names = list(lines)[::-1]
    for place, name in enumerate(names):
        row = lines[name]
        for shift, rate, colour in ((0.17, row.seen, SEEN), (-0.17, row.held_out, HELD_OUT)):
            if rate:
                axes.barh(place + shift, 100 * rate.value, height=0.32, color=colour, alpha=0.85)
                axes.plot([100 * rate.low, 100 * rate.high], [place + shift] * 2, color="black", linewidth=1.2)
        for value, colour in ((row.shuffled and row.shuffled.value, CONTROL), (row.ceiling, CEILING)):
            if value is not None:
                axes.plot([100 * value] * 2, [place - 0.38, place + 0.38], color=colour, linewidth=2.0)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 102)
    axes.set_xlabel("right, % of prompts")
    figure.suptitle(textwrap.fill(title, 110), fontsize=9)
    for label, colour in (("seen", SEEN), ("held out", HELD_OUT), ("shuffled", CONTROL), ("true scenes", CEILING)):
        axes.plot([], [], color=colour, linewidth=5, label=label)
    axes.set_ylim(-0.6, len(names) - 0.4)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure_png(figure)


def atoms_figure(rows: Mapping[str, AtomRow], title: str) -> bytes:
    """A PNG: the geometric mean of prompts with 1, 2, ... atoms with its interval, and the controls that there are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    counts = {int(name.split()[0]): row for name, row in rows.items() if name.split()[0].isdecimal()}
    places, rates = list(counts), [row.model for row in counts.values()]
    axes.plot(places, [100 * rate.value for rate in rates], "o-", color=SEEN, label="model")
    axes.fill_between(
        places,
        [100 * rate.low for rate in rates],
        [100 * rate.high for rate in rates],
        color=SEEN,
        alpha=0.2,
        linewidth=0,
    )
    for name, label, colour in ATOM_CONTROLS:
        points = [(place, getattr(row, name)) for place, row in counts.items() if getattr(row, name) is not None]
        if points:
            axes.plot([at for at, _ in points], [100 * value for _, value in points], ".--", color=colour, label=label)
    axes.set(xlabel="atoms of a prompt", ylabel="geometric mean of their probabilities, %", ylim=(0, 102))
    axes.set_xticks(places)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(textwrap.fill(title, 80), fontsize=9)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure_png(figure)


def figure_png(figure: Any, dpi: int = 110) -> bytes:
    """The PNG of a figure, at so many pixels an inch."""
    written = BytesIO()
    figure.savefig(written, format="png", dpi=dpi)
    return written.getvalue()
