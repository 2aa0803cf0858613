"""`dalle3-jax evaluate decoders`: what each decoder keeps of pictures, how it spells, and what it costs."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dalle3_jax.commands.cli import (
    CommandError,
    CommandParser,
    bad_input,
    flag_name,
    open_pipeline,
    print_command_errors,
)
from dalle3_jax.commands.evaluate.cli import FAILURES
from dalle3_jax.evaluation.decoders.source_latents import SOURCES, STUDIED, batch_size_at, latent_sources
from dalle3_jax.evaluation.row_bars import show_progress
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.album import Album, slug
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.pipeline.request import Decoding
from dalle3_jax.pipeline.setting_values import MAX_SIDE
from dalle3_jax.runtime.exit_codes import EXIT_FAILED

if TYPE_CHECKING:
    from dalle3_jax.evaluation.decoders.quality import Decode, DecoderStudy, ImageReaders, SourceLatents
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax evaluate decoders --decoders runs/demo/decoder        with the teacher of the shipped decoder
  dalle3-jax evaluate decoders --count 100 --sizes 128 --teacher-count 0

Latents come from true pictures with drawn words, from scenes as the base model would have made them, and from prompts.
Each decoder gets the same ones with the same seeds. A teacher (a decoder that was not distilled) takes part twice: in
one step, which the report calls regression, and in many.

OUTDIR holds report.md (what is printed), report.json (that, and the values of every picture), plots, and zoomed
pictures side by side; all of it is written anew after each source."""

SAMPLES = "consistency, 2 steps, samples"  # at a temperature of 1, whatever the decoder's own is
SLOW = 50  # pictures of sources after the first that a decoder in many steps makes; none of larger ones


class DecoderPlan(NamedTuple):
    """A plan: sources (side, how to make it), decoders, the limits of slow ones, judges, what is missing."""

    sources: list[tuple[int, Callable[[], "SourceLatents"]]]
    decoders: Mapping[str, "Decode"]
    limits: Mapping[str, int]
    judges: "ImageReaders"
    missing: list[str]
    settings: dict[str, Any]


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax evaluate decoders",
        description="Compare the decoders of a release: what they keep of pictures, how they spell, and their time.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--checkpoint", default="demo", metavar="PATH", help="release, workdir, or demo (default)")
    add("--decoders", nargs="+", default=[], metavar="PATH", help="releases or stages whose decoders join in")
    add("--count", type=int, default=300, metavar="N", help="pictures of each source (default 300)")
    add("--steps", type=int, nargs="+", default=[1, 2, 4], metavar="N", help="of the consistency decoder (1 2 4)")
    add("--teacher-steps", type=int, default=50, metavar="N", help="of a decoder that is not distilled (default 50)")
    text = f"pictures of the first source that it makes in so many steps (default 300); {SLOW} of others; 0: none"
    add("--teacher-count", type=int, default=300, metavar="N", help=text)
    text = f"sides of pictures with words; after the first, at most {STUDIED} pictures each (128 192 256 384)"
    add("--sizes", type=int, nargs="+", default=[128, 192, 256, 384], metavar="N", help=text)
    add("--seed", type=int, default=1, metavar="N", help="of scenes and noise (default 1)")
    add("--reader", default="reader", metavar="PATH", help="release of a scene reader (default: the shipped)")
    text = "pictures of 128x128 decoded at once, fewer of larger ones (default 8)"
    add("--batch-size", type=int, default=8, metavar="N", help=text)
    add("--outdir", default="decoders", metavar="DIR", help="folder to write to (default decoders)")
    return parser


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before any picture is made."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        check_decoder_arguments(arguments)
        pipeline = open_pipeline(arguments.checkpoint, arguments.decoders)
        plan, folder = plan_decoder_study(arguments, pipeline), Album(arguments.outdir).folder
    for line in plan.missing:
        print(f"note: not measured: {line}", file=sys.stderr)
    from dalle3_jax.evaluation.decoders.quality_plots import decoder_markdown

    study = None
    try:
        for study in measure_sources(plan, arguments.batch_size):
            write_decoder_study(study, folder)
    except FAILURES as error:
        kept = f"what was measured before is in {folder}" if study else "nothing was measured"
        raise CommandError(f"{error}; {kept}", EXIT_FAILED) from None
    assert study is not None  # there is always the first size
    print(decoder_markdown(study))
    print(f"wrote {folder}/report.md, report.json, plots and zoomed pictures")
    return 0


def check_decoder_arguments(arguments: argparse.Namespace) -> None:
    """Raises ValueError with all that is wrong with the numbers."""
    least = {"count": 6, "teacher_steps": 2, "teacher_count": 0, "seed": 0, "batch_size": 1}
    given = [(name, getattr(arguments, name), low) for name, low in least.items()]
    given += [("steps", steps, 1) for steps in arguments.steps]
    errors = [f"{flag_name(name)} {value} must be at least {low}" for name, value, low in given if value < low]
    if arguments.seed > (last := 2**32 - arguments.count):
        errors.append(f"--seed {arguments.seed} must be at most {last}, for the pictures that follow")
    errors += [f"--sizes {side}: at most {MAX_SIDE}" for side in arguments.sizes if side > MAX_SIDE]
    for name in ("steps", "sizes"):
        if len(set(values := getattr(arguments, name))) < len(values):
            errors.append(f"--{name} {' '.join(map(str, values))}: each once")
    if errors:
        raise ValueError("; ".join(errors))


def plan_decoder_study(arguments: argparse.Namespace, pipeline: "Pipeline") -> DecoderPlan:
    """The plan of all that will be measured; ValueError for what cannot be."""
    import jax

    from dalle3_jax.evaluation import plots
    from dalle3_jax.evaluation.decoders.quality import ImageReaders
    from dalle3_jax.reading.ocr import INSTALL
    from dalle3_jax.reading.scene_reader import Reader
    from dalle3_jax.reading.word_reader import find_word_reader

    given = {name: getattr(arguments, name) for name in ("count", "sizes", "seed", "batch_size")}
    sources = latent_sources(pipeline, **given)
    judges = ImageReaders(find_word_reader(), Reader.load(arguments.reader))
    decoders, missing = select_decoders(arguments, pipeline)
    missing += [] if judges.words else [f"drawn words: {INSTALL}"]
    missing += [] if plots.has_matplotlib() else [f"plots: {plots.INSTALL}"]
    used = {"checkpoint": pipeline.release.digest, "device": jax.devices()[0].device_kind, "sources": SOURCES}
    used |= {"word_reader": judges.words.name if judges.words else ""}
    used |= {name: getattr(arguments, name) for name in ("count", "seed", "sizes", "batch_size", "teacher_count")}
    return DecoderPlan(sources, decoders, {teacher_label(arguments): arguments.teacher_count}, judges, missing, used)


def select_decoders(arguments: argparse.Namespace, pipeline: "Pipeline") -> tuple[dict[str, "Decode"], list[str]]:
    """The decoders to compare, by label, and which of those that could be compared the release lacks."""
    wanted = {"vae": Decoding("vae"), "refiner": Decoding("refiner")}
    wanted |= {f"consistency, {n} step{'s' * (n > 1)}": Decoding("consistency", n) for n in arguments.steps}
    wanted |= {SAMPLES: Decoding("consistency", 2, temperature=1.0), "regression": Decoding("diffusion", 1)}
    wanted |= {teacher_label(arguments): Decoding("diffusion", arguments.teacher_steps)}
    decoders: dict[str, Decode] = {
        label: functools.partial(decode_to_host, pipeline, decoding)
        for label, decoding in wanted.items()
        if decoding.decoder in pipeline.codec.decoders
    }
    lacking = dict.fromkeys(one.decoder for one in wanted.values() if one.decoder not in pipeline.codec.decoders)
    return decoders, [f"{name}: this release has no such decoder; add one by --decoders PATH" for name in lacking]


def decode_to_host(pipeline: "Pipeline", decoding: Decoding, latents: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """The images that a decoder makes of latents, on the host."""
    import jax.numpy as jnp

    return np.asarray(pipeline.codec.decode(jnp.asarray(latents), decoding, seeds.tolist()))


def teacher_label(arguments: argparse.Namespace) -> str:
    """The label of the decoder that was not distilled, in all its steps."""
    return f"teacher, {arguments.teacher_steps} steps"


def measure_sources(plan: DecoderPlan, batch_size: int) -> Iterator["DecoderStudy"]:
    """Measures source after source; all that is known after each."""
    from dalle3_jax.evaluation.decoders.quality import DecoderStudy, measure_decoders

    done = []
    for side, make in plan.sources:
        rows, size = make(), batch_size_at(batch_size, side)
        most = SLOW if side <= plan.sources[0][0] else 0
        limits = {label: min(limit, most) if done else limit for label, limit in plan.limits.items()}
        measures = measure_decoders(rows, plan.decoders, plan.judges, batch_size=size, limits=limits, bar=show_progress)
        done.append((rows, measures))
        yield DecoderStudy(plan.settings, list(done), plan.missing)


def write_decoder_study(study: "DecoderStudy", folder: Path) -> None:
    """All files of what is known so far, each written whole."""
    from dalle3_jax.evaluation import plots
    from dalle3_jax.evaluation.decoders import quality_plots

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
