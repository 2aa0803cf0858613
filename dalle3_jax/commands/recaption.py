"""Write new captions for a dataset, beside it: a captioner looks at every picture.

  dalle3-jax recaption --source DATA --captioner runs/demo/captioner_short --version captioner_short --outdir CAPTIONS
  dalle3-jax recaption --source scenes:whole --count 10000 --captioner RELEASE --version captioner_short --outdir OUT
  dalle3-jax recaption --config configs/base_512.py:base --captioner RELEASE --version mine --outdir gs://bucket/captions
  train.py --config ... --config.data.sidecars="('OUT',)" --config.data.captions="{'mine': 0.95, 'alt': 0.05}"

Words in quotes stay where an OCR reads them in the picture or the alternative text has them; --species FILE keeps names
of species to alternative texts. Every change is flagged and counted in OUTDIR/captions.json, with what made the
captions. The data is only read. Run the same command again to go on where it stopped; on several hosts run it on all
of them, with a folder that all of them see. With --config, settings follow as train takes them.
"""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dalle3_jax.captioning import CaptionDecoding
from dalle3_jax.captioning.decoding import METHODS
from dalle3_jax.commands import MEMORY_REMEDIES
from dalle3_jax.commands.cli import CommandParser, flag_name
from dalle3_jax.data.scenes import SPLITS
from dalle3_jax.runtime import cluster

if TYPE_CHECKING:
    from dalle3_jax.captioning.recaption import Guards

__all__ = ["main"]

DATA_FLAGS = ("split", "size", "seed", "max_bad")
"""Flags that say of --source what a config says in its data section."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    made = CommandParser("dalle3-jax recaption", __doc__)
    data = made.add_mutually_exclusive_group(required=True)
    data.add_argument("--source", metavar="DIR", help="a folder or bucket of data, or scenes[:WORLD]")
    data.add_argument("--config", metavar="FILE:STAGE", help="the data of a config instead")
    made.add_argument("--captioner", required=True, metavar="PATH", help="a release, or a stage's folder in a workdir")
    made.add_argument("--version", required=True, metavar="NAME", help="what the captions are called in a record")
    made.add_argument("--outdir", required=True, help="where the captions go: a folder, or gs://bucket/folder")
    made.add_argument("--count", type=int, default=0, metavar="N", help="only the first N records (scenes need it)")
    made.add_argument("--batch-size", type=int, default=64, metavar="N", help="pictures at a time (default: 64)")
    add_data_flags(made)
    add_decoding_flags(made)
    group = made.add_argument_group("guards")
    text = "quoted words that stay: those that the OCR or alternative texts have, that alternative texts have, or all"
    group.add_argument("--words", choices=("ocr", "alt", "keep"), default="ocr", help=f"{text} (default: ocr)")
    text = "lines as 'orchid: flower': names that only alternative texts may bring in, and what stands for them"
    group.add_argument("--species", type=Path, metavar="FILE", help=text)
    cluster.add_host_flags(made)
    return made


def add_data_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of what --source leaves open."""
    group = parser.add_argument_group("with --source")
    group.add_argument("--split", help=f"of the data (default: train); scenes have {', '.join(SPLITS)}")
    group.add_argument("--size", metavar="WIDTHxHEIGHT", help="at which scenes are drawn (default: the captioner's)")
    group.add_argument("--seed", type=int, help="of scenes (default: 0)")
    group.add_argument("--max-bad", type=float, metavar="SHARE", help="of bad records that is let pass (default: 0.01)")


def add_decoding_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of how captions are written; the defaults are those of `CaptionDecoding`."""
    group, usual = parser.add_argument_group("how captions are written"), CaptionDecoding()
    group.add_argument("--method", choices=METHODS, default=usual.method, help="(default: %(default)s)")
    group.add_argument("--temperature", type=float, default=usual.temperature, help="of top_p (default: %(default)s)")
    group.add_argument("--top-p", type=float, default=usual.top_p, help="of top_p (default: %(default)s)")
    group.add_argument("--beams", type=int, default=usual.beams, help="of beam (default: %(default)s)")
    group.add_argument("--length-penalty", type=float, default=usual.length_penalty, help="of beam (default: 0)")
    group.add_argument("--length", type=int, default=usual.length, metavar="N", help="tokens at most (default: all)")


def main(argv: list[str]) -> int:
    """The command; errors are one line. Libraries are imported here, so that help comes at once."""
    arguments, rest = build_parser().parse_known_args(argv)

    import jax

    from dalle3_jax.captioning import CaptionModel
    from dalle3_jax.captioning.recaption import recaption_dataset
    from dalle3_jax.runtime.distributed import initialize_distributed, run_job

    def job() -> int:
        processes = cluster.find_hosts(arguments)
        decoding, guards = parse_caption_flags(arguments, rest)
        initialize_distributed(processes)
        captioner = CaptionModel.load(arguments.captioner)
        data = data_section_from_flags(arguments, rest, captioner.module.image_size)
        writing = captioner, arguments.version, decoding, guards
        done = recaption_dataset(arguments.outdir, data, *writing, arguments.count, arguments.batch_size)
        if jax.process_index() == 0:
            print(done.summary(arguments.outdir))
        return 0

    return run_job(job, MEMORY_REMEDIES["recaption"])


def parse_caption_flags(arguments: argparse.Namespace, rest: Sequence[str]) -> "tuple[CaptionDecoding, Guards]":
    """The decoding and the guards that the flags name; ValueError with all that is wrong with them."""
    from dalle3_jax.data.caches import sidecars

    wrong, made = [], []
    makers = (decoding_from_flags, guards_from_flags, functools.partial(data_section_from_flags, rest=rest))
    if not sidecars.VERSION.fullmatch(arguments.version):
        wrong.append(f"--version {arguments.version!r}: use small letters, digits and _")
    if arguments.batch_size < 1 or arguments.count < 0:
        wrong.append(f"--batch-size {arguments.batch_size}, --count {arguments.count}: give numbers from 1")
    if arguments.source and rest:
        wrong.append(f"unknown arguments {' '.join(rest)}: --config.KEY=VALUE goes with --config")
    if arguments.config and (given := [name for name in DATA_FLAGS if getattr(arguments, name) is not None]):
        flags = ", ".join(map(flag_name, given))
        wrong.append(f"{flags}: with --config write --config.data.{given[0]}=VALUE")
    for make in makers:
        try:
            made.append(make(arguments))
        except (OSError, ValueError) as error:
            wrong.append(str(error))
    if wrong:
        raise ValueError("; ".join(wrong))
    return made[0], made[1]


def decoding_from_flags(arguments: argparse.Namespace) -> CaptionDecoding:
    """The decoding of captions that the flags name."""
    names = ("method", "temperature", "top_p", "beams", "length_penalty", "length")
    return CaptionDecoding(**{name: getattr(arguments, name) for name in names})


def guards_from_flags(arguments: argparse.Namespace) -> "Guards":
    """The guards of captions that the flags name."""
    from dalle3_jax.captioning.recaption import Guards
    from dalle3_jax.captioning.species import read_names

    names = {}
    if arguments.species:
        try:
            names = read_names(arguments.species.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise ValueError(f"--species {arguments.species}: {error}") from None
    guards = Guards(arguments.words, names)
    assert guards.metadata  # which asks for the OCR
    return guards


def data_section_from_flags(
    arguments: argparse.Namespace, rest: Sequence[str], scene_size: Sequence[int] = (128, 128)
) -> dict[str, Any]:
    """The data section that the flags or the config name, with its defaults; scenes are `scene_size` at that size."""
    from dalle3_jax.data import settings
    from dalle3_jax.data.scenes.worlds import parse_scene_size, parse_world
    from dalle3_jax.stages import inputs
    from dalle3_jax.stages.config import load_config

    if arguments.config:
        loaded = load_config([f"--config={arguments.config}", "--workdir=.", *rest])
        assert loaded is not None
        return settings.resolve_settings(inputs.data_section(loaded[0]))
    kind, _, world = arguments.source.partition(":")
    data: dict[str, Any] = {"source": arguments.source, "size": tuple(scene_size), "threads": 4}
    if kind == "scenes":
        data |= {"source": "scenes", "world": parse_world(world or "first")}
    if arguments.size:
        data["size"] = parse_scene_size(arguments.size)[::-1]
    given = {name: getattr(arguments, name) for name in ("split", "seed", "max_bad")}
    return settings.resolve_settings(data | {name: value for name, value in given.items() if value is not None})
