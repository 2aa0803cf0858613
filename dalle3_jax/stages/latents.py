"""What stages in latents need: networks as functions, a tokenizer that fits, latents from images or a cache."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict
from tqdm import tqdm

from dalle3_jax.data import batches, settings
from dalle3_jax.data.caches import latent_cache, latent_writer
from dalle3_jax.data.caches.sidecars import CaptionedSource, add_sidecars
from dalle3_jax.data.caption_versions import usable_captions
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.glyph import check_glyphs
from dalle3_jax.pipeline import programs
from dalle3_jax.runtime import processes as hosts
from dalle3_jax.stages import inputs
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import apply_network
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.training import sharding
from dalle3_jax.typing import Array

__all__ = [
    "cache_encoder",
    "checked_tokenizer",
    "config_cache_metadata",
    "ensure_latents_cache",
    "fill_cache",
    "latent_batches",
    "network_functions",
    "open_config_cache",
    "text_lengths",
    "vae_encoder",
]

LATENTS_BATCH = 32

EncodeImages = Callable[[np.ndarray], Array]


def network_functions(modules: Mapping[str, nn.Module], *names: str) -> dict[str, Callable[..., Any]]:
    """The networks called `names`, and a VAE's encoder as `encode`, as functions that take their parameters first."""
    networks = {name: functools.partial(apply_network, modules[name]) for name in names}
    if "vae" not in modules:
        return networks
    return networks | {"encode": functools.partial(apply_network, modules["vae"], method="encode")}


def checked_tokenizer(config: ConfigDict, system: StageNetworks) -> Tokenizer:
    """The config's tokenizer; ValueError where the text encoder has too few embeddings for it or glyphs lack a part."""
    check_glyphs(system.modules, config.data.glyph_length)
    tokenizer, room = find_tokenizer(config, system), system.modules["text_encoder"].vocab_size
    if tokenizer.vocab_size > room:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} entries, more than "
            f"config.model.text_encoder.vocab_size={room}: raise it"
        )
    return tokenizer


def find_tokenizer(config: ConfigDict, system: StageNetworks) -> Tokenizer:
    """The tokenizer that config.data.tokenizer names; "" is that of the release in config.init.text_encoder."""
    if config.data.tokenizer:
        return inputs.config_tokenizer(config)
    release = system.releases.get("text_encoder")
    if release is None or not release.tokenizer:
        raise ValueError("config.data.tokenizer is empty and config.init.text_encoder has no tokenizer: name a folder")
    return Tokenizer.from_json(release.tokenizer, str(config.init.text_encoder))


def text_lengths(config: ConfigDict) -> dict[str, int]:
    """What a release says of the text it reads: tokens, and bytes of quoted text where it reads those."""
    glyphs = config.data.glyph_length
    return {"length": config.data.text_length} | ({"glyph_length": glyphs} if glyphs else {})


def latent_batches(config: ConfigDict, workdir: Path, system: StageNetworks, tokenizer: Tokenizer) -> Any:
    """The training batches of a stage that works in latents, from their cache where the config asks for one."""
    cache = None
    if config.data.cache:
        cache = open_config_cache(config, system, tokenizer)
    elif config.data.latents:
        cache = ensure_latents_cache(config, workdir, system, vae_encoder(system))
    return inputs.training_batches(config, tokenizer, cache)


def vae_encoder(system: StageNetworks) -> Callable[[np.ndarray], Array]:
    """The means of images under the VAE; of several processes the first alone may call it, all must ask for it."""
    params, vae = system.loaded["vae"], system.modules["vae"]
    if jax.process_count() == 1:
        return functools.partial(programs.encode_images, params, vae=vae)
    params = hosts.gather_params(params)

    def encode(images: np.ndarray) -> Array:
        with jax.set_mesh(sharding.make_mesh({}, jax.local_devices()[:1])):
            return programs.encode_images(params, images, vae=vae)

    return encode


def config_cache_metadata(
    config: ConfigDict, source: Source, system: StageNetworks, tokenizer: Tokenizer | None = None
) -> dict[str, Any]:
    """What a cache of this config's data under these networks is made from; with a tokenizer, text features too."""
    if tokenizer is None:
        text: dict[str, Any] = {}
    else:
        digest = sha256((system.releases["text_encoder"].digest + tokenizer.to_json()).encode()).hexdigest()
        read = add_sidecars(source, config.data.sidecars)
        text = {"text": digest, "text_length": config.data.text_length, "versions": caption_versions(config, read)}
        if config.data.sidecars:
            text["captions"] = read.fingerprint
    vae, ground = system.latent().vae or system.releases["vae"].digest, tuple(config.data.background)
    sizes = image_sizes(config)
    return latent_cache.cache_metadata(source=source.fingerprint, vae=vae, sizes=sizes, background=ground, **text)


def image_sizes(config: ConfigDict) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) of pictures that the config asks for."""
    return settings.bucket_sizes(inputs.data_section(config))


def caption_versions(config: ConfigDict, source: Source | CaptionedSource) -> tuple[str, ...]:
    """The versions of captions that are drawn of the source's records."""
    weights = usable_captions(source, dict(config.data.captions))
    return tuple(sorted(version for version, weight in weights.items() if weight > 0))


def cache_encoder(
    config: ConfigDict,
    system: StageNetworks,
    mesh: jax.sharding.Mesh,
    batch_size: int,
    tokenizer: Tokenizer | None = None,
    versions: Sequence[str] = (),
) -> latent_writer.CacheEncoder:
    """The system's networks on a mesh of this process's devices, under it; with a tokenizer, the text encoder too.

    `versions` are the captions that it reads, as the cache's metadata has them.
    """
    place, ground = sharding.batch_sharding(mesh), tuple(config.data.background)
    rows = -(-batch_size // mesh.size) * mesh.size

    def images(pixels: np.ndarray) -> np.ndarray:
        pictures = jax.device_put(pixels, place)
        return jax.device_get(programs.encode_images(system.loaded["vae"], pictures, vae=system.modules["vae"]))

    if tokenizer is None:
        return latent_writer.CacheEncoder(images, rows, threads=config.data.threads, background=ground)
    if isinstance(system.modules["text_encoder"], CLIPTextEncoder):
        raise ValueError("--text keeps features of T5 encoders; CLIP's conditions are made as they are needed")
    describe = jax.jit(functools.partial(apply_network, system.modules["text_encoder"]))

    def texts(captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = tokenizer(captions, config.data.text_length)
        features = describe(system.loaded["text_encoder"], *jax.device_put((ids, mask), place))
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
    """How many records are a process's."""
    firsts = range(process * latent_cache.SHARD, count, processes * latent_cache.SHARD)
    return sum(min(latent_cache.SHARD, count - first) for first in firsts)


def ensure_latents_cache(
    config: ConfigDict, workdir: Path, system: StageNetworks, images: EncodeImages
) -> latent_cache.LatentCache:
    """The latents of the first config.data.latents records, or of all; the first process encodes what is missing."""
    source = batches.open_source(inputs.data_section(config))
    count = count_latents(config, source)
    made = config_cache_metadata(config, source, system)
    folder = str(workdir / "latents" / latent_cache.metadata_digest(made))
    encode = latent_writer.CacheEncoder(
        lambda rows: jax.device_get(images(rows)),
        LATENTS_BATCH,
        threads=config.data.threads,
        background=tuple(config.data.background),
    )
    fill_cache(config, folder, made, source, encode, count, alone=True)
    return latent_cache.open_cache(folder, made, count)


def count_latents(config: ConfigDict, source: Source) -> int:
    """How many records have their latents cached: config.data.latents, or all where there are fewer, which is said."""
    count = min(config.data.latents, len(source))
    if count < config.data.latents and jax.process_index() == 0:
        told = f"data.latents is {config.data.latents:,}, and there are {count:,} records"
        print(f"note: {told}: the latents of all of them are kept", file=sys.stderr)
    return count


def open_config_cache(config: ConfigDict, system: StageNetworks, tokenizer: Tokenizer) -> latent_cache.LatentCache:
    """The cache that config.data.cache names; its text features where the text encoder does not learn."""
    source = batches.open_source(inputs.data_section(config))
    text = "text" in latent_cache.read_cache_metadata(config.data.cache) and "text_encoder" not in system.trainable
    return latent_cache.open_cache(
        config.data.cache, config_cache_metadata(config, source, system, tokenizer if text else None)
    )
