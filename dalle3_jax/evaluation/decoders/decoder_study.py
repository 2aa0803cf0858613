"""A study of decoders: what is compared, measured source after source, and written as it becomes known."""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dalle3_jax.evaluation import plots
from dalle3_jax.evaluation.decoders import quality_plots
from dalle3_jax.evaluation.decoders.quality import (
    Decode,
    DecoderStudy,
    ImageReaders,
    SourceLatents,
    measure_decoders,
)
from dalle3_jax.evaluation.decoders.source_latents import SLOW, batch_size_at
from dalle3_jax.evaluation.row_bars import show_progress
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.album import slug
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.pipeline.request import Decoding

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline

__all__ = ["DecoderPlan", "measure_sources", "select_decoders", "teacher_label", "write_decoder_study"]

SAMPLES = "consistency, 2 steps, samples"  # at a temperature of 1, whatever the decoder's own is


class DecoderPlan(NamedTuple):
    """A plan: sources (side, how to make it), decoders, the limits of slow ones, judges, what is missing."""

    sources: list[tuple[int, Callable[[], SourceLatents]]]
    decoders: Mapping[str, Decode]
    limits: Mapping[str, int]
    judges: ImageReaders
    missing: list[str]
    settings: dict[str, Any]


def select_decoders(
    pipeline: "Pipeline", steps: Sequence[int], teacher_steps: int
) -> tuple[dict[str, Decode], list[str]]:
    """The decoders to compare, by label, and which of those that could be compared the release lacks."""
    wanted = {"vae": Decoding("vae"), "refiner": Decoding("refiner")}
    wanted |= {f"consistency, {n} step{'s' * (n > 1)}": Decoding("consistency", n) for n in steps}
    wanted |= {SAMPLES: Decoding("consistency", 2, temperature=1.0), "regression": Decoding("diffusion", 1)}
    wanted |= {teacher_label(teacher_steps): Decoding("diffusion", teacher_steps)}
    decoders: dict[str, Decode] = {
        label: functools.partial(decode_to_host, pipeline, decoding)
        for label, decoding in wanted.items()
        if decoding.decoder in pipeline.codec.decoders
    }
    lacking = dict.fromkeys(one.decoder for one in wanted.values() if one.decoder not in pipeline.codec.decoders)
    return decoders, [f"{name}: this release has no such decoder; add one by --decoders PATH" for name in lacking]


def decode_to_host(pipeline: "Pipeline", decoding: Decoding, latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The images that a decoder makes of latents, on the host."""
    return np.asarray(pipeline.codec.decode(jnp.asarray(latents), decoding, seeds.tolist()))


def teacher_label(steps: int) -> str:
    """The label of the decoder that was not distilled, in all its steps."""
    return f"teacher, {steps} steps"


def measure_sources(plan: DecoderPlan, batch_size: int) -> Iterator[DecoderStudy]:
    """Measures source after source; all that is known after each."""
    done = []
    for side, make in plan.sources:
        rows, size = make(), batch_size_at(batch_size, side)
        most = SLOW if side <= plan.sources[0][0] else 0
        limits = {label: min(limit, most) if done else limit for label, limit in plan.limits.items()}
        measures = measure_decoders(rows, plan.decoders, plan.judges, batch_size=size, limits=limits, bar=show_progress)
        done.append((rows, measures))
        yield DecoderStudy(plan.settings, list(done), plan.missing)


def write_decoder_study(study: DecoderStudy, folder: Path) -> None:
    """All files of what is known so far, each written whole."""
    write_whole(folder / "report.md", quality_plots.decoder_markdown(study).encode())
    write_whole(folder / "report.json", (json.dumps(study.to_dict(), allow_nan=False) + "\n").encode())
    for rows, measures in study.measured:
        if rows.truths is not None:
            write_whole(folder / f"zoom-{slug(rows.source)}.png", encode_png(quality_plots.zoom_sheet(rows, measures)))
    if plots.has_matplotlib():
        for source, rows in study.rows().items():
            write_whole(folder / f"measures-{slug(source)}.png", quality_plots.measures_figure(rows, source))
        if bins := study.bins_by_letter_size():
            title = "Words read exactly, by the size of their letters"
            write_whole(folder / "letters.png", quality_plots.letter_size_figure(bins, title))
