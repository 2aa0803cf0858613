"""`dalle3-jax upscale`: image files to larger ones."""

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
    print_command_errors,
)
from dalle3_jax.pipeline.progress_bar import progress_bar
from dalle3_jax.pipeline.request import SETTINGS, Upscaling

if TYPE_CHECKING:
    from dalle3_jax.pipeline.upscale_jobs import UpscaleJob
    from dalle3_jax.pipeline.upscaler import Upscaler

EXAMPLES = """examples:
  dalle3-jax upscale photo.png --checkpoint stabilityai/stable-diffusion-x4-upscaler --prompt "a white cat"
  dalle3-jax upscale pictures/*.png --factor 2 --checkpoint runs/demo/upscaler --outdir large

File i of all has seed + i. Every PNG says how it was made. Started again after it was stopped, the same command makes
what is missing and nothing twice."""

UPSCALING = [setting for setting in SETTINGS.values() if setting.part == "upscaling" and setting.name != "upscale"]
"""The settings of an upscaler but its factor."""


def build_parser() -> CommandParser:
    """The command's arguments; what is left at None is the upscaler's own default."""
    parser = CommandParser("dalle3-jax upscale", "Enlarge images 2 or 4 times by a diffusion model.", EXAMPLES)
    parser.add_argument("files", nargs="+", metavar="FILE", help="JPEG, PNG or WebP, of up to 4096 x 4096 pixels")
    text = "a release with an upscaler, a stage's folder, or Stable Diffusion x4's folder or id (default demo)"
    parser.add_argument("--checkpoint", default="demo", metavar="PATH", help=text)
    parser.add_argument("--factor", type=int, metavar="N", help="2 or 4 (default: the upscaler's own)")
    text = "what the images show: once for all of them, or once for each (default: nothing is said)"
    parser.add_argument("--prompt", action="append", default=[], metavar="TEXT", help=text)
    add_setting_flags(parser, [SETTINGS["negative_prompt"], SETTINGS["seed"]])
    add_setting_flags(parser, UPSCALING, prefix="upscale-")
    parser.set_defaults(negative_prompt="", seed=0)
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images of one size made at once")
    parser.add_argument("--dtype", metavar="NAME", help="of parameters and computation: fp32 (default), bf16 or fp16")
    parser.add_argument("--variant", metavar="NAME", help="take the checkpoint's files of this variant")
    parser.add_argument("--outdir", default="upscaled", metavar="DIR", help="folder for images (default upscaled)")
    parser.add_argument("--overwrite", action="store_true", help="make images again that are there already")
    return parser


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before anything is computed."""
    arguments = build_parser().parse_args(argv)
    with bad_input():
        upscaler, jobs = prepare_upscaling(arguments)
    with failures(OSError, FloatingPointError, remark="what is done is kept, the same command goes on from there"):
        return upscale_files(upscaler, jobs, arguments)


def prepare_upscaling(arguments: argparse.Namespace) -> "tuple[Upscaler, list[UpscaleJob]]":
    """The upscaler and its jobs, all of them checked; imported here: help and typing errors come at once."""
    from dalle3_jax.checkpoints.weights import parse_dtype
    from dalle3_jax.pipeline.album import Album
    from dalle3_jax.pipeline.setting_notices import describe_low_scale
    from dalle3_jax.pipeline.upscale_jobs import plan_upscale_jobs
    from dalle3_jax.pipeline.upscaler import Upscaler
    from dalle3_jax.runtime.distributed import enable_compilation_cache

    if errors := number_errors(arguments, {"batch_size": 1}):
        raise ValueError("; ".join(errors))
    dtype = parse_dtype(arguments.dtype or "float32")
    texts = {"prompts": arguments.prompt, "seed": arguments.seed, "negative_prompt": arguments.negative_prompt}
    how = upscaling_of(arguments, arguments.factor or 0)
    jobs = plan_upscale_jobs(arguments.files, how, **texts)  # before weights are read
    enable_compilation_cache()
    upscaler = Upscaler.load(arguments.checkpoint, dtype=dtype, variant=arguments.variant)
    how = upscaling_of(arguments, arguments.factor or upscaler.settings.factor)
    if errors := upscaler.errors(how):
        raise ValueError("; ".join(errors))
    scale = upscaler.guidance_scale(how)
    if scale < 1:
        print(f"note: --guidance-scale {describe_low_scale(scale)}; 1 is no guidance", file=sys.stderr)
    if arguments.negative_prompt.strip() and scale == 1:
        print("note: --negative-prompt has no effect: a guidance scale of 1 is no guidance", file=sys.stderr)
    Album(arguments.outdir, writes_manifest=False)  # raises where nothing can be written
    return upscaler, [replace(job, how=how) for job in jobs]


def upscaling_of(arguments: argparse.Namespace, factor: int) -> Upscaling:
    """The arguments' settings of the upscaler; ValueError for one that cannot be read."""
    given = given_settings(arguments)
    names = [setting.name for setting in UPSCALING if setting.name in given]
    return Upscaling(factor, **{name.removeprefix("upscale_"): given[name] for name in names})


def upscale_files(upscaler: "Upscaler", jobs: "list[UpscaleJob]", arguments: argparse.Namespace) -> int:
    """Makes what the folder lacks, saving each image as its batch is done."""
    from dalle3_jax.pipeline.upscale_jobs import finished_job, run_upscale_jobs

    folder, digest = Path(arguments.outdir), upscaler.release.digest
    missing = [job for job in jobs if arguments.overwrite or not finished_job(job, folder, digest)]
    if len(missing) < len(jobs):
        print(f"note: {len(jobs) - len(missing)} of {len(jobs)} images are there already", file=sys.stderr)
    with progress_bar() as (bar, progress):
        step = progress and (lambda done, total: progress(done, total, None))
        for path in run_upscale_jobs(upscaler, missing, folder, arguments.batch_size, step):
            bar.write(str(path), file=sys.stdout)
    return 0
