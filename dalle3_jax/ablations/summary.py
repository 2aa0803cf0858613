"""Table and plot of an ablation: every seed is shown, and the mean of them."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from dalle3_jax.evaluation.plots import COLOURS, MARKERS, figure_png
from dalle3_jax.evaluation.tables import format_percent, markdown_table


class RunResult(NamedTuple):
    """The measures of one run; `captions` and their `ceilings` are those of `captions.following.score_images`."""

    variant: str
    seed: int
    curve: dict[int, list[float]]  # step -> error of x0 at each of the times
    rates: dict[str, float]
    seconds: float  # of training
    unet: dict[int, float]  # caption length -> seconds of one evaluation
    captions: Mapping[int, Mapping[str, float]] = MappingProxyType({})  # step -> "version: measure" -> value
    ceilings: Mapping[str, float] = MappingProxyType({})  # of faultless pictures


def ablation_markdown(title: str, budget: str, results: Sequence[RunResult], times: Sequence[float]) -> str:
    """Title, budget and a table: a row a variant; means over seeds, with the least and the greatest."""
    columns: dict[str, Callable[[RunResult], str | float]] = {}
    columns |= {f"x0 error, t = {t:g}": lambda one, i=i: final_errors(one)[i] for i, t in enumerate(times)}
    columns |= {name: lambda one, name=name: one.rates[name] for name in results[0].rates}
    columns |= {
        name: lambda one, name=name: final_caption_scores(one)[name] for name in final_caption_scores(results[0])
    }
    columns |= {"training, s": lambda one: one.seconds} if any(one.seconds for one in results) else {}
    columns |= {f"UNet, ms at {m} tokens": lambda one, m=m: 1000 * one.unet[m] for m in results[0].unet}
    rows = []
    for variant, runs in by_variant(results).items():
        cells = [
            mean_and_range([value(one) for one in runs], column_format(name, runs[0]))
            for name, value in columns.items()
        ]
        rows.append([variant, *cells])
    if ceilings := results[0].ceilings:
        cells = [column_format(name, results[0])(ceilings[name]) if name in ceilings else "-" for name in columns]
        rows.append(["faultless pictures", *cells])
    count = len({one.seed for one in results})
    seeds = f"Means over {count} seeds, with the least and the greatest." if count > 1 else "One seed."
    return "\n\n".join([f"### {title}", f"{budget} {seeds}", markdown_table(["", *columns], rows)]) + "\n"


def column_format(name: str, one: RunResult) -> Callable[[float], str]:
    """The function that formats a column's values."""
    if name in one.rates or (name in final_caption_scores(one) and not name.endswith("similarity")):
        return format_percent
    if name in final_caption_scores(one):
        return "{:.1f}".format
    return "{:.3g}".format if "error" in name or "UNet" in name else "{:,.0f}".format


def mean_and_range(values: Sequence[Any], form: Callable[[float], str]) -> str:
    """The mean, and the range where there is one."""
    mean, low, high = form(float(np.mean(values))), form(min(values)), form(max(values))
    return mean if len(set(values)) == 1 else f"{mean} ({low} to {high})"


def by_variant(results: Sequence[RunResult]) -> dict[str, list[RunResult]]:
    """The runs of each variant, in order."""
    variants: dict[str, list[RunResult]] = {}
    for one in results:
        variants.setdefault(one.variant, []).append(one)
    return variants


def final_errors(one: RunResult) -> list[float]:
    """The errors at the last step that was measured."""
    return one.curve[max(one.curve)]


def final_caption_scores(one: RunResult) -> Mapping[str, float]:
    """The scores of following captions at the last step that was measured."""
    return one.captions[max(one.captions)] if one.captions else {}


def ablation_figure(
    title: str,
    budget: str,
    results: Sequence[RunResult],
    times: Sequence[float],
    axes: Sequence[str] = (),
    places: Mapping[str, tuple] | None = None,
) -> bytes:
    """The plot as a PNG: a panel for each kind of measure; rates over axes[0] with a line for each of axes[1] if given.

    `places` says where each variant lies along the axes.
    """
    from matplotlib.figure import Figure

    variants = by_variant(results)
    panels: list[Callable[[Any], None]] = []
    if len(results[0].curve) > 1 or len(times) == 1:
        panels.append(lambda ax: draw_curves(ax, variants))
    if len(times) > 1:
        panels.append(lambda ax: draw_errors(ax, variants, times))
    if results[0].rates and axes:
        panels += [lambda ax, m=m: draw_rate(ax, variants, m, axes, places or {}) for m in results[0].rates]
    elif results[0].rates:
        panels.append(lambda ax: draw_rates(ax, variants))
    if results[0].unet:
        panels.append(lambda ax: draw_times(ax, variants))
    wide = min(len(panels), 3)
    high = -(-len(panels) // wide)
    sheet = Figure(figsize=(4.6 * wide, 3.6 * high + 0.9), layout="constrained")
    grid = sheet.subplots(high, wide, squeeze=False).flat
    for ax in grid[len(panels) :]:
        ax.set_axis_off()
    for ax, draw in zip(grid, panels, strict=False):
        draw(ax)
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    handles, names = grid[0].get_legend_handles_labels()
    sheet.suptitle(f"{title}\n{budget}", fontsize=10)
    sheet.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6), frameon=False)
    return figure_png(sheet, dpi=120)


def plot_runs(ax: Any, i: int, x: Sequence[int | float], runs: Sequence[Sequence[float]], label: str) -> None:
    """The mean of several runs as a line, and each of them as a thin one."""
    style = {"color": COLOURS[i % len(COLOURS)]}
    if len(runs) > 1:
        ax.plot(x, np.transpose(runs), linewidth=0.7, alpha=0.5, **style)
    ax.plot(x, np.mean(runs, 0), marker=MARKERS[i % len(MARKERS)], markersize=4, linewidth=1.8, label=label, **style)


def draw_curves(ax: Any, variants: Mapping[str, Sequence[RunResult]]) -> None:
    """Mean error over the times, by step."""
    for i, (name, runs) in enumerate(variants.items()):
        plot_runs(
            ax,
            i,
            list(runs[0].curve),
            [[float(np.mean(errors)) for errors in one.curve.values()] for one in runs],
            name,
        )
    ax.set(xlabel="training step", ylabel="x0 error, mean over t (held out)", yscale="log")


def draw_errors(ax: Any, variants: Mapping[str, Sequence[RunResult]], times: Sequence[float]) -> None:
    """The last error, by time."""
    for i, (name, runs) in enumerate(variants.items()):
        plot_runs(ax, i, times, [final_errors(one) for one in runs], name)
    ax.set(xlabel="t (0: picture, 1: noise)", ylabel="x0 error at the end (held out)", yscale="log")


def draw_times(ax: Any, variants: Mapping[str, Sequence[RunResult]]) -> None:
    """Milliseconds of one evaluation of the UNet, by length of the caption."""
    for i, (name, runs) in enumerate(variants.items()):
        plot_runs(ax, i, list(runs[0].unet), [[1000 * seconds for seconds in runs[0].unet.values()]], name)
    ax.set(xlabel="length of the caption (tokens)", ylabel="UNet, one evaluation (ms)", ylim=(0, None))


def draw_rates(ax: Any, variants: Mapping[str, Sequence[RunResult]]) -> None:
    """A row for each rate, a mark for each variant's mean and small ones for its seeds."""
    names = list(next(iter(variants.values()))[0].rates)
    for i, (variant, runs) in enumerate(variants.items()):
        rates = 100 * np.array([[one.rates[name] for name in names] for one in runs])
        rows = np.arange(len(names)) + 0.5 * ((i + 0.5) / len(variants) - 0.5)
        style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "linestyle": ""}
        ax.plot(rates.T, rows, markersize=3, alpha=0.5, **style)
        ax.plot(rates.mean(0), rows, markersize=7, label=variant, **style)
    ax.set(xlabel="held-out prompts followed (%)", xlim=(-3, 103), yticks=range(len(names)), yticklabels=names)
    ax.invert_yaxis()


def draw_rate(
    ax: Any,
    variants: Mapping[str, Sequence[RunResult]],
    metric: str,
    axes: Sequence[str],
    places: Mapping[str, tuple],
) -> None:
    """One rate over the first axis, a line for each value of the second."""
    lines = dict.fromkeys(place[1:] for place in places.values())
    for i, rest in enumerate(lines):
        chosen = sorted((place[0], name) for name, place in places.items() if place[1:] == rest)
        runs = [[100 * one.rates[metric] for one in variants[name]] for _, name in chosen]
        label = ", ".join(f"{value} {axis}" for axis, value in zip(axes[1:], rest, strict=True))
        plot_runs(ax, i, [x for x, _ in chosen], np.transpose(runs).tolist(), label)
    ax.set(title=metric, xlabel=axes[0].replace("_", " "), ylabel="prompts followed (%)", ylim=(-3, 103))
