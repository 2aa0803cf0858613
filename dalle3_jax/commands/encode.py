"""Encode a dataset once, so that training reads latents instead of pictures.

  dalle3-jax encode --config configs/base_512.py:base --outdir CACHE --config.data.source=DATA
  dalle3-jax encode --config configs/base_512.py:base --outdir gs://bucket/cache --text      # text features too
  train.py --config configs/base_512.py:base --workdir W --config.data.source=DATA --config.data.cache=CACHE

The networks are those of config.init, or of --checkpoint; the data, its buckets and captions those of config.data. Each
picture is cropped in its middle to the bucket that suits it. Records that cannot be used are left out and counted by
reason. Run the same command again to go on where it stopped. On several hosts run it on all of them, with a folder that
all of them see. Settings of the config follow as train takes them: --config.data.threads=16.
"""

import argparse

from dalle3_jax.commands import MEMORY_REMEDIES
from dalle3_jax.commands.cli import CommandParser
from dalle3_jax.data.caches import LATENTS_BATCH
from dalle3_jax.runtime import cluster

__all__ = ["main"]


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    made = CommandParser("dalle3-jax encode", __doc__)
    made.add_argument("--config", required=True, metavar="FILE:STAGE")
    made.add_argument("--outdir", required=True, help="where the cache goes: a folder, or gs://bucket/folder")
    text = "networks instead of config.init's: whatever sample takes, with a vae and for --text a text_encoder"
    made.add_argument("--checkpoint", metavar="PATH", help=text)
    made.add_argument("--workdir", default=".", help="where the stages lie that config.init names (default: here)")
    text = "text features of every version of captions that data.captions draws from, for frozen text encoders"
    made.add_argument("--text", action="store_true", help=text)
    made.add_argument("--count", type=int, default=0, metavar="N", help="only the first N records (scenes need it)")
    text = "rows that are encoded together, on all devices of a host (default: %(default)s)"
    made.add_argument("--batch-size", type=int, default=LATENTS_BATCH, metavar="N", help=text)
    cluster.add_host_flags(made)
    return made


def main(argv: list[str]) -> int:
    """The command; errors are one line. Libraries are imported here, so that help comes at once."""
    arguments, rest = build_parser().parse_known_args(argv)

    import jax

    from dalle3_jax.runtime.distributed import initialize_distributed, run_job
    from dalle3_jax.stages.config import load_config
    from dalle3_jax.stages.dataset_cache import cache_summary, encode_dataset, encoding_config

    def job() -> int:
        processes = cluster.find_hosts(arguments)
        loaded = load_config([f"--config={arguments.config}", f"--workdir={arguments.workdir}", *rest])
        assert loaded is not None
        if arguments.batch_size < 1 or arguments.count < 0:
            raise ValueError(f"--batch-size {arguments.batch_size}, --count {arguments.count}: give numbers from 1")
        initialize_distributed(processes)
        config = encoding_config(loaded[0], arguments.text, arguments.checkpoint)
        cache = encode_dataset(
            config, loaded[1], arguments.outdir, arguments.text, arguments.count, arguments.batch_size
        )
        if jax.process_index() == 0:
            print(cache_summary(cache))
        return 0

    return run_job(job, MEMORY_REMEDIES["encode"])
