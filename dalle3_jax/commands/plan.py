"""Say what a training step or sampling costs on TPUs that are not here: memory, FLOPs, collectives, time.

  dalle3-jax plan --config configs/base_512.py:base --topology v5e:16x16             # compiled for the chips: minutes
  dalle3-jax plan --config configs/base_512.py:base --topology v5p-128 --estimate    # not compiled: seconds
  dalle3-jax plan --config configs/base_512.py:base --topology v5e-256 --what sample --images 512
  dalle3-jax plan --config configs/paper_256.py:base --topology v5e-256 --bucket 256x256 --out docs/plans/paper_256_v5e

The program is compiled by libtpu, on any machine (pip install 'dalle3_jax[plan]'), and its own text is read: bodies of
loops count as often as they run. --quick compiles it for the CPU, on one device's share of a batch; --estimate compiles
nothing. Both say what they leave out. Times are rooflines: what the chips' peaks allow, not what they will do.
Settings of the config follow as train takes them: --config.train.batch_size=1024.
"""

import argparse
import sys
from pathlib import Path

from dalle3_jax.commands.cli import CommandParser, bad_input, print_command_errors
from dalle3_jax.files import write_whole
from dalle3_jax.pipeline.setting_values import parse_size
from dalle3_jax.planning.chips import parse_topology

__all__ = ["main"]

INPUTS = ("images", "latents", "features")
"""What batches hold: pictures and token ids, cached latents and token ids, cached latents and text features."""

SAMPLED = 2
"""Images that a chip samples at once: `sample` makes eight on a host of four chips."""


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    made = CommandParser("dalle3-jax plan", __doc__, allow_abbrev=True)
    made.add_argument("--config", required=True, metavar="FILE:STAGE")
    made.add_argument("--topology", required=True, metavar="CHIP:GRID", help="v5e:16x16, v5p:4x4x4, v5e-256, v5p-128")
    made.add_argument("--bucket", metavar="WIDTHxHEIGHT", help="size of the images (default: the largest bucket)")
    made.add_argument("--what", choices=("train", "sample"), default="train", help="a step of training (default)")
    made.add_argument("--inputs", choices=INPUTS, help="what batches of training hold (default: images)")
    made.add_argument("--images", type=int, metavar="N", help="images that sampling makes at once (default: 2 a chip)")
    how = made.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="compile for the CPU instead: a minute or two")
    how.add_argument("--estimate", action="store_true", help="compile nothing: seconds")
    made.add_argument("--json", metavar="FILE", help="write all figures here, - for the terminal instead of the table")
    made.add_argument("--out", metavar="PREFIX", help="write PREFIX.md and PREFIX.json")
    return made


@print_command_errors
def main(argv: list[str]) -> int:
    """The command; errors are one line. Libraries are imported here, so that help comes at once."""
    arguments, rest = build_parser().parse_known_args(argv)

    import jax

    from dalle3_jax.planning.plan_report import plan_markdown
    from dalle3_jax.planning.sampling import plan_sampling
    from dalle3_jax.planning.training_step import plan_training
    from dalle3_jax.stages.config import load_config
    from dalle3_jax.stages.config_files import find_config
    from dalle3_jax.stages.initial_networks import add_initial_sections

    jax.config.update("jax_platforms", "cpu")
    with bad_input():
        where = parse_topology(arguments.topology)
        loaded = load_config([f"--config={arguments.config}", "--workdir=plan", *rest])
        assert loaded is not None
        config = loaded[0]
        add_initial_sections(config, find_config(arguments.config.partition(":")[0]))
        buckets = config.data.buckets or (config.data.size,)
        largest = max(map(tuple, buckets), key=lambda size: size[0] * size[1])
        bucket = parse_size(arguments.bucket) if arguments.bucket else largest
        how = "quick" if arguments.quick else "estimate" if arguments.estimate else "full"
        if (arguments.inputs if arguments.what == "sample" else arguments.images) is not None:
            raise ValueError("--inputs is for --what train, --images for --what sample")
        asked, sampled = (config, arguments.config, where, bucket), SAMPLED * where.chips
        if arguments.what == "sample":
            plan = plan_sampling(*asked, sampled if arguments.images is None else arguments.images, how)
        else:
            plan = plan_training(*asked, arguments.inputs or "images", how)
    if arguments.json:
        sys.stdout.write(plan.to_json()) if arguments.json == "-" else _write_text(arguments.json, plan.to_json())
    if arguments.out:
        _write_text(f"{arguments.out}.json", plan.to_json())
        _write_text(f"{arguments.out}.md", plan_markdown(plan, where))
    if arguments.json != "-":
        print(plan_markdown(plan, where), end="")
    return 0


def _write_text(path: str, text: str) -> None:
    write_whole(Path(path), text.encode(), parents=True)
