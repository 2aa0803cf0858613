"""Train one stage of a config, or go on where it stopped.

    python train.py --config configs/demo.py:vae --workdir W [--config.train.steps=1000 ...]

Files go to W/STAGE/: checkpoints/, metrics.jsonl, tensorboard/, samples/, config.json, versions.json and, at the end,
release/. Run the same command again to go on. On several hosts run it on all of them: TPU pods, SLURM and Open MPI are
found; elsewhere add --coordinator HOST:PORT --processes N --process I (docs/pods.md).

Exit codes: 0 done; 2 bad input; 1 failed; 75 stopped by SIGTERM or SIGINT with everything saved. Of a run on several
hosts also 69: another process was lost (134 where jax itself ends this one for that); and 70: no step has finished for
train.hang_minutes.
"""

from dalle3_jax.commands import MEMORY_REMEDIES

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """The command: reads the config, meets the other hosts, and trains; errors are one line.

    What it takes is imported here: help comes at once.
    """
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return 0
    from dalle3_jax.runtime.cluster import split_host_flags
    from dalle3_jax.runtime.distributed import initialize_distributed, run_job
    from dalle3_jax.stages.config import check_stage_config, load_config
    from dalle3_jax.stages.table import STAGES
    from dalle3_jax.stages.train import train_stage

    def job() -> int:
        processes, rest = split_host_flags(argv)
        loaded = load_config(rest)
        if loaded is None:
            print(__doc__)
            return 0
        check_stage_config(loaded[0], STAGES)
        initialize_distributed(processes)
        return train_stage(*loaded)

    return run_job(job, MEMORY_REMEDIES["train"])
