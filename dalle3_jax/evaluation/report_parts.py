"""Parts of a report that are measured after its rates: the CLIP score, the likeness to true pictures; and its files."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from dalle3_jax.captioning import CaptionModel
from dalle3_jax.evaluation import plots
from dalle3_jax.evaluation.clip_score import measure_similarity
from dalle3_jax.evaluation.likeness import TrueSources, measure_likeness
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.row_bars import show_progress
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.reading.scene_reader import Reader

__all__ = ["LIKENESS", "with_likeness", "with_similarity", "with_unmeasured", "write_report"]

LIKENESS = "likeness to true pictures"


def with_similarity(report: Report, captioner: CaptionModel | None) -> Report:
    """The report with our CLIP score, where there is a captioner."""
    if captioner is None:
        return report
    similarity = {
        protocol: measure_similarity(captioner, [o for o in report.outcomes if o.protocol == protocol], report.truths)
        for protocol in report.rows
    }
    return replace(report, similarity=similarity)


def with_unmeasured(report: Report, *lines: str) -> Report:
    """The report, with more that was not measured."""
    return replace(report, unmeasured=[*report.unmeasured, *lines])


def with_likeness(
    report: Report, sources: TrueSources, reader: str, neighbours: int
) -> tuple[Report, Mapping[str, Image.Image]]:
    """The report with distances to true pictures and copies of the training set, and the sheet of these.

    `reader` is the path of a scene reader's release, `neighbours` the records that are searched.
    """
    wanted = next(iter(report.rows)), 0, (*report.settings["size"], 3)
    true = {truth.prompt.id: truth.image for truth in report.truths}
    made = [o for o in report.outcomes if (o.protocol, o.round, o.image.shape) == wanted and o.prompt.id in true]
    pairs = [o.image for o in made], [true[o.prompt.id] for o in made]
    try:
        likeness, sheet = measure_likeness(Reader.load(reader), *pairs, sources, neighbours, show_progress)
    except ValueError as error:
        return with_unmeasured(report, f"{LIKENESS}: {error}"), {}
    return replace(report, likeness=likeness), {"neighbours": sheet}


def write_report(report: Report, folder: Path, extra: Mapping[str, Any]) -> None:
    """The report's files, each written whole."""
    write_whole(folder / "report.md", report.markdown().encode())
    write_whole(folder / "report.json", (json.dumps(report.to_dict(), indent=1, allow_nan=False) + "\n").encode())
    for name, lines in report.rows.items() if plots.has_matplotlib() else ():
        title = f"{name} prompts. {report.summary()}"
        write_whole(folder / f"rates-{name}.png", plots.rates_figure(lines, title))
        write_whole(folder / f"atoms-{name}.png", plots.atoms_figure(report.atoms[name], title))
    for name, sheet in {**report.sheets(), **extra}.items():
        write_whole(folder / f"{name}.png", encode_png(sheet))
