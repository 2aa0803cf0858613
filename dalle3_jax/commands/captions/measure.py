"""`dalle3-jax captions measure`: captions of held-out scenes against their exact labels."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dalle3_jax.commands.cli import CommandParser, bad_input, parse_world, print_command_errors
from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import SPLITS, world_of
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.evaluation.captions.accuracy import (
    CaptionScores,
    caption_scores_markdown,
    examples_sheet,
    retrieval_rate,
    score_captions,
)
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.png import encode_png
from dalle3_jax.prompting.scene_lexicon import training_world

if TYPE_CHECKING:
    from dalle3_jax.captioning import CaptionModel

EXAMPLES = """examples:
  dalle3-jax captions measure --captioner descriptive=runs/demo-cpu/captioner_descriptive --out runs/captions
  dalle3-jax captions measure --world whole      # the data's own captions alone: what the measures can tell

VERSION is the version of captions that a captioner was tuned on. Numbers in brackets are captions of other pictures."""

SHOWN = 16  # pictures on the sheet


def build_parser() -> CommandParser:
    """The command's arguments."""
    parser = CommandParser(
        "dalle3-jax captions measure",
        description="Hold captions of scenes against what the scenes show.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
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
    report_measures(arguments, world, records, captions, measures, likeness)
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


def captioner_similarity(
    model: Any, version: str, pictures: Sequence[np.ndarray], records: Sequence[Record]
) -> dict[str, Any]:
    """The captioner as a CLIP: similarity of pictures with their exact captions and with others', and retrieval."""
    texts = [record.captions.get(version, record.captions["alt"]) for record in records]
    images, vectors = model.image_vectors(pictures), model.text_vectors(texts)
    own = 100 * np.einsum("nv,nv->n", images, vectors)
    others = 100 * np.einsum("nv,nv->n", images, np.roll(vectors, 1, 0))
    return {"own": float(own.mean()), "others": float(others.mean()), "retrieval": retrieval_rate(images, vectors)}


def report_measures(
    arguments: argparse.Namespace,
    world: str | dict[str, Any],
    records: Sequence[Record],
    captions: Mapping[str, list[str]],
    results: Mapping[str, CaptionScores],
    likeness: Mapping[str, Mapping[str, Any]],
) -> None:
    """Prints the tables; with --out also writes them, all captions and a sheet."""
    of = f"{arguments.count} {arguments.split} scenes of {world_title(world)}, seed {arguments.seed}"
    text = f"{of}; captions by {arguments.method}.\n\n{caption_scores_markdown(results)}\n"
    if likeness:
        rows = [
            [
                version,
                f"{one['own']:.1f}",
                f"{one['others']:.1f}",
                f"{format_percent(one['retrieval'].value)} ({format_interval(one['retrieval'])})",
            ]
            for version, one in likeness.items()
        ]
        titles = ["100 x cosine", "own caption", "another's", "own nearest of 16"]
        text += f"\n{markdown_table(titles, rows)}\n"
    print(text)
    if arguments.out:
        folder = Path(arguments.out)
        folder.mkdir(parents=True, exist_ok=True)
        measures = {
            name: {key: {**row.rate._asdict(), "shuffled": row.shuffled} for key, row in one.rows.items()}
            for name, one in results.items()
        }
        kept = {"of": of, "measures": measures, "captions": captions, "keys": [record.key for record in records]}
        write_whole(folder / "captions.md", text.encode())
        write_whole(folder / "captions.json", (json.dumps(kept, indent=1) + "\n").encode())
        page = examples_sheet(records[:SHOWN], captions, world_of(world), of)
        write_whole(folder / "captions.png", encode_png(page))
        print(f"wrote {folder}/captions.md, captions.json and captions.png")


def world_title(world: str | dict[str, Any]) -> str:
    """A world as the report calls it."""
    return f"the world {world!r}" if isinstance(world, str) else f"a part of the world {world.get('of', 'whole')!r}"
