"""`dalle3-jax evaluate`: how well a model's pictures follow prompts that it never saw."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalle3_jax.commands.album import Album
from dalle3_jax.commands.prompts import parse_size
from dalle3_jax.commands.sample import Parser, load, progress_bar
from dalle3_jax.data.scenes.scene import SPLITS
from dalle3_jax.data.scenes.world import WORLDS
from dalle3_jax.pictures import png_bytes, size_text, write_whole

if TYPE_CHECKING:
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax evaluate
  dalle3-jax evaluate --checkpoint runs/demo --count 60 --steps 10 --outdir runs/demo/evaluation

OUTDIR holds report.md (what is printed), report.json (that, and every prompt with what was read in its picture), and
the best, the median and the worst pictures with their prompts: best.png, median.png, worst.png."""

SETTINGS = ("steps", "sampler", "guidance_scale")
LEAST_SIDE = 32  # pixels; sprites of smaller pictures cannot be told apart


def parser() -> Parser:
    """The command's arguments; what is left at None is the release's own default."""
    found = Parser(
        "dalle3-jax evaluate",
        description="Score a model: scenes that it never saw are asked for, and its pictures read by templates.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("--checkpoint", default="demo", metavar="PATH", help="release, workdir, or demo (default)")
    found.add_argument("--count", type=int, default=300, metavar="N", help="prompts in all (default 300)")
    found.add_argument("--seed", type=int, default=0, metavar="N", help="seed of prompts and pictures (default 0)")
    found.add_argument("--split", default="held_out", choices=SPLITS, help="scenes to ask for (default held_out)")
    found.add_argument("--world", default="first", choices=sorted(WORLDS), help="the world of scenes (default first)")
    found.add_argument("--size", metavar="WIDTHxHEIGHT", help="default: the release's first size")
    found.add_argument("--steps", type=int, metavar="N", help="steps of the sampler")
    found.add_argument("--sampler", metavar="NAME", help="ddim, ddpm or dpmsolver++")
    found.add_argument("--guidance-scale", type=float, metavar="X", help="1 is none; higher follows the prompt more")
    found.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    found.add_argument("--outdir", default="evaluation", metavar="DIR", help="folder to write to (default evaluation)")
    return found


def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before any picture is made."""
    arguments = parser().parse_args(argv)
    try:
        evaluate, folder = prepare(arguments)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with progress_bar() as (_, progress):
        report = evaluate(progress=progress)
    print(report.markdown())
    try:
        write(report, folder)
    except OSError as error:
        print(f"error: {error}; the table above is all that is left of this run", file=sys.stderr)
        return 1
    print(f"wrote {folder}/report.md, report.json, best.png, median.png, worst.png")
    return 0


def prepare(arguments: argparse.Namespace) -> tuple[Callable[..., Any], Path]:
    """Checks everything; returns what makes the report, and the folder, which can be written."""
    settings = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    settings |= {"size": parse_size(arguments.size)} if arguments.size else {}
    pipeline = load(arguments.checkpoint)
    check(pipeline, arguments, settings)
    folder = Album(arguments.outdir).folder
    from dalle3_jax.evaluation.suite import score  # after the checks: it brings jax

    given = {name: getattr(arguments, name) for name in ("count", "seed", "split", "batch_size")}
    return functools.partial(score, pipeline, world=WORLDS[arguments.world], **given, **settings), folder


def check(pipeline: "Pipeline", arguments: argparse.Namespace, settings: dict[str, Any]) -> None:
    """Raises ValueError with everything that keeps the pictures from being made."""
    kinds = len(WORLDS[arguments.world].kinds)
    found = [] if arguments.count >= 2 * kinds else [f"--count {arguments.count} must be at least {2 * kinds}"]
    if arguments.batch_size is not None and arguments.batch_size < 1:
        found.append(f"--batch-size {arguments.batch_size} must be at least 1")
    for seed in (arguments.seed, arguments.seed + max(arguments.count, 1) - 1):
        found += pipeline.problems(pipeline.request("", seed=seed, **settings))
    size = settings.get("size", pipeline.defaults["size"])
    if min(size) < LEAST_SIDE:
        found.append(f"pictures of {size_text(size)} are too small to read: a side must have {LEAST_SIDE} pixels")
    if found:
        raise ValueError("; ".join(dict.fromkeys(found)))


def write(report: Any, folder: Path) -> None:
    """The report's files, each written whole."""
    write_whole(folder / "report.md", report.markdown().encode())
    write_whole(folder / "report.json", (json.dumps(report.plain(), indent=1, allow_nan=False) + "\n").encode())
    for name, sheet in report.sheets().items():
        write_whole(folder / f"{name}.png", png_bytes(sheet))
