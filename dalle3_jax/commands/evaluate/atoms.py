"""`dalle3-jax evaluate atoms`: pictures judged atom by atom by a vision model behind a server."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dalle3_jax.commands.cli import (
    CommandParser,
    add_setting_flags,
    bad_input,
    failures,
    given_settings,
    number_errors,
    open_pipeline,
    print_command_errors,
)
from dalle3_jax.commands.evaluate.cli import FAILURES, LEAST, LEFT, make_pictures
from dalle3_jax.pipeline.album import Album
from dalle3_jax.pipeline.request import ordered_settings

if TYPE_CHECKING:
    from dalle3_jax.evaluation.judge import Judge
    from dalle3_jax.evaluation.questions import QuestionPrompt
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.request import Request

EXAMPLES = """examples:
  dalle3-jax evaluate atoms --suite geneval2_data.jsonl --judge-url http://localhost:8000/v1 --judge-model NAME
  dalle3-jax evaluate atoms --suite visitors --judge-model gpt-4o-mini        OpenAI's own; the key is $OPENAI_API_KEY

A file in GenEval 2's format (github.com/facebookresearch/GenEval2; not included, its licence forbids it) or a suite of
`evaluate`. OUTDIR holds atoms.md (what is printed), atoms.json, atoms.png, the pictures, and the answers, which another
run does not ask for again."""


def build_parser() -> CommandParser:
    """The command's arguments; what is left at None is the release's own default."""
    parser = CommandParser(
        "dalle3-jax evaluate atoms",
        "Score a model: a vision model answers a question about every single thing that a prompt asks for.",
        EXAMPLES,
    )
    parser.add_argument("--checkpoint", default="demo", metavar="PATH", help="release, workdir, or demo (default)")
    parser.add_argument(
        "--suite", required=True, metavar="NAME", help="a .jsonl, scenes, a kind of prompts, or a world"
    )
    parser.add_argument("--count", type=int, metavar="N", help="so many prompts (default: all)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="pictures per prompt (default 1)")
    add_setting_flags(parser, [setting for setting in ordered_settings() if setting.has_flag])
    parser.set_defaults(seed=0)
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    server = "a server with OpenAI's /chat/completions (default: $OPENAI_BASE_URL, else OpenAI's own)"
    parser.add_argument("--judge-url", metavar="URL", help=f"{server}; its key is $OPENAI_API_KEY")
    parser.add_argument("--judge-model", required=True, metavar="NAME", help="its model, which must take images")
    parser.add_argument(
        "--judge-timeout", type=float, default=60.0, metavar="S", help="seconds a question (default 60)"
    )
    parser.add_argument("--judge-threads", type=int, default=8, metavar="N", help="questions at once (default 8)")
    parser.add_argument("--outdir", default="atoms", metavar="DIR", help="folder to write to (default atoms)")
    return parser


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input, and a server that is no judge, give one line and status 2 before any picture."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        pipeline, prompts, requests, album, notes = prepare_judging(arguments)
        judge = connect_judge(arguments, album.folder)
    for note in notes:
        print(f"note: left out: {note}", file=sys.stderr)
    from dalle3_jax.evaluation.judge import judge_pictures
    from dalle3_jax.evaluation.judgement_report import write_judgement
    from dalle3_jax.evaluation.row_bars import show_progress

    with failures(*FAILURES, remark="nothing was measured"):
        pictures = make_pictures(pipeline, requests, arguments.batch_size)
        for picture in pictures:
            album.add(picture)
        images = [picture.image for picture in pictures]
        judged = judge_pictures(judge, prompts, images, threads=arguments.judge_threads, bar=show_progress)
    with failures(ValueError, OSError, remark=LEFT):
        write_judgement(judge, judged, notes, vars(arguments), album.folder)
    return 0


def prepare_judging(
    arguments: argparse.Namespace,
) -> tuple["Pipeline", list["QuestionPrompt"], list["Request"], Album, list[str]]:
    """Checks everything; returns the pipeline, each picture's prompt and request, the folder, and what is left out."""
    from dalle3_jax.evaluation.questions import load_questions
    from dalle3_jax.evaluation.score import plan_requests

    if errors := number_errors(arguments, {**LEAST, "judge_threads": 1}):
        raise ValueError("; ".join(errors))
    prompts, notes = load_questions(arguments.suite, arguments.count)
    pipeline = open_pipeline(arguments.checkpoint)
    settings = given_settings(arguments)
    seed = settings.pop("seed")
    plan = plan_requests(pipeline, prompts, ("short",), arguments.seeds, seed, settings)
    rows, requests = [prompt for prompt, *_ in plan], [request for *_, request in plan]
    return pipeline, rows, requests, Album(arguments.outdir), notes


def connect_judge(arguments: argparse.Namespace, folder: Path) -> "Judge":
    """The judge, asked once; ValueError for a server that does not answer or a model that does not see."""
    from dalle3_jax.evaluation.judge import Judge, check_judge
    from dalle3_jax.pipeline.revision import chat_backend

    chat = replace(chat_backend(arguments.judge_url, arguments.judge_model, arguments.judge_timeout), cache=None)
    return check_judge(Judge(chat, cache=folder / "answers"))
