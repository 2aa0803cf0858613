"""`dalle3-jax evaluate votes A B` makes a page on which people choose; `evaluate elo` reads their votes."""

import argparse
import sys
from collections.abc import Sequence
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
from dalle3_jax.commands.evaluate.cli import FAILURES, LEAST, make_pictures
from dalle3_jax.pipeline.album import Album
from dalle3_jax.pipeline.request import SETTINGS

if TYPE_CHECKING:
    from dalle3_jax.evaluation.prompts import Prompt
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.request import Request


def build_parser() -> CommandParser:
    """The arguments of `votes`."""
    parser = CommandParser(
        "dalle3-jax evaluate votes",
        description="Make pictures of the same prompts with several checkpoints, and a page on which people vote.",
        epilog="Open DIR/index.html in any browser; it needs no network. Its button saves the votes as a .jsonl,\n"
        "which `dalle3-jax evaluate elo` reads, as many of them as there are voters.",
    )
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="two or more: release, workdir, or demo")
    parser.add_argument("--suite", default="scenes", metavar="NAME", help="scenes, a kind, a world, or a .jsonl")
    parser.add_argument("--count", type=int, default=40, metavar="N", help="prompts to vote on (default 40)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of pictures and sides (default 0)")
    add_setting_flags(parser, [SETTINGS["size"]])
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    parser.add_argument("--outdir", default="votes", metavar="DIR", help="an empty or new folder (default votes)")
    parser.set_defaults(seeds=1)
    return parser


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Makes the page; bad input gives one line and status 2 before any picture is made."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        jobs, prompts, folder, notes = prepare_votes(arguments)
    for note in notes:
        print(f"note: left out: {note}", file=sys.stderr)
    from dalle3_jax.evaluation.votes.page import write_vote_page

    pictures = {}
    with failures(*FAILURES, remark="no page was made"):
        for name, (pipeline, requests) in jobs.items():
            pictures[name] = [made.image for made in make_pictures(pipeline, requests, arguments.batch_size)]
        page = write_vote_page(folder, pictures, [(prompt.id, prompt.text) for prompt in prompts], seed=arguments.seed)
    print(f"wrote {page}: open it in a browser and vote")
    return 0


def prepare_votes(
    arguments: argparse.Namespace,
) -> tuple[dict[str, tuple["Pipeline", list["Request"]]], list["Prompt"], Path, list[str]]:
    """Checks everything; returns what each checkpoint makes, the prompts, the empty folder, and what is left out."""
    from dalle3_jax.evaluation.score import plan_requests
    from dalle3_jax.evaluation.suites import load_named_prompts

    if errors := [*number_errors(arguments, LEAST), *_checkpoint_errors(arguments.checkpoints)]:
        raise ValueError("; ".join(errors))
    folder = Path(arguments.outdir)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: give another --outdir")
    settings = given_settings(arguments)
    seed = settings.pop("seed")
    pipelines = {name: open_pipeline(name) for name in arguments.checkpoints}
    prompts, _, left_out = load_named_prompts(arguments.suite, arguments.count, seed=arguments.seed)
    jobs = {}
    for name, pipeline in pipelines.items():
        plan = plan_requests(pipeline, prompts, ("short",), 1, seed, settings)
        jobs[name] = pipeline, [request for *_, request in plan]
    return jobs, prompts, Album(folder).folder, left_out


def _checkpoint_errors(names: Sequence[str]) -> list[str]:
    """Errors that keep these from being compared."""
    if len(set(names)) < max(len(names), 2):
        return ["give at least two checkpoints, each once"]
    return []


@print_command_errors
def elo_main(argv: Sequence[str]) -> int:
    """Prints ratings and win rates of files of votes; bad input gives one line and status 2."""
    parser = CommandParser(
        "dalle3-jax evaluate elo",
        "Ratings of the systems that people chose between: Bradley-Terry on the Elo scale, mean 1000.",
    )
    parser.add_argument("files", nargs="+", metavar="VOTES", help="files that the page saved")
    from dalle3_jax.evaluation.votes.elo import ratings_markdown, read_votes

    with bad_input(ValueError, OSError):
        votes = [vote for file in parser.parse_args(argv).files for vote in read_votes(file)]
        print(ratings_markdown(votes))
    return 0
