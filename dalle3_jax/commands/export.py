"""`dalle3-jax export`: a release from the newest checkpoint of a training run, finished or not."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

DESCRIPTION = "Write the averaged weights of a run's newest good checkpoint as a release."
EXAMPLES = """examples:
  dalle3-jax export runs/demo/base release
  dalle3-jax sample --checkpoint release --prompt "a panda on a beach\""""


def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2."""
    parser = argparse.ArgumentParser(
        "dalle3-jax export",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("workdir", help="the run's stage folder, for example runs/demo/base (runs/demo means its base)")
    parser.add_argument("folder", help="where the release goes; an older release there is replaced")
    parser.add_argument("--dtype", default="float16", metavar="NAME", help="float16 (default), bfloat16 or float32")
    arguments = parser.parse_args(argv)
    try:
        step = export(Path(arguments.workdir), Path(arguments.folder), arguments.dtype)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.folder}: the release of step {step}")
    return 0


def export(workdir: Path, folder: Path, dtype: str = "float16") -> int:
    """Writes the release and returns the step it is of; ValueError when there is no checkpoint that is good."""
    import jax
    from ml_collections import ConfigDict

    from dalle3_jax.checkpoints.releases import save_release
    from dalle3_jax.checkpoints.training import steps
    from dalle3_jax.commands.stages import STAGES
    from dalle3_jax.commands.systems import load_system
    from dalle3_jax.commands.train import prepare
    from dalle3_jax.training.sharding import make_mesh

    stage_folder = find_stage(workdir)
    if not steps(stage_folder / "checkpoints"):
        raise ValueError(f"{stage_folder} has no finished checkpoint yet; train further, then export")
    config = ConfigDict(json.loads((stage_folder / "config.json").read_text()))
    mesh = make_mesh({"data": -1})
    with jax.set_mesh(mesh):
        system = load_system(config, stage_folder.parent, mesh)
        stage = STAGES[config.train.stage](config, stage_folder.parent, system)
        run, state, step = prepare(config, stage_folder, mesh, system, stage)
        run.checkpointer.close()
        save_release(folder, stage.release(state.ema, step), dtype)
    return step


def find_stage(workdir: Path) -> Path:
    """The folder of the stage that a workdir means: itself, or its base stage."""
    for folder in (workdir, workdir / "base"):
        if (folder / "config.json").is_file():
            return folder
    raise ValueError(f"{workdir} is not a training workdir: neither it nor its base/ holds a config.json")
