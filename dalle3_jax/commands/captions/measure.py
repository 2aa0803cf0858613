"""`dalle3-jax captions measure`: captions of held-out scenes against their exact labels."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalle3_jax.commands.cli import CommandParser, bad_input, print_command_errors
from dalle3_jax.data.scenes import SPLITS, world_of
from dalle3_jax.data.scenes.worlds import parse_world
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.evaluation.captions.accuracy import score_captions
from dalle3_jax.prompting.scene_lexicon import training_world

if TYPE_CHECKING:
    from dalle3_jax.captioning import CaptionModel

EXAMPLES = """examples:
  dalle3-jax captions measure --captioner descriptive=runs/demo-cpu/captioner_descriptive --out runs/captions
  dalle3-jax captions measure --world whole      # the data's own captions alone: what the measures can tell

VERSION is the version of captions that a captioner was tuned on. Numbers in brackets are captions of other pictures."""


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax captions measure", "Hold captions of scenes against what the scenes show.", EXAMPLES
    )
    text = "a captioner to measure, a release or a stage's folder; may be given several times"
    parser.add_argument("--captioner", action="append", default=[], metavar="VERSION=PATH", help=text)
    text = "the world of the scenes: a name, or JSON (default: that of the first captioner's training, else first)"
    parser.add_argument("--world", help=text)
    parser.add_argument("--split", default="held_out", choices=SPLITS, help="(default held_out)")
    parser.add_argument("--count", type=int, default=500, metavar="N", help="pictures (default 500)")
    parser.add_argument("--seed", type=int, default=7, help="of the scenes (default 7)")
    parser.add_argument("--method", default="greedy", help="greedy, top_p or beam (default greedy)")
    parser.add_argument("--out", metavar="DIR", help="folder for captions.md, captions.json and captions.png")
    return parser


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before anything is captioned."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        return run(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Captions, measures, table and sheet."""
    from dalle3_jax.captioning import CaptionDecoding, CaptionModel
    from dalle3_jax.evaluation.captions.accuracy_report import (
        accuracy_markdown,
        captioner_similarity,
        world_title,
        write_accuracy,
    )
    from dalle3_jax.runtime.distributed import enable_compilation_cache

    enable_compilation_cache()
    decoding, named = CaptionDecoding(arguments.method), parse_captioners(arguments.captioner)
    if arguments.count < 2:
        raise ValueError(f"--count {arguments.count}: at least two pictures are needed")
    models = {version: CaptionModel.load(path) for version, path in named.items()}
    world = scenes_world(arguments.world, models)
    source = ScenesSource(world, arguments.seed, 128, 128, split=arguments.split)
    records = [source[index] for index in range(arguments.count)]
    pictures = [decode_image(record.image, record.key) for record in records]
    captions = {name: [record.captions[name] for record in records] for name in records[0].captions}
    captions |= {f"captioner, {version}": model.captions(pictures, decoding) for version, model in models.items()}
    labels = [record.labels for record in records]
    measures = {name: score_captions(texts, labels, world_of(world)) for name, texts in captions.items()}
    likeness = {version: captioner_similarity(model, version, pictures, records) for version, model in models.items()}
    title = f"{arguments.count} {arguments.split} scenes of {world_title(world)}, seed {arguments.seed}"
    text = accuracy_markdown(f"{title}; captions by {arguments.method}.", measures, likeness)
    print(text)
    if arguments.out:
        write_accuracy(Path(arguments.out), text, title, world, records, captions, measures)
        print(f"wrote {Path(arguments.out)}/captions.md, captions.json and captions.png")
    return 0


def scenes_world(text: str | None, models: Mapping[str, "CaptionModel"]) -> str | dict[str, Any]:
    """The world that was asked for, or that of the first captioner's training."""
    if text is not None:
        return parse_world(text)
    worlds = [training_world(model.training) for model in models.values()]
    return next((world for world in worlds if world is not None), "first")


def parse_captioners(texts: Sequence[str]) -> dict[str, str]:
    """Version -> path; ValueError for what is no such pair, or the same version twice."""
    pairs = [text.partition("=") for text in texts]
    wrong = [text for text, (version, _, path) in zip(texts, pairs, strict=True) if not version or not path]
    versions = [version for version, _, _ in pairs]
    wrong += [version for version in dict.fromkeys(versions) if versions.count(version) > 1]
    if wrong:
        raise ValueError(f"--captioner {', '.join(wrong)}: write VERSION=PATH, each version once")
    return {version: path for version, _, path in pairs}
