"""A study of decoders as people look at it: tables, plots (matplotlib, of the extra `eval`), and zoomed pictures."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.ndimage import uniform_filter1d

from dalle3_jax.evaluation.ablations import COLOURS, MARKERS
from dalle3_jax.evaluation.decoding import BASELINE, TRUE, Bin, Decoded, Latents, Row, Study
from dalle3_jax.evaluation.sheets import GREEN, RED, Cell, Line, sheet
from dalle3_jax.evaluation.statistics import Difference, Rate
from dalle3_jax.evaluation.tables import table
from dalle3_jax.evaluation.word_reader import Lettered

__all__ = ["bars", "letters", "markdown", "zoom"]

MEASURES = {
    "psnr": ("PSNR, dB", 1.0, 2),
    "ssim": ("SSIM", 1.0, 4),
    "edges": ("edge error, 1/255", 1.0, 2),
    "words": ("words read exactly, %", 100.0, 1),
    "right": ("prompts right, %", 100.0, 1),
}
"""Measure -> its title, the factor to the title's unit, and decimals."""

ZOOM, WINDOW = 4, (48, 64)  # times; height and width in pixels of what is shown
SCENES = 6
Picture = UInt8[np.ndarray, "h w 3"]


def markdown(study: Study) -> str:
    """What was measured and how, a table for each source, the words by size of letters, and what was not measured."""
    parts = [head(study.settings)]
    for source, rows in study.rows().items():
        parts += [f"## {source}", rates(rows)]
        if any(row.differences for row in rows.values()):
            parts += [f"Against {BASELINE}, on the same pictures (* the interval leaves out no difference):"]
            parts += [differences(rows)]
    if found := study.letters():
        parts += ["## Words read exactly, by the size of their letters in pixels", letter_table(found)]
    if study.unmeasured:
        parts += ["## Not measured", "\n".join(f"- {line}" for line in study.unmeasured)]
    return "\n\n".join(parts) + "\n"


def head(settings: Mapping[str, Any]) -> str:
    """The settings in a few sentences."""
    return (
        f"Release {settings['checkpoint'][:10] or 'in memory'}; seed {settings['seed']}; words are read by "
        f"{settings['word_reader'] or 'nobody'}. Intervals are 95 % bootstrap intervals over pictures; words are the "
        "mean over pictures of the share of their words that is read exactly. Times are of decoding alone, medians "
        f"over batches of up to {settings['batch_size']} on {settings['device']}."
    )


def rates(rows: Mapping[str, Row]) -> str:
    """The table of one source."""
    shown = [name for name in MEASURES if any(name in row.rates for row in rows.values())]
    titles = ["", "pictures", *(MEASURES[name][0] for name in shown), *["words"] * ("words" in shown), "ms a picture"]
    lines = []
    for label, row in rows.items():
        cells = [spread(row.rates[name], name) if name in row.rates else "-" for name in shown]
        cells += [str(row.words or "-")] * ("words" in shown)
        lines.append([label, str(row.pictures), *cells, "-" if row.seconds is None else f"{1000 * row.seconds:.1f}"])
    return table(titles, lines)


def differences(rows: Mapping[str, Row]) -> str:
    """The table of differences from the baseline, and how many times as many words are read."""
    compared = {label: row for label, row in rows.items() if row.differences}
    shown = [name for name in MEASURES if any(name in row.differences for row in compared.values())]
    times = any(row.word_ratio for row in compared.values())
    lines = []
    for label, row in compared.items():
        cells = [spread(row.differences[name], name) if name in row.differences else "-" for name in shown]
        ratio = row.word_ratio
        cells += [f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "-"] * times
        lines.append([label, str(row.pictures), *cells])
    return table(["", "pictures", *(MEASURES[name][0] for name in shown), *["times as many words"] * times], lines)


def spread(value: Rate | Difference, measure: str) -> str:
    """A value with its interval in the measure's unit; a difference has its sign, and a mark where it is clear."""
    _, factor, decimals = MEASURES[measure]
    apart = isinstance(value, Difference)
    numbers = [f"{factor * number:{'+' * apart}.{decimals}f}" for number in value[:3]]
    mark = " *" if apart and (value.low > 0 or value.high < 0) else ""
    return f"{numbers[0]} ({numbers[1]} to {numbers[2]}){mark}"


def letter_table(found: Mapping[str, Sequence[Bin]]) -> str:
    """A row a range of sizes, a column a decoder."""
    ranges = sorted({(one.low, one.high) for bins in found.values() for one in bins})
    cells = {(label, one.low): one for label, bins in found.items() for one in bins}
    lines = []
    for low, high in ranges:
        ones = [cells.get((label, low)) for label in found]
        size = f"below {high:g}" if low == 0 else f"{low:g} and more" if np.isinf(high) else f"{low:g} to {high:g}"
        lines.append([size, *(f"{spread(one.exact, 'words')} of {one.words}" if one else "-" for one in ones)])
    return table(["letters", *found], lines)


def letters(found: Mapping[str, Sequence[Bin]], title: str) -> bytes:
    """A PNG: the share of words read exactly over the size of their letters, a line a decoder, with intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    axes = figure.subplots()
    for i, (label, bins) in enumerate(found.items()):
        sizes = [one.size * 1.01 ** (i - len(found) / 2) for one in bins]  # beside each other, so that all are seen
        values = np.array([100 * np.array(one.exact[:3]) for one in bins])
        reach = np.abs(values[:, 1:].T - values[:, 0])
        axes.errorbar(
            sizes, values[:, 0], reach, label=label, capsize=2, linewidth=1.6, markersize=5, **style(i, label)
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(ticks := [12, 16, 20, 24, 32, 48, 64], [str(tick) for tick in ticks])
    axes.set(xlabel="size of the letters (pixels)", ylabel="words read exactly (%)", ylim=(-3, 103))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return png(figure)


def bars(rows: Mapping[str, Row], title: str) -> bytes:
    """A PNG: a panel for each measure of one source and one for the time, a bar a decoder, with intervals."""
    from matplotlib.figure import Figure

    shown = [name for name in MEASURES if any(name in row.rates for row in rows.values())]
    figure = Figure(figsize=(3.2 * (1 + len(shown)), 0.38 * len(rows) + 1.5), layout="constrained")
    panels = figure.subplots(1, 1 + len(shown), squeeze=False)[0]
    places = range(len(rows))
    for axes, name in zip(panels, shown, strict=False):
        heading, factor, _ = MEASURES[name]
        ends = []
        for place, (label, row) in enumerate(rows.items()):
            if name in row.rates:
                value, low, high = (factor * number for number in row.rates[name][:3])
                axes.barh(place, value, color=style(place, label)["color"], alpha=0.8)
                axes.plot([low, high], [place, place], color="black", linewidth=1.2)
                ends += [low, high]
        axes.set_xlabel(heading)
        if name in ("psnr", "ssim"):  # their differences are small beside their distance from nothing
            room = 0.25 * (max(ends) - min(ends)) or 0.1
            axes.set_xlim(min(ends) - room, max(ends) + room)
    for place, (label, row) in enumerate(rows.items()):
        if row.seconds is not None:
            panels[-1].barh(place, 1000 * row.seconds, color=style(place, label)["color"], alpha=0.8)
    panels[-1].set(xlabel="ms a picture", xscale="log")
    for axes in panels:
        axes.set_yticks(places, list(rows) if axes is panels[0] else [""] * len(rows))
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=10)
    return png(figure)


def style(place: int, label: str) -> dict[str, Any]:
    """The look of a decoder in every plot; true pictures are grey."""
    if label == TRUE:
        return {"color": "#999999", "marker": "x", "linestyle": "--"}
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "linestyle": "-"}


def png(figure: Any) -> bytes:
    """The plot's file."""
    written = BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def zoom(rows: Latents, found: Mapping[str, Decoded]) -> Image.Image:
    """A row a scene (the first ones), a column a decoder, the true picture first: a window of each, four times larger.

    Every second row shows the beginning of a word, with what was read of it under it; the others the place where the
    true picture has most edges, words apart.
    """
    if rows.truths is None:
        raise ValueError(f"the source {rows.source!r} has no true pictures to look at: take one that has")
    columns = {TRUE: rows.truths} | {label: decoded.images for label, decoded in found.items() if label != TRUE}
    cells = []
    for scene, truth in enumerate(rows.truths[:SCENES]):
        words = rows.words[scene] if rows.words else ()
        word = words[0] if words and scene % 2 == 0 else None
        corner = beginning(truth, word) if word else busiest(truth, words)
        for label, images in columns.items():
            lines = [Line(label)]
            if word and label in found and scene < len(found[label].read):
                read = found[label].read[scene][0]
                lines.append(Line(read or "-", GREEN if read == word.text else RED))
            # A decoder that made fewer pictures leaves its place empty.
            seen = window(images[scene], corner) if scene < len(images) else np.full((*WINDOW, 3), 255, np.uint8)
            cells.append(Cell(Image.fromarray(seen), tuple(lines)))
    return sheet(cells, columns=len(columns), width=ZOOM * WINDOW[1])


def window(image: Picture, corner: tuple[int, int]) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The part of a picture that begins at (top, left)."""
    (top, left), (height, width) = corner, WINDOW
    return image[top : top + height, left : left + width]


def beginning(image: Picture, word: Lettered) -> tuple[int, int]:
    """The corner of the window that shows the beginning of a word."""
    height, width = image.shape[:2]
    left, top, _, bottom = word.box
    return fitted(round((top + bottom) / 2 * height) - WINDOW[0] // 2, round(left * width), image)


def busiest(image: Picture, words: Sequence[Lettered]) -> tuple[int, int]:
    """The corner of the window with most edges, those of words not counted."""
    down, across = (np.abs(np.gradient(image.astype(np.float64), axis=axis)).sum(-1) for axis in (0, 1))
    steps = down + across
    for _, top, _, bottom in (word.box for word in words):
        steps[int(top * len(steps)) : int(bottom * len(steps)) + 1] = 0.0
    for axis, length in enumerate(WINDOW):
        steps = uniform_filter1d(steps, length, axis, mode="constant")
    row, column = np.unravel_index(np.argmax(steps), steps.shape)
    return fitted(int(row) - WINDOW[0] // 2, int(column) - WINDOW[1] // 2, image)


def fitted(top: int, left: int, image: Picture) -> tuple[int, int]:
    """The corner nearest to (top, left) from which the window lies in the picture."""
    ends = [max(side - length, 0) for side, length in zip(image.shape, WINDOW, strict=False)]
    return min(max(top, 0), ends[0]), min(max(left, 0), ends[1])
