"""Curves of how models trained on different captions follow prompts: after DALL-E 3's figures 4 and 5."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dalle3_jax.ablations.summary import RunResult, by_variant, plot_runs
from dalle3_jax.evaluation.plots import COLOURS, figure_png

__all__ = ["caption_curves_figure"]

SHARES = ("objects", "right")
"""The measures that are drawn beside the similarity; shares of what was asked for."""


def caption_curves_figure(
    title: str, budget: str, results: Sequence[RunResult], groups: Mapping[str, Sequence[str]]
) -> bytes:
    """The plot as a PNG: a row a group of variants, a column a measure of the prompts of one version.

    Dotted lines are faultless pictures.
    """
    from matplotlib.figure import Figure

    variants = by_variant(results)
    rows = groups or {"": list(variants)}
    last = next(iter(results[0].captions.values()))
    names = [name for name in last if name.partition(": ")[2] in ("similarity", *SHARES)]
    sheet = Figure(figsize=(3.5 * len(names), 3.4 * len(rows) + 0.9), layout="constrained")
    grid = sheet.subplots(len(rows), len(names), squeeze=False, sharey="col")
    for axes, (group, members) in zip(grid, rows.items(), strict=True):
        for ax, name in zip(axes, names, strict=True):
            draw_measure(ax, name, {member: variants[member] for member in members})
            ax.set(title=f"{group}\n{name}" if group else name)
        axes[0].legend(frameon=False, fontsize=7)
    sheet.suptitle(f"{title}\n{budget}", fontsize=9)
    return figure_png(sheet, dpi=100)


def draw_measure(ax: Any, name: str, variants: Mapping[str, Sequence[RunResult]]) -> None:
    """One measure over the training steps, a line a variant with a thin one for each of its seeds."""
    share = name.partition(": ")[2] in SHARES
    scale = 100 if share else 1
    for i, (variant, runs) in enumerate(variants.items()):
        values = [[scale * row[name] for row in one.captions.values()] for one in runs]
        plot_runs(ax, i % len(COLOURS), list(runs[0].captions), values, variant)
    ceilings = [scale * one.ceilings[name] for runs in variants.values() for one in runs if name in one.ceilings]
    if ceilings:
        ax.axhline(float(np.mean(ceilings)), linestyle=":", color="black", linewidth=1)
    ax.set(xlabel="training step", ylabel="% of what is asked for" if share else "100 x cosine, our captioner")
    ax.grid(alpha=0.25)
    ax.spines[["top", "right"]].set_visible(False)
