"""The cache of a config's dataset: its latents, and for frozen text encoders its text features, encoded once."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from dalle3_jax.data import batches, files
from dalle3_jax.data.bad_records import describe_bad
from dalle3_jax.data.caches import LATENTS_BATCH, latent_cache
from dalle3_jax.data.sources.scenes import ENDLESS
from dalle3_jax.runtime import processes
from dalle3_jax.runtime.distributed import enable_compilation_cache
from dalle3_jax.stages import inputs, latents
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.training import sharding

__all__ = ["cache_summary", "encode_dataset", "encoding_config"]


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
    config: ConfigDict,
    workdir: Path,
    folder: str,
    text: bool = False,
    count: int = 0,
    batch_size: int = LATENTS_BATCH,
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
            processes.check_agreement(Path(files.local_path(folder)), made)
        encoder = latents.cache_encoder(context, mesh, batch_size, made.get("versions", ()), text=text)
        latents.fill_cache(config, folder, made, source, encoder, count or len(source))
    return latent_cache.open_cache(folder, made)


def cache_summary(cache: latent_cache.LatentCache) -> str:
    """A line on a cache: its records, their size, and those that are left out."""
    left = describe_bad(cache.manifest["bad"], cache.bad_keys())
    size = sum(size for shard in cache.manifest["shards"] for size in shard["files"].values())
    share = f"{size / max(len(cache) - len(cache.bad_records), 1):,.0f} bytes a record"
    return f"{cache.folder}: {len(cache)} records, {share}; left out: {left or 'none'}"
