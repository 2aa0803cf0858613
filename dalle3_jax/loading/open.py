"""A release of what a name stands for; public weights become one as they are read."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.checkpoints.release_record import read_record
from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.checkpoints.weights import STORED, TYPES
from dalle3_jax.convert.folders import read_json, weight_files
from dalle3_jax.files import is_stray
from dalle3_jax.loading import diffusers
from dalle3_jax.loading.locate import find_folder
from dalle3_jax.loading.stable_diffusion import describe_pipeline
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE

__all__ = ["float_type", "open_release", "stored_dtype"]

COMPONENTS_BY_CLASS: dict[type[nn.Module], tuple[str, ...]] = {
    T5Encoder: ("text_encoder", "glyph_encoder"),
    CLIPTextEncoder: ("text_encoder", "text_encoder_2"),
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
    folder = find_folder(name, variant)
    if (folder / "model.json").is_file():
        return load_release(folder, components, dtype, shardings)
    how = {"dtype": dtype or jnp.float32, "variant": variant, "progress": progress}
    title = folder.name if Path(name).exists() else str(name)  # a folder of the cache is called by its commit
    if (folder / "model_index.json").is_file():
        return diffusers.load_diffusers_pipeline(folder, components, shardings, title=title, **how)
    return _open_single_network(folder, components, shardings, title, how)


def stored_dtype(name: str | Path, variant: str | None = None) -> str:
    """The type that a checkpoint's weights are stored as, float32 where there are several; int8 of a release only."""
    folder = find_folder(name, variant)
    if (folder / "model.json").is_file():
        kinds = {part["dtype"] for part in read_record(folder)["components"].values()}
        return kinds.pop() if len(kinds) == 1 and kinds <= TYPES.keys() else "float32"
    if (folder / "model_index.json").is_file():
        parts = describe_pipeline(folder, variant=variant).modules
        kinds = {kind for part in parts for kind in convert.stored_types(folder / part, variant)}
    else:
        kinds = convert.stored_types(folder, variant)
    return kinds.pop() if len(kinds) == 1 and kinds <= STORED.keys() else "float32"


def float_type(name: str | Path, variant: str | None = None) -> str:
    """The floats that hold a checkpoint's weights without loss: its stored type, float32 of a release in int8."""
    kind = stored_dtype(name, variant)
    return kind if kind in STORED else "float32"


def _open_single_network(
    path: Path, components: Collection[str] | None, shardings: Any, title: str, load_options: dict[str, Any]
) -> Release:
    """The release of one public network."""
    names = list(components or ())
    places = COMPONENTS_BY_CLASS[type(convert.read_module(path, load_options["variant"]))]
    if len(names) > 1 or not set(names) <= set(places):
        raise ValueError(f"{path} holds one network, which can be {' or '.join(places)}, not {', '.join(names)}")
    name = names[0] if names else places[0]
    module, params = convert.load(path, shardings=diffusers.component_shardings(name, shardings), **load_options)
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    return Release(
        {name: module},
        {name: params},
        diffusers.vae_latent(config, module, params) if isinstance(module, VAE) else None,
        {name: convert.decoder_settings(config)} if isinstance(module, DecoderUNet) else {},
        training={"imported": title, "config": {name: config}},
        digest=diffusers.digest_files(_network_files(path, load_options["variant"])),
    )


def _network_files(path: Path, variant: str | None) -> list[Path]:
    """The files that a network which comes alone was read from."""
    if path.is_file():
        return [path]
    if (path / "config.json").is_file():
        return [path / "config.json", *weight_files(path, variant)[0]]
    return sorted(file for file in path.glob("*.safetensors") if not is_stray(file.name))
