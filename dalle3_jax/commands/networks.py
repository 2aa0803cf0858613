"""What stages make of a system's networks: functions of parameters, a tokenizer that fits, batches of latents."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax import programs
from dalle3_jax.commands import encoding, inputs
from dalle3_jax.commands.stage import apply
from dalle3_jax.commands.systems import System
from dalle3_jax.models.glyph import check_glyphs
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.training import hosts, sharding
from dalle3_jax.typing import Array

__all__ = ["applied", "checked_tokenizer", "encoder", "latent_batches", "lengths"]


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
        cache = encoding.cached(config, system, tokenizer)
    elif config.data.latents:
        cache = encoding.encoded_ahead(config, workdir, system, encoder(system))
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
