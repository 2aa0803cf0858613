"""A study of decoders as people look at it: tables, plots (matplotlib, of the extra `eval`), and zoomed pictures."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.ndimage import uniform_filter1d

from dalle3_jax.evaluation.decoders.quality import (
    BASELINE,
    TRUE,
    DecodedImages,
    DecoderRow,
    DecoderStudy,
    LetterBin,
    SourceLatents,
)
from dalle3_jax.evaluation.plots import COLOURS, MARKERS, figure_png
from dalle3_jax.evaluation.statistics import Difference, Rate
from dalle3_jax.evaluation.tables import markdown_table
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, SheetCell, SheetLine, draw_sheet
from dalle3_jax.reading.word_reader import LetteredWord, letter_size

__all__ = ["decoder_markdown", "letter_size_figure", "measures_figure", "zoom_sheet"]

MEASURES = {
    "psnr": ("PSNR, dB", 1.0, 2),
    "ssim": ("SSIM", 1.0, 4),
    "edges": ("edge error, 1/255", 1.0, 2),
    "words": ("words read exactly, %", 100.0, 1),
    "right": ("prompts right, %", 100.0, 1),
}
"""Measure -> its title, the factor to the title's unit, and decimals."""

ZOOM, WINDOW = 4, (48, 64)  # times; height and width in pixels of what is shown
SCENES, FEWEST = 6, 10  # rows of the zoomed pictures; words of a bin that is drawn
ImageArray = UInt8[np.ndarray, "h w 3"]


def decoder_markdown(study: DecoderStudy) -> str:
    """The study in Markdown: its settings, a table for each source, words by size of letters, what was not measured."""
    parts = [settings_text(study.settings)]
    for source, rows in study.rows().items():
        parts += [f"## {source}", rates_table(rows)]
        if any(row.differences for row in rows.values()):
            parts += [f"Against {BASELINE}, on the same pictures (* the interval leaves out no difference):"]
            parts += [differences_table(rows)]
    if bins := study.bins_by_letter_size():
        parts += ["## Words read exactly, by the size of their letters in pixels"]
        parts += ["In a picture of one size, the smaller letters are those of longer words.", letter_table(bins)]
    if study.unmeasured:
        parts += ["## Not measured", "\n".join(f"- {line}" for line in study.unmeasured)]
    return "\n\n".join(parts) + "\n"


def settings_text(settings: Mapping[str, Any]) -> str:
    """The settings in a few sentences."""
    return (
        f"Release {settings['checkpoint'][:10] or 'in memory'}; seed {settings['seed']}; words are read by "
        f"{settings['word_reader'] or 'nobody'}. Intervals are 95 % bootstrap intervals over pictures; words are the "
        "mean over pictures of the share of their words that is read exactly. Times are of decoding alone, medians "
        f"over batches of up to {settings['batch_size']} on {settings['device']}.\n\n{settings['sources']}"
    )


def rates_table(rows: Mapping[str, DecoderRow]) -> str:
    """The table of one source."""
    shown = [name for name in MEASURES if any(name in row.rates for row in rows.values())]
    titles = ["", "pictures", *(MEASURES[name][0] for name in shown), *["words"] * ("words" in shown), "ms a picture"]
    lines = []
    for label, row in rows.items():
        cells = [format_measure(row.rates[name], name) if name in row.rates else "-" for name in shown]
        cells += [str(row.words or "-")] * ("words" in shown)
        lines.append([label, str(row.pictures), *cells, "-" if row.seconds is None else f"{1000 * row.seconds:.1f}"])
    return markdown_table(titles, lines)


def differences_table(rows: Mapping[str, DecoderRow]) -> str:
    """The table of differences from the baseline, and how many times as many words are read."""
    compared = {label: row for label, row in rows.items() if row.differences}
    shown = [name for name in MEASURES if any(name in row.differences for row in compared.values())]
    times = any(row.word_ratio for row in compared.values())
    lines = []
    for label, row in compared.items():
        cells = [format_measure(row.differences[name], name) if name in row.differences else "-" for name in shown]
        ratio = row.word_ratio
        cells += [f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "-"] * times
        lines.append([label, str(row.pictures), *cells])
    return markdown_table(
        ["", "pictures", *(MEASURES[name][0] for name in shown), *["times as many words"] * times], lines
    )


def format_measure(value: Rate | Difference, measure: str) -> str:
    """A value with its interval in the measure's unit; a difference has its sign, and a mark where it is clear."""
    _, factor, decimals = MEASURES[measure]
    apart = isinstance(value, Difference)
    numbers = [f"{factor * number:{'+' * apart}.{decimals}f}" for number in value[:3]]
    mark = " *" if apart and (value.low > 0 or value.high < 0) else ""
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]}){mark}"


def letter_table(bins_by_label: Mapping[str, Sequence[LetterBin]]) -> str:
    """A row a range of sizes, a column a decoder."""
    ranges = sorted({(one.low, one.high) for bins in bins_by_label.values() for one in bins})
    cells = {(label, one.low): one for label, bins in bins_by_label.items() for one in bins}
    lines = []
    for low, high in ranges:
        ones = [cells.get((label, low)) for label in bins_by_label]
        size = f"below {high:g}" if low == 0 else f"{low:g} and more" if np.isinf(high) else f"{low:g} to {high:g}"
        lines.append([size, *(f"{format_measure(one.exact, 'words')} of {one.words}" if one else "-" for one in ones)])
    return markdown_table(["letters", *bins_by_label], lines)


def letter_size_figure(bins_by_label: Mapping[str, Sequence[LetterBin]], title: str) -> bytes:
    """A PNG: the share of words read exactly over the size of their letters, a line a decoder, with intervals.

    Bins of fewer than `FEWEST` words are left to the table.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for i, (label, look) in enumerate(plot_styles(bins_by_label).items()):
        bins = [one for one in bins_by_label[label] if one.words >= FEWEST]
        sizes = [
            one.size * 1.01 ** (i - len(bins_by_label) / 2) for one in bins
        ]  # beside each other, so that all are seen
        line = "--" if label == TRUE else "-"
        axes.errorbar(sizes, *error_bars([one.exact for one in bins], 100.0), label=label, linestyle=line, **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := [12, 16, 20, 24, 32, 48, 64], [str(tick) for tick in ticks])
    axes.set(xlabel="size of the letters (pixels)", ylabel="words read exactly (%)", ylim=(-3, 103))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return figure_png(figure)


def measures_figure(rows: Mapping[str, DecoderRow], title: str) -> bytes:
    """A PNG: a panel for each measure of one source and one for the time, a row a decoder, with intervals."""
    from matplotlib.figure import Figure

    shown = [name for name in MEASURES if any(name in row.rates for row in rows.values())]
    figure = Figure(figsize=(2.6 * (1 + len(shown)), 0.32 * len(rows) + 1.4), layout="constrained")
    all_axes = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    looks = plot_styles(rows)
    for axes, name in zip(all_axes, shown, strict=False):
        heading, factor, _ = MEASURES[name]
        for place, (label, row) in enumerate(rows.items()):
            if name in row.rates:
                (value,), reach = error_bars([row.rates[name]], factor)
                axes.errorbar(value, place, xerr=reach, **looks[label])
        axes.set_xlabel(heading)
    for place, (label, row) in enumerate(rows.items()):
        if row.seconds is not None:
            all_axes[-1].errorbar(1000 * row.seconds, place, **looks[label])
    all_axes[-1].set(xlabel="ms a picture", xlim=(0, None))
    for axes in all_axes:
        axes.set_yticks(range(len(rows)), list(rows) if axes is all_axes[0] else [""] * len(rows))
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return figure_png(figure)


def error_bars(values: Sequence[Rate], factor: float) -> tuple[list[float], list[list[float]]]:
    """Rates in a measure's unit, and how far their intervals reach below and above them."""
    ups, downs = [one.high - one.value for one in values], [one.value - one.low for one in values]
    return [factor * one.value for one in values], [[factor * max(r, 0.0) for r in part] for part in (downs, ups)]


def plot_styles(labels: Collection[str]) -> dict[str, dict[str, Any]]:
    """The look of each decoder, the same in every plot; true pictures are grey."""
    rest = [label for label in labels if label != TRUE]
    styles = {TRUE: {"color": "#999999", "marker": "x"}} if TRUE in labels else {}
    colours, markers = (*COLOURS, "#8C564B"), MARKERS + "h"  # one more than an ablation has
    for i, label in enumerate(rest):
        styles[label] = {"color": colours[i % len(colours)], "marker": markers[i % len(markers)]}
    return {label: look | {"capsize": 2, "markersize": 5} for label, look in styles.items()}


def zoom_sheet(rows: SourceLatents, results: Mapping[str, DecodedImages]) -> Image.Image:
    """A row a scene (the first ones), a column a decoder, the true picture first: a window of each, four times larger.

    Every second row shows the beginning of a word, with what was read of it under it; the others the place where the
    true picture has most edges, words apart.
    """
    if rows.truths is None:
        raise ValueError(f"the source {rows.source!r} has no true pictures to look at: take one that has")
    columns = {TRUE: rows.truths} | {label: decoded.images for label, decoded in results.items() if label != TRUE}
    cells = []
    for scene, truth in enumerate(rows.truths[:SCENES]):
        words = rows.words[scene] if rows.words else ()
        word = words[0] if words and scene % 2 == 0 else None
        corner = word_start_corner(truth, word) if word else busiest_corner(truth, words)
        for label, images in columns.items():
            lines = [SheetLine(label)]
            if word and label in results and scene < len(results[label].read):
                read = results[label].read[scene][0]
                drawable = read.encode("ascii", "replace").decode() or "-"
                lines.append(SheetLine(drawable, GREEN if read == word.text else RED))
            # A decoder that made fewer pictures leaves its place empty.
            seen = crop_window(images[scene], corner) if scene < len(images) else np.full((*WINDOW, 3), 255, np.uint8)
            cells.append(SheetCell(Image.fromarray(seen), tuple(lines)))
    return draw_sheet(cells, columns=len(columns), width=ZOOM * WINDOW[1])


def crop_window(image: ImageArray, corner: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The part of a picture that begins at (top, left)."""
    (top, left), (height, width) = corner, WINDOW
    return image[top : top + height, left : left + width]


def word_start_corner(image: ImageArray, word: LetteredWord) -> tuple[int, int]:
    """The corner of the window that shows the beginning of a word."""
    height, width = image.shape[:2]
    left, top, right, bottom = word.box
    reach = 0.3 * letter_size(word, height) * len(word.text)  # of letters of usual width: banners are wider
    start = max(left * width, (left + right) / 2 * width - reach)
    return clamp_corner(round((top + bottom) / 2 * height) - WINDOW[0] // 2, round(start), image)


def busiest_corner(image: ImageArray, words: Sequence[LetteredWord]) -> tuple[int, int]:
    """The corner of the window with most edges, those of words not counted."""
    down, across = (np.abs(np.gradient(image.astype(np.float64), axis=axis)).sum(-1) for axis in (0, 1))
    steps = down + across
    for _, top, _, bottom in (word.box for word in words):
        steps[int(top * len(steps)) : int(bottom * len(steps)) + 1] = 0.0
    for axis, length in enumerate(WINDOW):
        steps = uniform_filter1d(steps, length, axis, mode="constant")
    row, column = np.unravel_index(np.argmax(steps), steps.shape)
    return clamp_corner(int(row) - WINDOW[0] // 2, int(column) - WINDOW[1] // 2, image)


def clamp_corner(top: int, left: int, image: ImageArray) -> tuple[int, int]:
    """The corner nearest to (top, left) from which the window lies in the picture."""
    ends = [max(side - length, 0) for side, length in zip(image.shape, WINDOW, strict=False)]
    return min(max(top, 0), ends[0]), min(max(left, 0), ends[1])
