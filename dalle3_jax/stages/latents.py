"""The inputs of stages in latents: the latents of images, encoded as they come or ahead into a cache."""

import functools
import sys
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dalle3_jax.data import settings
from dalle3_jax.data.batches import Batches, Targets, open_source
from dalle3_jax.data.caches import LATENTS_BATCH, latent_cache, latent_writer
from dalle3_jax.data.caches.sidecars import CaptionedSource, add_sidecars
from dalle3_jax.data.caption_versions import usable_captions
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.pipeline import programs
from dalle3_jax.runtime import processes as hosts
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import apply_network
from dalle3_jax.training import sharding
from dalle3_jax.typing import Array

__all__ = [
    "cache_encoder",
    "config_cache_metadata",
    "ensure_latents_cache",
    "fill_cache",
    "latent_batches",
    "open_config_cache",
    "text_lengths",
    "vae_encoder",
]

EncodeImages = Callable[[np.ndarray], Array]


def text_lengths(config: ConfigDict) -> dict[str, int]:
    """The lengths of the text that a release reads: tokens, and bytes of quoted text where it reads those."""
    glyphs = config.data.glyph_length
    return {"length": config.data.text_length} | ({"glyph_length": glyphs} if glyphs else {})


def latent_batches(context: Context, targets: Targets | None = None, *, captions: bool = True) -> Batches:
    """The training batches of a stage that works in latents, from their cache where the config asks for one.

    `targets` and `captions` are those of `inputs.batches`.
    """
    cache = None
    if context.config.data.cache:
        cache = open_config_cache(context)
    elif context.config.data.latents:
        cache = ensure_latents_cache(context)
    return inputs.batches(context, targets, captions=captions, cache=cache)


def vae_encoder(networks: StageNetworks) -> EncodeImages:
    """The means of images under the VAE; of several processes the first alone may call it, all must ask for it."""
    params, vae = networks.loaded["vae"], networks.modules["vae"]
    if jax.process_count() == 1:
        return functools.partial(programs.encode_images, params, vae=vae)
    params = hosts.gather_params(params)

    def encode(images: np.ndarray) -> Array:
        with jax.set_mesh(sharding.make_mesh({}, jax.local_devices()[:1])):
            return programs.encode_images(params, images, vae=vae)

    return encode


def config_cache_metadata(context: Context, source: Source, *, text: bool = False) -> dict[str, Any]:
    """The metadata of a cache of this config's data under these networks; with `text`, of text features too."""
    config, networks = context.config, context.networks
    made: dict[str, Any] = {}
    if text:
        digest = networks.releases["text_encoder"].digest + context.tokenizer.to_json()
        read = add_sidecars(source, config.data.sidecars)
        made["text"] = sha256(digest.encode()).hexdigest()
        made |= {"text_length": config.data.text_length, "versions": caption_versions(config, read)}
        if config.data.sidecars:
            made["captions"] = read.fingerprint
    vae, ground = networks.latent().vae or networks.releases["vae"].digest, tuple(config.data.background)
    sizes = image_sizes(config)
    return latent_cache.cache_metadata(source=source.fingerprint, vae=vae, sizes=sizes, background=ground, **made)


def image_sizes(config: ConfigDict) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) of pictures that the config asks for."""
    return settings.bucket_sizes(inputs.data_section(config))


def caption_versions(config: ConfigDict, source: Source | CaptionedSource) -> tuple[str, ...]:
    """The versions of captions that are drawn of the source's records."""
    weights = usable_captions(source, dict(config.data.captions))
    return tuple(sorted(version for version, weight in weights.items() if weight > 0))


def cache_encoder(
    context: Context, mesh: jax.sharding.Mesh, batch_size: int, versions: Sequence[str] = (), *, text: bool = False
) -> latent_writer.CacheEncoder:
    """The networks on a mesh of this process's devices, under it; with `text`, the text encoder too.

    `versions` are the captions that it reads, as the cache's metadata has them.
    """
    config, networks = context.config, context.networks
    place, ground = sharding.batch_sharding(mesh), tuple(config.data.background)
    rows = -(-batch_size // mesh.size) * mesh.size

    def images(pixels: np.ndarray) -> np.ndarray:
        pictures = jax.device_put(pixels, place)
        return jax.device_get(programs.encode_images(networks.loaded["vae"], pictures, vae=networks.modules["vae"]))

    if not text:
        return latent_writer.CacheEncoder(images, rows, threads=config.data.threads, background=ground)
    if isinstance(networks.modules["text_encoder"], CLIPTextEncoder):
        raise ValueError("--text keeps features of T5 encoders; CLIP's conditions are made as they are needed")
    tokenizer, encode = context.tokenizer, jax.jit(functools.partial(apply_network, networks.modules["text_encoder"]))

    def texts(captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = tokenizer(captions, config.data.text_length)
        features = encode(networks.loaded["text_encoder"], *jax.device_put((ids, mask), place))
        return jax.device_get(features), mask

    return latent_writer.CacheEncoder(images, rows, texts, tuple(versions), config.data.threads, ground)


def fill_cache(
    config: ConfigDict,
    folder: str,
    metadata: dict[str, Any],
    source: Source,
    encoder: latent_writer.CacheEncoder,
    count: int,
    *,
    alone: bool = False,
) -> None:
    """Writes what is missing of a cache, by all processes together or by the first one `alone`; all of them call it."""
    sizes = image_sizes(config)
    if isinstance(source, ScenesSource) and len(sizes) > 1:
        raise ValueError("scenes are drawn at any size, and a cache holds each in one: leave data.buckets empty")
    if not 0 < count <= len(source):
        raise ValueError(f"{count} records are to be encoded and the source has {len(source)}")
    read = add_sidecars(source, config.data.sidecars if encoder.encode_texts else ())
    if isinstance(read, CaptionedSource):
        read.check_count(count)
    process, processes = jax.process_index(), 1 if alone else jax.process_count()
    if process == 0:
        latent_writer.start_cache(folder, metadata, encoder)
    hosts.barrier("the cache is begun")
    if process < processes:
        mine = count_process_records(count, process, processes)
        with tqdm(total=mine, desc="encoding", unit="image", dynamic_ncols=True, disable=process > 0) as bar:
            write = functools.partial(
                latent_writer.write_cache_shards, max_bad=config.data.max_bad, progress=bar.update
            )
            write(folder, read, sizes, encoder, count, process=process, processes=processes)
    hosts.barrier("all shards are written")
    if process == 0:
        latent_writer.finish_cache(folder, metadata, count)
    hosts.barrier("the cache is whole")


def count_process_records(count: int, process: int, processes: int) -> int:
    """The number of a process's records."""
    firsts = range(process * latent_cache.SHARD, count, processes * latent_cache.SHARD)
    return sum(min(latent_cache.SHARD, count - first) for first in firsts)


def ensure_latents_cache(context: Context) -> latent_cache.LatentCache:
    """The latents of the first config.data.latents records, or of all; the first process encodes what is missing."""
    config, encode = context.config, vae_encoder(context.networks)
    source = open_source(inputs.data_section(config))
    count = count_latents(config, source)
    made = config_cache_metadata(context, source)
    folder = str(context.workdir / "latents" / latent_cache.metadata_digest(made))
    encoder = latent_writer.CacheEncoder(
        lambda rows: jax.device_get(encode(rows)),
        LATENTS_BATCH,
        threads=config.data.threads,
        background=tuple(config.data.background),
    )
    fill_cache(config, folder, made, source, encoder, count, alone=True)
    return latent_cache.open_cache(folder, made, count)


def count_latents(config: ConfigDict, source: Source) -> int:
    """The number of records whose latents are cached: config.data.latents, or all where there are fewer."""
    count = min(config.data.latents, len(source))
    if count < config.data.latents and jax.process_index() == 0:
        message = f"data.latents is {config.data.latents:,}, and there are {count:,} records"
        print(f"note: {message}: the latents of all of them are kept", file=sys.stderr)
    return count


def open_config_cache(context: Context) -> latent_cache.LatentCache:
    """The cache that config.data.cache names; its text features where the text encoder does not learn."""
    folder, source = context.config.data.cache, open_source(inputs.data_section(context.config))
    text = "text" in latent_cache.read_cache_metadata(folder) and "text_encoder" not in context.networks.trainable
    return latent_cache.open_cache(folder, config_cache_metadata(context, source, text=text))
