"""A release of what a name stands for; public weights become one as they are read."""

import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.checkpoints.release_record import read_record
from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.checkpoints.weights import STORED, TYPES
from dalle3_jax.loading.diffusers import component_shardings, digest_files, load_pipeline, vae_latent
from dalle3_jax.loading.locate import locate
from dalle3_jax.loading.stable_diffusion import PIPELINE_KINDS, describe_pipeline
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE

__all__ = ["float_type", "open_release", "stored_dtype"]

COMPONENTS_BY_CLASS: dict[type[nn.Module], tuple[str, ...]] = {
    T5Encoder: ("text_encoder", "glyph_encoder"),
    CLIPTextEncoder: ("text_encoder", "text_encoder_2"),
    CLIPVisionEncoder: ("image_encoder",),
    CLIP: ("clip",),
    VAE: ("vae",),
    UNet: ("unet",),
    DecoderUNet: ("decoder",),
}
"""The components that a network which comes alone can be; it is the first unless another is asked for."""


def open_release(
    name: str | Path,
    components: Collection[str] | None = None,
    dtype: Any = None,
    shardings: Any = None,
    *,
    variant: str | None = None,
    progress: bool = False,
) -> Release:
    """The release that a name stands for, or some of its components; public weights become one as they are read.

    `dtype` and `shardings` are those of `load_release`, `variant` and `progress` those of `convert.load`. A network
    that comes alone is called what its class is for, or as the one component that is asked for.
    Raises ValueError naming what is missing or does not fit, and the remedy.
    """
    located = locate(name, variant)
    if located.kind in ("release", "run"):
        if variant:
            warnings.warn(f"the variant {variant} has no effect: {name} is a release, which has none", stacklevel=2)
        return _with_upcast_vae(load_release(located.path, components, dtype, shardings))
    how = {"dtype": dtype or jnp.float32, "progress": progress}
    # A folder of the cache is called by its commit.
    title = located.path.name if Path(name).exists() else str(name)
    if located.kind == "pipeline":
        description = describe_pipeline(located.path, components, variant)
        return _with_upcast_vae(load_pipeline(description, shardings, title=title, **how))
    return _load_single_network(convert.open(located.path, variant), components, shardings, title, how)


def stored_dtype(name: str | Path, variant: str | None = None) -> str:
    """The type that a checkpoint's weights are stored as, float32 where there are several; int8 of a release only."""
    located = locate(name, variant)
    if located.kind in ("release", "run"):
        kinds = {part["dtype"] for part in read_record(located.path)["components"].values()}
        return kinds.pop() if len(kinds) == 1 and kinds <= TYPES.keys() else "float32"
    if located.kind == "pipeline":
        networks = describe_pipeline(located.path, variant=variant).networks.values()
    else:
        networks = [convert.open(located.path, variant)]
    kinds = {kind for network in networks for kind in network.stored_types()}
    return kinds.pop() if len(kinds) == 1 and kinds <= STORED.keys() else "float32"


def float_type(name: str | Path, variant: str | None = None) -> str:
    """The floats that hold a checkpoint's weights without loss: its stored type, float32 of a release in int8."""
    kind = stored_dtype(name, variant)
    return kind if kind in STORED else "float32"


def _with_upcast_vae(release: Release) -> Release:
    """The release, its VAE computing in float32 where float16 does not hold what it computes: SDXL's force_upcast."""
    kind, vae = PIPELINE_KINDS.get(str(release.training.get("pipeline"))), release.modules.get("vae")
    if kind is None or not kind.upcast_vae or not isinstance(vae, VAE) or jnp.dtype(vae.dtype) != jnp.float16:
        return release
    if not release.training.get("config", {}).get("vae", {}).get("force_upcast", True):  # diffusers' default
        return release
    return replace(release, modules=release.modules | {"vae": vae.clone(dtype=jnp.dtype(jnp.float32))})


def _load_single_network(
    network: convert.Opened, components: Collection[str] | None, shardings: Any, title: str, how: dict[str, Any]
) -> Release:
    """The release of one public network."""
    names = list(components or ())
    places = COMPONENTS_BY_CLASS[type(network.module)]
    if len(names) > 1 or not set(names) <= set(places):
        raise ValueError(
            f"{network.path} holds one network, which can be {' or '.join(places)}, not {', '.join(names)}"
        )
    name = names[0] if names else places[0]
    module, params = network.load(shardings=component_shardings(name, shardings), **how)
    return Release(
        {name: module},
        {name: params},
        vae_latent(network.config, module, params) if isinstance(module, VAE) else None,
        {name: convert.decoder_settings(network.config)} if isinstance(module, DecoderUNet) else {},
        training={"imported": title, "config": {name: network.config}},
        digest=digest_files(network.files),
    )
