"""What stages in latents need: networks as functions, a tokenizer that fits, latents from images or a cache."""

import functools
from collections.abc import Callable, Mapping
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
from dalle3_jax.data.caches.sidecars import Captioned, captioned
from dalle3_jax.data.sources import Source
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.glyph import check_glyphs
from dalle3_jax.pipeline import programs
from dalle3_jax.runtime import processes as hosts
from dalle3_jax.stages import inputs
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.stage import apply
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.training import sharding
from dalle3_jax.typing import Array

__all__ = [
    "applied",
    "cached",
    "checked_tokenizer",
    "encoded_ahead",
    "encoder",
    "encoder_of",
    "fill",
    "latent_batches",
    "lengths",
    "made_by",
]

LATENTS_BATCH = 32

Images = Callable[[np.ndarray], Array]


def applied(modules: Mapping[str, nn.Module], *names: str) -> dict[str, Callable[..., Any]]:
    """The networks called `names`, and a VAE's encoder as `encode`, as functions that take their parameters first."""
    networks = {name: functools.partial(apply, modules[name]) for name in names}
    if "vae" not in modules:
        return networks
    return networks | {"encode": functools.partial(apply, modules["vae"], method="encode")}


def checked_tokenizer(config: ConfigDict, system: System) -> Tokenizer:
    """The config's tokenizer; ValueError where the text encoder has too few embeddings for it or glyphs lack a part."""
    check_glyphs(system.modules, config.data.glyph_length)
    tokenizer, room = named_tokenizer(config, system), system.modules["text_encoder"].vocab_size
    if tokenizer.vocab_size > room:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} entries, more than "
            f"config.model.text_encoder.vocab_size={room}: raise it"
        )
    return tokenizer


def named_tokenizer(config: ConfigDict, system: System) -> Tokenizer:
    """The tokenizer that config.data.tokenizer names; "" is that of the release in config.init.text_encoder."""
    if config.data.tokenizer:
        return inputs.tokenizer(config)
    release = system.releases.get("text_encoder")
    if release is None or not release.tokenizer:
        raise ValueError("config.data.tokenizer is empty and config.init.text_encoder has no tokenizer: name a folder")
    return Tokenizer.from_json(release.tokenizer, str(config.init.text_encoder))


def lengths(config: ConfigDict) -> dict[str, int]:
    """What a release says of the text it reads: tokens, and bytes of quoted text where it reads those."""
    glyphs = config.data.glyph_length
    return {"length": config.data.text_length} | ({"glyph_length": glyphs} if glyphs else {})


def latent_batches(config: ConfigDict, workdir: Path, system: System, tokenizer: Tokenizer) -> Any:
    """The training batches of a stage that works in latents, from their cache where the config asks for one."""
    cache = None
    if config.data.cache:
        cache = cached(config, system, tokenizer)
    elif config.data.latents:
        cache = encoded_ahead(config, workdir, system, encoder(system))
    return inputs.batches(config, tokenizer, cache)


def encoder(system: System) -> Callable[[np.ndarray], Array]:
    """The means of images under the VAE; of several processes the first alone may call it, all must ask for it."""
    params, vae = system.loaded["vae"], system.modules["vae"]
    if jax.process_count() == 1:
        return functools.partial(programs.encode_images, params, vae=vae)
    params = hosts.gathered(params)

    def encode(images: np.ndarray) -> Array:
        with jax.set_mesh(sharding.make_mesh({}, jax.local_devices()[:1])):
            return programs.encode_images(params, images, vae=vae)

    return encode


def made_by(config: ConfigDict, source: Source, system: System, tokenizer: Tokenizer | None = None) -> dict[str, Any]:
    """What a cache of this config's data under these networks is made from; with a tokenizer, text features too."""
    if tokenizer is None:
        text: dict[str, Any] = {}
    else:
        digest = sha256((system.releases["text_encoder"].digest + tokenizer.to_json()).encode()).hexdigest()
        text = {"text": digest, "text_length": config.data.text_length, "versions": versions_of(config)}
        if config.data.sidecars:
            text["captions"] = captioned(source, config.data.sidecars).fingerprint
    vae = system.latent().vae or system.releases["vae"].digest
    return latent_cache.made_by(source=source.fingerprint, vae=vae, sizes=sizes_of(config), **text)


def sizes_of(config: ConfigDict) -> tuple[tuple[int, int], ...]:
    """The sizes (height, width) of pictures that the config asks for."""
    return settings.sizes_of(inputs.data_section(config))


def versions_of(config: ConfigDict) -> tuple[str, ...]:
    """The versions of captions that the config draws from."""
    return tuple(sorted(version for version, weight in config.data.captions.items() if weight > 0))


def encoder_of(
    config: ConfigDict, system: System, mesh: jax.sharding.Mesh, batch_size: int, tokenizer: Tokenizer | None = None
) -> latent_writer.Encoder:
    """The system's networks on a mesh of this process's devices, under it; with a tokenizer, the text encoder too."""
    place = sharding.batch_sharding(mesh)
    rows = -(-batch_size // mesh.size) * mesh.size

    def images(pixels: np.ndarray) -> np.ndarray:
        pictures = jax.device_put(pixels, place)
        return jax.device_get(programs.encode_images(system.loaded["vae"], pictures, vae=system.modules["vae"]))

    if tokenizer is None:
        return latent_writer.Encoder(images, rows, threads=config.data.threads)
    if isinstance(system.modules["text_encoder"], CLIPTextEncoder):
        raise ValueError("--text keeps features of T5 encoders; CLIP's conditions are made as they are needed")
    describe = jax.jit(functools.partial(apply, system.modules["text_encoder"]))

    def texts(captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = tokenizer(captions, config.data.text_length)
        features = describe(system.loaded["text_encoder"], *jax.device_put((ids, mask), place))
        return jax.device_get(features), mask

    return latent_writer.Encoder(images, rows, texts, versions_of(config), config.data.threads)


def fill(
    config: ConfigDict,
    folder: str,
    made: dict[str, Any],
    source: Source,
    encoder: latent_writer.Encoder,
    count: int,
    *,
    alone: bool = False,
) -> None:
    """Writes what is missing of a cache, by all processes together or by the first one `alone`; all of them call it."""
    sizes = sizes_of(config)
    if isinstance(source, ScenesSource) and len(sizes) > 1:
        raise ValueError("scenes are drawn at any size, and a cache holds each in one: leave data.buckets empty")
    if not 0 < count <= len(source):
        raise ValueError(f"{count} records are to be encoded and the source has {len(source)}")
    read = captioned(source, config.data.sidecars if encoder.texts else ())
    if isinstance(read, Captioned):
        read.check(count)
    process, processes = jax.process_index(), 1 if alone else jax.process_count()
    if process == 0:
        latent_writer.begin(folder, made, encoder)
    hosts.barrier("the cache is begun")
    if process < processes:
        mine = records_of(count, process, processes)
        with tqdm(total=mine, desc="encoding", unit="image", dynamic_ncols=True, disable=process > 0) as bar:
            write = functools.partial(latent_writer.write, most_bad=config.data.max_bad, progress=bar.update)
            write(folder, read, sizes, encoder, count, process=process, processes=processes)
    hosts.barrier("all shards are written")
    if process == 0:
        latent_writer.conclude(folder, made, count)
    hosts.barrier("the cache is whole")


def records_of(count: int, process: int, processes: int) -> int:
    """How many records are a process's."""
    firsts = range(process * latent_cache.SHARD, count, processes * latent_cache.SHARD)
    return sum(min(latent_cache.SHARD, count - first) for first in firsts)


def encoded_ahead(config: ConfigDict, workdir: Path, system: System, images: Images) -> latent_cache.Cache:
    """The latents of the first config.data.latents records; the first process encodes what is missing."""
    source, count = batches.source_of(inputs.data_section(config)), config.data.latents
    made = made_by(config, source, system)
    folder = str(workdir / "latents" / latent_cache.digest_of(made))
    encode = latent_writer.Encoder(
        lambda rows: jax.device_get(images(rows)), LATENTS_BATCH, threads=config.data.threads
    )
    fill(config, folder, made, source, encode, count, alone=True)
    return latent_cache.open_cache(folder, made, count)


def cached(config: ConfigDict, system: System, tokenizer: Tokenizer) -> latent_cache.Cache:
    """The cache that config.data.cache names; its text features where the text encoder does not learn."""
    source = batches.source_of(inputs.data_section(config))
    text = "text" in latent_cache.made_from(config.data.cache) and "text_encoder" not in system.trainable
    return latent_cache.open_cache(config.data.cache, made_by(config, source, system, tokenizer if text else None))
