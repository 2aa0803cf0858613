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
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dalle3_jax.commands import MEMORY_REMEDIES
from dalle3_jax.commands.cli import CommandParser
from dalle3_jax.data import batches, files
from dalle3_jax.data.bad_records import describe_bad
from dalle3_jax.data.caches import latent_cache
from dalle3_jax.data.sources.scenes import ENDLESS
from dalle3_jax.runtime import cluster
from dalle3_jax.runtime import processes as others
from dalle3_jax.runtime.distributed import enable_compilation_cache, initialize_distributed, run_job
from dalle3_jax.stages import inputs, latents
from dalle3_jax.stages.config import load_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.training import sharding

__all__ = ["encode_dataset", "main"]


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
    text = "rows that are encoded together, on all devices of a host (default: 32)"
    made.add_argument("--batch-size", type=int, default=latents.LATENTS_BATCH, metavar="N", help=text)
    cluster.add_host_flags(made)
    return made


def main(argv: list[str]) -> int:
    """The command; errors are one line."""
    arguments, rest = build_parser().parse_known_args(argv)

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


def encoding_config(config: ConfigDict, text: bool, checkpoint: str | None = None) -> ConfigDict:
    """The config with the networks alone that encode, none of which learns; from the checkpoint where one is given."""
    config = config.copy_and_resolve_references()
    config.unlock()
    names = ["vae", *(["text_encoder"] if text else [])]
    for section in (config.model, config.init):
        for name in [name for name in section if name not in names or checkpoint]:
            del section[name]
    if checkpoint:
        config.init.update(dict.fromkeys(names, checkpoint))
    if missing := [name for name in names if name not in config.init]:
        raise ValueError(f"config.init has no {' and no '.join(missing)}: give --checkpoint")
    config.train.trainable, config.data.glyph_length = (), 0
    return config


def encode_dataset(
    config: ConfigDict, workdir: Path, folder: str, text: bool = False, count: int = 0, batch_size: int = 32
) -> latent_cache.LatentCache:
    """Writes the cache of the config's data, or what is missing of it; `count` records, 0: all of them."""
    enable_compilation_cache()
    source = batches.open_source(inputs.data_section(config))
    if not count and len(source) == ENDLESS:
        raise ValueError("scenes have no end: say by --count how many records are to be encoded")
    mesh = sharding.make_mesh({"fsdp": -1}, jax.local_devices())
    with jax.set_mesh(mesh):
        context = Context(config, workdir, load_stage_networks(config, workdir, mesh))
        made = latents.config_cache_metadata(context, source, text=text)
        if not files.is_remote(folder):
            others.check_agreement(Path(files.local_path(folder)), made)
        encoder = latents.cache_encoder(context, mesh, batch_size, made.get("versions", ()), text=text)
        latents.fill_cache(config, folder, made, source, encoder, count or len(source))
    return latent_cache.open_cache(folder, made)


def cache_summary(cache: latent_cache.LatentCache) -> str:
    """The line that the command prints at its end."""
    left = describe_bad(cache.manifest["bad"], cache.bad_keys())
    size = sum(size for shard in cache.manifest["shards"] for size in shard["files"].values())
    share = f"{size / max(len(cache) - len(cache.bad_records), 1):,.0f} bytes a record"
    return f"{cache.folder}: {len(cache)} records, {share}; left out: {left or 'none'}"
