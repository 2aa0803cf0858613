"""`dalle3-jax evaluate decoders`: what each decoder keeps of pictures, how it spells, and what it costs."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dalle3_jax.commands.cli import (
    CommandError,
    CommandParser,
    bad_input,
    number_errors,
    open_pipeline,
    print_command_errors,
)
from dalle3_jax.commands.evaluate.cli import FAILURES
from dalle3_jax.evaluation.decoders.source_latents import SLOW, SOURCES, STUDIED, latent_sources
from dalle3_jax.pipeline.album import Album
from dalle3_jax.pipeline.setting_values import MAX_SIDE
from dalle3_jax.runtime.exit_codes import EXIT_FAILED

if TYPE_CHECKING:
    from dalle3_jax.evaluation.decoders.decoder_study import DecoderPlan
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax evaluate decoders --decoders runs/demo/decoder        with the teacher of the shipped decoder
  dalle3-jax evaluate decoders --count 100 --sizes 128 --teacher-count 0

Latents come from true pictures with drawn words, from scenes as the base model would have made them, and from prompts.
Each decoder gets the same ones with the same seeds. A teacher (a decoder that was not distilled) takes part twice: in
one step, which the report calls regression, and in many.

OUTDIR holds report.md (what is printed), report.json (that, and the values of every picture), plots, and zoomed
pictures side by side; all of it is written anew after each source."""


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax evaluate decoders",
        "Compare the decoders of a release: what they keep of pictures, how they spell, and their time.",
        EXAMPLES,
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
    from dalle3_jax.evaluation.decoders.decoder_study import measure_sources, write_decoder_study
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
    errors = number_errors(arguments, least)
    errors += [f"--steps {steps} must be at least 1" for steps in arguments.steps if steps < 1]
    if arguments.seed > (last := 2**32 - arguments.count):
        errors.append(f"--seed {arguments.seed} must be at most {last}, for the pictures that follow")
    errors += [f"--sizes {side}: at most {MAX_SIDE}" for side in arguments.sizes if side > MAX_SIDE]
    for name in ("steps", "sizes"):
        if len(set(values := getattr(arguments, name))) < len(values):
            errors.append(f"--{name} {' '.join(map(str, values))}: each once")
    if errors:
        raise ValueError("; ".join(errors))


def plan_decoder_study(arguments: argparse.Namespace, pipeline: "Pipeline") -> "DecoderPlan":
    """The plan of all that will be measured; ValueError for what cannot be."""
    import jax

    from dalle3_jax.evaluation import plots
    from dalle3_jax.evaluation.decoders.decoder_study import DecoderPlan, select_decoders, teacher_label
    from dalle3_jax.evaluation.decoders.quality import ImageReaders
    from dalle3_jax.reading.ocr import INSTALL
    from dalle3_jax.reading.scene_reader import Reader
    from dalle3_jax.reading.word_reader import find_word_reader

    given = {name: getattr(arguments, name) for name in ("count", "sizes", "seed", "batch_size")}
    sources = latent_sources(pipeline, **given)
    judges = ImageReaders(find_word_reader(), Reader.load(arguments.reader))
    decoders, missing = select_decoders(pipeline, arguments.steps, arguments.teacher_steps)
    missing += [] if judges.words else [f"drawn words: {INSTALL}"]
    missing += [] if plots.has_matplotlib() else [f"plots: {plots.INSTALL}"]
    used = {"checkpoint": pipeline.release.digest, "device": jax.devices()[0].device_kind, "sources": SOURCES}
    used |= {"word_reader": judges.words.name if judges.words else ""}
    used |= {name: getattr(arguments, name) for name in ("count", "seed", "sizes", "batch_size", "teacher_count")}
    limits = {teacher_label(arguments.teacher_steps): arguments.teacher_count}
    return DecoderPlan(sources, decoders, limits, judges, missing, used)
