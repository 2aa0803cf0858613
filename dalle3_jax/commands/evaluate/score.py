"""`dalle3-jax evaluate` itself: how well a model's pictures follow prompts whose every part is known."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dalle3_jax.commands.cli import (
    CommandParser,
    bad_input,
    failures,
    open_pipeline,
    print_command_errors,
)
from dalle3_jax.commands.evaluate.cli import FAILURES, LEFT, add_scoring_flags, prepare_scoring
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.setting_values import parse_size

if TYPE_CHECKING:
    from dalle3_jax.captioning import CaptionModel
    from dalle3_jax.data.scenes import World
    from dalle3_jax.evaluation.likeness import TrueSources
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax evaluate                                         the demo on the 800 prompts of the suite
  dalle3-jax evaluate --suite visitors --seeds 4              its 200 prompts in the language that people type
  dalle3-jax evaluate --suite first --count 300               the demo on held-out scenes of its own world
  dalle3-jax evaluate --checkpoint runs/demo --suite my.jsonl --seeds 4 --outdir runs/demo/evaluation
  dalle3-jax evaluate --captioner runs/demo/captioner_descriptive --suite first      with our CLIP score
  dalle3-jax evaluate --protocol both                         the prompts as they are, and at length
  dalle3-jax evaluate compare A B                             two checkpoints on the same noise
  dalle3-jax evaluate atoms --suite FILE --judge-model NAME   each thing asked for, judged by any vision model
  dalle3-jax evaluate votes A B --outdir page                 a page on which people choose between their pictures
  dalle3-jax evaluate elo votes.jsonl                         their choices as ratings
  dalle3-jax evaluate decoders                                what each decoder keeps of pictures, and its time

OUTDIR holds report.md (what is printed), report.json (that, and every prompt with what was read in its picture), plots
of the rates, the best, the median and the worst pictures, and those nearest to the training set."""

SEARCHED = 8_000  # training records: one or two minutes on two cores


def build_parser() -> CommandParser:
    """The command's arguments; what is left at None is the release's own default."""
    parser = CommandParser(
        "dalle3-jax evaluate",
        "Score a model: its pictures of prompts with labels are read by a network that is not told them.",
        EXAMPLES,
    )
    parser.add_argument("--checkpoint", default="demo", metavar="PATH", help="release, workdir, or demo (default)")
    text = f"training pictures to look for copies among, at most all (default {SEARCHED:,}); 0: no likeness"
    parser.add_argument("--neighbours", type=int, default=SEARCHED, metavar="N", help=text)
    text = "a captioner's release or stage: its image-text similarity, our CLIP score, joins the report"
    parser.add_argument("--captioner", metavar="PATH", help=text)
    return add_scoring_flags(parser)


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before any picture is made."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        pipeline = open_pipeline(arguments.checkpoint)
        captioner = load_captioner(arguments.captioner)
        evaluate, folder, world = prepare_scoring(arguments, [pipeline])
    from dalle3_jax.evaluation.report_parts import with_likeness, with_similarity, with_unmeasured, write_report

    sources, missing = find_likeness_sources(arguments, pipeline, world)
    for line in missing:
        print(f"note: not measured: {line}", file=sys.stderr)
    with failures(*FAILURES, remark="nothing was measured"):
        with progress_bar() as (_, progress):
            report = with_unmeasured(evaluate(pipeline, progress=progress), *missing)
        report = with_similarity(report, captioner)
    print(report.markdown())
    with failures(OSError, remark=LEFT):
        write_report(report, folder, {})
        if sources:
            report, extra = with_likeness(report, sources, arguments.reader, arguments.neighbours)
            write_report(report, folder, extra)
            print(report.likeness.markdown() if report.likeness else f"not measured: {report.unmeasured[-1]}")
    print(f"wrote {folder}/report.md, report.json, plots and sheets")
    return 0


def find_likeness_sources(
    arguments: argparse.Namespace, pipeline: "Pipeline", world: "World"
) -> tuple["TrueSources | None", list[str]]:
    """The true pictures for the likeness, None without; and what will not be measured, and why."""
    from dalle3_jax.evaluation import plots
    from dalle3_jax.evaluation.likeness import find_true_sources
    from dalle3_jax.evaluation.report_parts import LIKENESS

    missing = [] if plots.has_matplotlib() else [f"plots: {plots.INSTALL}"]
    size = parse_size(arguments.size) if arguments.size else pipeline.defaults["size"]
    try:
        sources = find_true_sources(pipeline.release.training, world.name, size) if arguments.neighbours else None
    except ValueError as error:
        return None, [*missing, f"{LIKENESS}: {error}"]
    return sources, missing


def load_captioner(path: str | None) -> "CaptionModel | None":
    """The captioner that scores pictures, where one is asked for."""
    if path is None:
        return None
    from dalle3_jax.captioning import CaptionModel

    return CaptionModel.load(path)
