"""`dalle3-jax evaluate`: how well a model's pictures follow prompts whose every part is known."""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from dalle3_jax.commands.album import Album
from dalle3_jax.commands.prompts import parse_size
from dalle3_jax.commands.sample import Parser, load, progress_bar
from dalle3_jax.data.scenes import WORLDS
from dalle3_jax.data.scenes.scene import SPLITS
from dalle3_jax.pictures import png_bytes, size_text, write_whole

if TYPE_CHECKING:
    from dalle3_jax.evaluation.report import Report
    from dalle3_jax.pipeline import Pipeline

EXAMPLES = """examples:
  dalle3-jax evaluate                                         the demo on the 600 prompts of the suite
  dalle3-jax evaluate --suite first --count 300               the demo on held-out scenes of its own world
  dalle3-jax evaluate --checkpoint runs/demo --suite my.jsonl --seeds 4 --outdir runs/demo/evaluation
  dalle3-jax evaluate --protocol both                         the prompts as they are, and at length
  dalle3-jax evaluate compare A B                             two checkpoints on the same noise
  dalle3-jax evaluate votes A B --outdir page                 a page on which people choose between their pictures
  dalle3-jax evaluate elo votes.jsonl                         their choices as ratings

OUTDIR holds report.md (what is printed), report.json (that, and every prompt with what was read in its picture), plots
of the rates, the best, the median and the worst pictures, and those nearest to the training set."""

SETTINGS = ("steps", "sampler", "guidance_scale")
LEAST_SIDE = 32  # pixels; sprites of smaller pictures cannot be told apart
OTHER_SEED = 1_000_003  # of true pictures that no training has seen


def common(found: Parser) -> Parser:
    """The arguments of everything that makes pictures."""
    found.add_argument("--suite", default="scenes", metavar="NAME", help=SUITE_HELP)
    found.add_argument(
        "--count", type=int, metavar="N", help="so many prompts, evenly of all kinds (default: all; of a world 300)"
    )
    found.add_argument("--seeds", type=int, default=1, metavar="N", help="pictures per prompt (default 1)")
    found.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the first picture (default 0)")
    found.add_argument("--split", default="held_out", choices=SPLITS, help="of a world's scenes (default held_out)")
    found.add_argument(
        "--protocol", default="short", choices=("short", "upsampled", "both"), help="what the model is given"
    )
    found.add_argument(
        "--reader", default="reader", metavar="PATH", help="release of a scene reader (default: the shipped)"
    )
    found.add_argument("--no-words", action="store_true", help="leave the drawn words out, which take longest to read")
    found.add_argument("--size", metavar="WIDTHxHEIGHT", help="default: the release's first size")
    found.add_argument("--steps", type=int, metavar="N", help="steps of the sampler")
    found.add_argument("--sampler", metavar="NAME", help="ddim, ddpm or dpmsolver++")
    found.add_argument("--guidance-scale", type=float, metavar="X", help="1 is none; higher follows the prompt more")
    found.add_argument("--batch-size", type=int, metavar="N", help="pictures made at once")
    found.add_argument("--outdir", default="evaluation", metavar="DIR", help="folder to write to (default evaluation)")
    return found


DRAWN = sorted(set(WORLDS) - {"scattered"})
SUITE_HELP = f"scenes (default): 600 prompts of 12 kinds; {', '.join(DRAWN)}: drawn from that world; or a .jsonl"


def parser() -> Parser:
    """The command's arguments; what is left at None is the release's own default."""
    found = Parser(
        "dalle3-jax evaluate",
        description="Score a model: its pictures of prompts with labels are read by a network that is not told them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("--checkpoint", default="demo", metavar="PATH", help="release, workdir, or demo (default)")
    found.add_argument(
        "--neighbours", type=int, default=2_000, metavar="N", help="training pictures to look for copies among; 0: none"
    )
    return common(found)


def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before any picture is made."""
    if argv and argv[0] in ("compare", "votes", "elo"):
        from dalle3_jax.commands import compare, votes

        return {"compare": compare.main, "votes": votes.main, "elo": votes.elo}[argv[0]](argv[1:])
    arguments = parser().parse_args(argv)
    try:
        pipeline = load(arguments.checkpoint)
        evaluate, folder = prepare(arguments, [pipeline])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with progress_bar() as (_, progress):
        report = evaluate(pipeline, progress=progress)
    print(report.markdown())
    try:
        write(report, folder, {})
        if arguments.neighbours:
            report, extra = with_likeness(report, pipeline, arguments)
            write(report, folder, extra)
    except OSError as error:
        print(f"error: {error}; the table above is all that is left of this run", file=sys.stderr)
        return 1
    if report.likeness:
        print(report.likeness.markdown())
    print(f"wrote {folder}/report.md, report.json, plots and sheets")
    return 0


def prepare(arguments: argparse.Namespace, pipelines: Sequence["Pipeline"]) -> tuple[Callable[..., Any], Path]:
    """Checks everything; returns what makes the report of a pipeline, and the folder, which can be written."""
    settings = {name: getattr(arguments, name) for name in SETTINGS if getattr(arguments, name) is not None}
    settings |= {"size": parse_size(arguments.size)} if arguments.size else {}
    found = wrong(arguments)
    for pipeline in pipelines:
        found += [
            problem for problem in pipeline.problems(pipeline.request("", seed=max(arguments.seed, 0), **settings))
        ]
        size = settings.get("size", pipeline.defaults["size"])
        if min(size) < LEAST_SIDE:
            found.append(f"pictures of {size_text(size)} are too small to read: a side must have {LEAST_SIDE} pixels")
    if found:
        raise ValueError("; ".join(dict.fromkeys(found)))
    from dalle3_jax.evaluation.detector import Reader  # after the checks: these bring jax
    from dalle3_jax.evaluation.ocr import find_ocr
    from dalle3_jax.evaluation.suite import PROTOCOLS, check, score
    from dalle3_jax.evaluation.suites import named

    prompts, world = named(arguments.suite, arguments.count, seed=arguments.seed, split=arguments.split)
    reader = Reader.load(arguments.reader)
    protocols = PROTOCOLS if arguments.protocol == "both" else (arguments.protocol,)
    check(prompts, reader, protocols)
    folder = Album(arguments.outdir).folder
    given = {name: getattr(arguments, name) for name in ("seeds", "seed", "batch_size")}
    ocr = None if arguments.no_words else find_ocr()
    make = functools.partial(score, prompts=prompts, reader=reader, ocr=ocr, world=world, protocols=protocols)
    return functools.partial(make, bar=bar, **given, **settings), folder


def wrong(arguments: argparse.Namespace) -> list[str]:
    """What is wrong with the numbers."""
    least = {"count": 1, "seeds": 1, "batch_size": 1, "seed": 0}
    return [
        f"--{name.replace('_', '-')} {value} must be at least {low}"
        for name, low in least.items()
        if (value := getattr(arguments, name)) is not None and value < low
    ]


def bar(rows: Sequence[Any], text: str) -> Any:
    """A progress bar over work that is long."""
    return tqdm(rows, desc=text, unit="picture", dynamic_ncols=True, leave=False) if len(rows) > 8 else rows


def with_likeness(
    report: "Report", pipeline: "Pipeline", arguments: argparse.Namespace
) -> tuple["Report", Mapping[str, Any]]:
    """The report with distances to true pictures and neighbours in the training set, and the sheet of these."""
    from dalle3_jax.data.pipeline import source_of
    from dalle3_jax.data.sources import ScenesSource
    from dalle3_jax.evaluation.detector import Reader
    from dalle3_jax.evaluation.likeness import LEAST, likeness, true_scenes

    height, width = size = report.settings["size"]
    first = next(iter(report.rows))
    made = [o for o in report.outcomes if o.protocol == first and o.round == 0 and o.image.shape[:2] == tuple(size)]
    ids = {truth.prompt.id: truth.image for truth in report.truths}
    made = [o for o in made if o.prompt.id in ids]
    data = pipeline.release.training.get("config", {}).get("data", {})
    if len(made) < LEAST or data.get("source", "scenes") != "scenes":
        why = f"{len(made)} square pictures of prompts with scenes; {LEAST} are needed, of a model trained on scenes"
        return replace(report, unmeasured=[*report.unmeasured, f"likeness to true pictures: {why}"]), {}
    world, seed = report.settings["world"], data.get("seed", 0)
    section = {"world": data.get("world", world), "part": data.get("part", {}), "size": size, "seed": seed}
    training = source_of(section)
    sources = {
        "other": ScenesSource(world, OTHER_SEED, height, width, split="held_out"),
        "held_out": source_of({**section, "seed": OTHER_SEED, "split": "held_out"}),
        "training": training,
    }
    counts = {"other": len(made), "held_out": max(len(made), LEAST), "training": arguments.neighbours}
    pictures = {name: true_scenes(source, counts[name], bar) for name, source in sources.items()}
    sets = {"generated": np.stack([o.image for o in made]), "same": np.stack([ids[o.prompt.id] for o in made])}
    found, sheet = likeness(Reader.load(arguments.reader), **sets, **pictures)
    return replace(report, likeness=found), {"neighbours": sheet}


def write(report: "Report", folder: Path, extra: Mapping[str, Any]) -> None:
    """The report's files, each written whole."""
    from dalle3_jax.evaluation import plots

    write_whole(folder / "report.md", report.markdown().encode())
    write_whole(folder / "report.json", (json.dumps(report.plain(), indent=1, allow_nan=False) + "\n").encode())
    for name, lines in report.rows.items():
        write_whole(folder / f"rates-{name}.png", plots.rates(lines, f"{name} prompts. {report.head()}"))
    for name, sheet in {**report.sheets(), **extra}.items():
        write_whole(folder / f"{name}.png", png_bytes(sheet))
