"""The release of a training run, made of its newest good checkpoint, and joined, stored or exported as asked."""

from collections.abc import Sequence
from pathlib import Path

import jax

from dalle3_jax.checkpoints.release_record import is_release
from dalle3_jax.checkpoints.releases import Release, load_release, save_release
from dalle3_jax.checkpoints.training import finished_steps
from dalle3_jax.checkpoints.weights import check_release_type, parse_dtype
from dalle3_jax.loading.export_diffusers import export_diffusers
from dalle3_jax.loading.locate import find_stage
from dalle3_jax.loading.open import float_type, stored_dtype
from dalle3_jax.pipeline.joined_release import join_decoders
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.objective import read_run_config
from dalle3_jax.stages.table import STAGES, build_stage
from dalle3_jax.stages.train import prepare_run
from dalle3_jax.training.sharding import make_mesh

__all__ = ["checkpoint_release", "export_release"]


def checkpoint_release(workdir: Path) -> tuple[Release, int]:
    """The release of a run's newest good checkpoint, and its step."""
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


def export_release(
    workdir: Path,
    folder: Path,
    dtype: str | None = None,
    add: Sequence[str] = (),
    decoder: str | None = None,
    format: str = "release",
) -> list[str]:
    """Writes the release and returns what to say of it; ValueError when there is no checkpoint that is good."""
    if is_release(workdir):
        dtype = dtype or (stored_dtype(workdir) if format == "release" else float_type(workdir))
        release = load_release(workdir)
        step = int(release.training.get("steps", 0))
    else:
        release, step = checkpoint_release(workdir)
    check = check_release_type if format == "release" else parse_dtype
    release, stored = join_decoders(release, add, decoder), check(dtype or "float16").name
    if format == "release":
        save_release(folder, release, stored)
        return [f"{folder}: the release of step {step}"]
    written, left = export_diffusers(release, folder, stored)
    return [f"{folder}: {', '.join(written)}", *(f"not written, {reason}" for reason in left)]
