"""The release of a training run, made of its newest good checkpoint."""

from pathlib import Path

import jax

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.checkpoints.training import finished_steps
from dalle3_jax.loading.locate import find_stage
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.objective import read_run_config
from dalle3_jax.stages.table import STAGES, build_stage
from dalle3_jax.stages.train import prepare_run
from dalle3_jax.training.sharding import make_mesh

__all__ = ["checkpoint_release"]


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
