"""Train one stage of a config, or go on where it stopped.

    python train.py --config configs/demo.py:vae --workdir W [--config.train.steps=1000 ...]

Files go to W/STAGE/: checkpoints/, metrics.jsonl, tensorboard/, samples/, config.json, versions.json and, at the end,
release/. Run the same command again to go on. On several hosts run it on all of them: TPU pods, SLURM and Open MPI are
found; elsewhere add --coordinator HOST:PORT --processes N --process I (docs/pods.md).

Exit codes: 0 done; 2 bad input; 1 failed; 75 stopped by SIGTERM or SIGINT with everything saved. Of a run on several
hosts also 69: another process was lost (134 where jax itself ends this one for that); and 70: no step has finished for
train.hang_minutes.
"""

from dalle3_jax.runtime.cluster import split_flags
from dalle3_jax.runtime.distributed import concluded, distributed
from dalle3_jax.stages.config import check, load
from dalle3_jax.stages.table import STAGES
from dalle3_jax.stages.train import train

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """The command: reads the config, meets the other hosts, and trains; errors are one line."""

    def job() -> int:
        processes, rest = split_flags(argv)
        loaded = load(rest)
        if loaded is None:
            print(__doc__)
            return 0
        check(loaded[0], STAGES)
        distributed(processes)
        return train(*loaded)

    return concluded(job)
