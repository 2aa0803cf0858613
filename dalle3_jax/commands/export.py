"""`dalle3-jax export`: a release from the newest checkpoint of a training run, or folders that diffusers loads."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dalle3_jax.commands.cli import CommandParser, bad_input, print_command_errors

if TYPE_CHECKING:
    from dalle3_jax.checkpoints.releases import Release

DESCRIPTION = "Write the averaged weights of a run's newest good checkpoint as a release, or put decoders into one."
EXAMPLES = """examples:
  dalle3-jax export runs/demo/base release
  dalle3-jax export release complete --add runs/demo/distill --add runs/demo/distill_refiner --decoder consistency
  dalle3-jax export release folder --format diffusers      what transformers and diffusers can express of it
  dalle3-jax sample --checkpoint release --prompt "a panda on a beach\""""


@print_command_errors
def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2."""
    parser = CommandParser(
        "dalle3-jax export",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    text = "the run's stage folder, for example runs/demo/base (runs/demo means its base), or a release as it is"
    parser.add_argument("workdir", help=text)
    parser.add_argument("folder", help="where the release goes; an older release there is replaced")
    text = "float16, bfloat16, float32, or int8 for matrices in 8 bits (default: a release's own, float16 for a run)"
    parser.add_argument("--dtype", metavar="NAME", help=text)
    text = "a release (default), or folders for transformers and diffusers"
    parser.add_argument("--format", choices=("release", "diffusers"), default="release", help=text)
    text = "a release or a finished stage whose decoder or upscaler joins in; may be given several times"
    parser.add_argument("--add", action="append", default=[], metavar="PATH", help=text)
    parser.add_argument(
        "--decoder", metavar="NAME", help="the decoder that pictures get by default: vae, consistency, ..."
    )
    arguments = parser.parse_args(argv)
    with bad_input():
        given = Path(arguments.workdir), Path(arguments.folder), arguments.dtype, arguments.add, arguments.decoder
        for line in export_release(*given, format=arguments.format):
            print(line)
    return 0


def export_release(
    workdir: Path,
    folder: Path,
    dtype: str | None = None,
    add: Sequence[str] = (),
    decoder: str | None = None,
    format: str = "release",
) -> list[str]:
    """Writes the release and returns what to say of it; ValueError when there is no checkpoint that is good."""
    from dalle3_jax.checkpoints.release_record import is_release
    from dalle3_jax.checkpoints.releases import load_release, save_release
    from dalle3_jax.checkpoints.weights import check_release_type, parse_dtype
    from dalle3_jax.loading.export_diffusers import export_diffusers
    from dalle3_jax.loading.open import float_type, stored_dtype

    if is_release(workdir):
        dtype = dtype or (stored_dtype(workdir) if format == "release" else float_type(workdir))
        release = load_release(workdir)
        step = int(release.training.get("steps", 0))
    else:
        release, step = checkpoint_release(workdir)
    check = check_release_type if format == "release" else parse_dtype
    release, stored = with_decoders(release, add, decoder), check(dtype or "float16").name
    if format == "release":
        save_release(folder, release, stored)
        return [f"{folder}: the release of step {step}"]
    written, left = export_diffusers(release, folder, stored)
    return [f"{folder}: {', '.join(written)}", *(f"not written, {reason}" for reason in left)]


def with_decoders(release: "Release", add: Sequence[str], decoder: str | None) -> "Release":
    """The release with decoders and upscalers of others; ValueError for misfits, or where the default is unknown."""
    from dalle3_jax.loading.open import open_release
    from dalle3_jax.pipeline import Pipeline

    for path in add:
        part = open_release(path)
        if part.upscaler:
            release = with_upscaler(release, part, path)
            continue
        if not part.decoders:
            stages = "distill, distill_refiner and distill_upscaler"
            raise ValueError(f"{path} holds no decoder and no upscaler: give the stages {stages}, or their releases")
        names = part.decoders.keys()
        trained = release.training.get("decoders", {}) | dict.fromkeys(names, part.training)
        release = replace(
            release,
            modules=release.modules | {name: part.modules[name] for name in names},
            params=release.params | {name: part.params[name] for name in names},
            decoders=release.decoders | part.decoders,
            training=release.training | {"decoders": trained},
        )
    if decoder is not None:
        release = replace(release, sampling=release.sampling | {"decoder": decoder})
    if add or decoder is not None:
        Pipeline(release).request("")  # raises for a default that it cannot have
    return release


def with_upscaler(release: "Release", part: "Release", path: str) -> "Release":
    """The release with the upscaler of another; ValueError where that read captions by other networks than these."""
    from dalle3_jax.checkpoints.releases import weights_digest
    from dalle3_jax.models.glyph import text_components

    own, others = release.params, {name: part.params[name] for name in text_components(part.modules)}
    differ = [name for name in others if name not in own or weights_digest(own[name]) != weights_digest(others[name])]
    latent = part.upscaler.latent if part.upscaler else None
    if latent and (release.latent is None or latent.mismatches(release.latent)):
        differ.append("vae")
    if differ:
        raise ValueError(f"the upscaler of {path} was trained with another {', '.join(differ)} than this release has")
    return replace(
        release,
        modules=release.modules | {"upscaler": part.modules["upscaler"]},
        params=own | {"upscaler": part.params["upscaler"]},
        upscaler=part.upscaler,
        training=release.training | {"upscaler": part.training},
    )


def checkpoint_release(workdir: Path) -> tuple["Release", int]:
    """The release of a run's newest good checkpoint, and its step."""
    import jax

    from dalle3_jax.checkpoints.training import finished_steps
    from dalle3_jax.loading.locate import find_stage
    from dalle3_jax.stages.context import Context
    from dalle3_jax.stages.networks import load_stage_networks
    from dalle3_jax.stages.objective import read_run_config
    from dalle3_jax.stages.table import STAGES, build_stage
    from dalle3_jax.stages.train import prepare_run
    from dalle3_jax.training.sharding import make_mesh

    stage_folder = find_stage(workdir)
    if not finished_steps(stage_folder / "checkpoints"):
        raise ValueError(f"{stage_folder} has no finished checkpoint yet; train further, then export")
    config = read_run_config(stage_folder / "config.json", STAGES)
    mesh = make_mesh({"data": -1})
    with jax.set_mesh(mesh):
        context = Context(config, stage_folder.parent, load_stage_networks(config, stage_folder.parent, mesh))
        stage = build_stage(context)
        run, state, step = prepare_run(context, stage_folder, mesh, stage)
        run.checkpointer.close()
        return stage.release(state.ema, step), step
