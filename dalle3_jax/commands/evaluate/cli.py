"""Arguments that `evaluate`, `evaluate compare` and `evaluate votes` share, and all that is checked before."""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalle3_jax.commands.cli import CommandParser, add_setting_flags, given_settings, number_errors
from dalle3_jax.data.scenes import SCATTERED, WORLDS
from dalle3_jax.data.scenes.scene import SPLITS
from dalle3_jax.pipeline.album import Album
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.request import ordered_settings
from dalle3_jax.pipeline.setting_values import format_size

if TYPE_CHECKING:
    from dalle3_jax.data.scenes import World
    from dalle3_jax.pipeline import Pipeline
    from dalle3_jax.pipeline.png import GeneratedImage
    from dalle3_jax.pipeline.request import Request

LEAST = {"count": 1, "seeds": 1, "batch_size": 1, "seed": 0, "neighbours": 0}
"""The least numbers that what makes pictures takes."""

LEAST_SIDE = 32  # pixels; sprites of smaller pictures cannot be told apart
FAILURES = (ValueError, OSError, FloatingPointError)
"""What may still go wrong while pictures are made."""
LEFT = "the table above is all that is left of this run"
"""The remark of an error while the report is written."""

DRAWN = sorted(set(WORLDS) - {SCATTERED.name})
SUITE_HELP = (
    f"scenes (default): 800 prompts of 13 kinds; visitors, or another kind: these alone; {', '.join(DRAWN)}: drawn "
    "from that world; or a .jsonl"
)


def add_scoring_flags(parser: CommandParser) -> CommandParser:
    """The arguments of everything that makes pictures."""
    parser.add_argument("--suite", default="scenes", metavar="NAME", help=SUITE_HELP)
    parser.add_argument(
        "--count", type=int, metavar="N", help="so many prompts, evenly of all kinds (default: all; of a world 300)"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="pictures per prompt (default 1)")
    parser.add_argument("--split", default="held_out", choices=SPLITS, help="of a world's scenes (default held_out)")
    parser.add_argument(
        "--protocol", default="short", choices=("short", "upsampled", "both"), help="what the model is given"
    )
    parser.add_argument(
        "--reader", default="reader", metavar="PATH", help="release of a scene reader (default: the shipped)"
    )
    parser.add_argument("--no-words", action="store_true", help="leave the drawn words out, which take longest to read")
    add_setting_flags(parser, [setting for setting in ordered_settings() if setting.has_flag])
    parser.set_defaults(seed=0)
    parser.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    parser.add_argument("--outdir", default="evaluation", metavar="DIR", help="folder to write to (default evaluation)")
    return parser


def prepare_scoring(
    arguments: argparse.Namespace, pipelines: Sequence["Pipeline"]
) -> tuple[Callable[..., Any], Path, "World"]:
    """Checks everything; returns what makes a pipeline's report, the folder, which can be written, and the world."""
    settings = given_settings(arguments)
    seed = settings.pop("seed")
    errors = [*number_errors(arguments, LEAST), *_setting_errors(pipelines, settings)]
    if errors:
        raise ValueError("; ".join(dict.fromkeys(errors)))
    from dalle3_jax.evaluation.row_bars import show_progress
    from dalle3_jax.evaluation.score import PROTOCOLS, plan_requests, score_model, usable_prompts
    from dalle3_jax.evaluation.suites import load_named_prompts
    from dalle3_jax.reading.ocr import INSTALL, find_ocr
    from dalle3_jax.reading.scene_reader import Reader  # after the checks: these bring jax

    prompts, world, left_out = load_named_prompts(
        arguments.suite, arguments.count, seed=arguments.seed, split=arguments.split
    )
    reader = Reader.load(arguments.reader)
    protocols = PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,)
    ocr = None if arguments.no_words else find_ocr()
    kept, _ = usable_prompts(prompts, reader, ocr, protocols)
    plans = [plan_requests(pipeline, kept, protocols, arguments.seeds, seed, settings) for pipeline in pipelines]
    if len({tuple(request.size for *_, request in plan) for plan in plans}) > 1:
        raise ValueError("the checkpoints make pictures of other sizes, and so from other noise: give one --size")
    folder = Album(arguments.outdir).folder
    given = {"seeds": arguments.seeds, "seed": seed, "batch_size": arguments.batch_size}
    given |= {"left_out": left_out, "no_ocr": "left out by --no-words" if arguments.no_words else INSTALL}
    make = functools.partial(score_model, prompts=prompts, reader=reader, ocr=ocr, world=world, protocols=protocols)
    return functools.partial(make, bar=show_progress, **given, **settings), folder, world


def make_pictures(
    pipeline: "Pipeline", requests: Sequence["Request"], batch_size: int | None
) -> "list[GeneratedImage]":
    """Makes the pictures under a bar, in the order of their requests."""
    with progress_bar() as (_, progress):
        made = dict(pipeline.generate(requests, batch_size=batch_size, progress=progress))
    return [made[i] for i in range(len(requests))]


def _setting_errors(pipelines: Sequence["Pipeline"], settings: Mapping[str, Any]) -> list[str]:
    """Errors that keep the pipelines from making pictures with these settings, or the reader from reading them."""
    errors = []
    for pipeline in pipelines:
        try:
            request = pipeline.request("", **settings)
        except ValueError as error:
            errors.append(str(error))
        else:
            for notice in pipeline.request_notices([request]):
                print(f"note: {notice}", file=sys.stderr)
            size = request.size
            if min(size) < LEAST_SIDE:
                small = f"pictures of {format_size(size)} are too small to read"
                errors.append(f"{small}: a side must have {LEAST_SIDE} pixels")
    return errors
