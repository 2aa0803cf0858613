"""What a name can stand for: a release, a training workdir, a folder of diffusers or transformers, an id of the hub."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax import convert, public
from dalle3_jax.checkpoints.records import read_record
from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.checkpoints.weights import STORED, TYPES
from dalle3_jax.convert.folders import no_weights, read_json, weight_files
from dalle3_jax.convert.hub import fetch, is_hub_id
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.stable_diffusion import described

__all__ = ["DEMO", "find_folder", "find_release", "float_type", "open_release", "stored_type"]

DEMO = Path(__file__).with_name("releases") / "demo"
COMPONENTS: dict[type[nn.Module], tuple[str, ...]] = {
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
        return public.load_pipeline(folder, components, shardings, title=title, **how)
    return _alone(folder, components, shardings, title, how)


def stored_type(name: str | Path, variant: str | None = None) -> str:
    """The type that a checkpoint's weights are stored as, float32 where there are several; int8 of a release only."""
    folder = find_folder(name, variant)
    if (folder / "model.json").is_file():
        kinds = {part["dtype"] for part in read_record(folder)["components"].values()}
        return kinds.pop() if len(kinds) == 1 and kinds <= TYPES.keys() else "float32"
    if (folder / "model_index.json").is_file():
        parts = described(folder, variant=variant).modules
        kinds = {kind for part in parts for kind in convert.stored_types(folder / part, variant)}
    else:
        kinds = convert.stored_types(folder, variant)
    return kinds.pop() if len(kinds) == 1 and kinds <= STORED.keys() else "float32"


def float_type(name: str | Path, variant: str | None = None) -> str:
    """The floats that hold a checkpoint's weights without loss: its stored type, float32 of a release in int8."""
    kind = stored_type(name, variant)
    return kind if kind in STORED else "float32"


def find_release(name: str | Path) -> Path:
    """The folder that "demo", a release's folder or a training workdir stands for; ValueError when there is none."""
    if str(name) == "demo":
        return DEMO
    given = Path(name)
    for folder in (given, given / "release", given / "base" / "release"):
        if (folder / "model.json").is_file():
            return folder
    what = "holds no release" if given.is_dir() else "is not a folder"
    raise ValueError(
        f'the checkpoint {str(name)!r} {what}: give "demo", the folder of a release (with its model.json) or a '
        "training workdir; `dalle3-jax export WORKDIR FOLDER` makes a release of a run's newest checkpoint"
    )


def find_folder(name: str | Path, variant: str | None = None) -> Path:
    """Where the checkpoint of this name is, fetched from the hub if it has to be; ValueError when there is none.

    It is a folder, or one file of safetensors. A path that exists goes before an id of the hub.
    """
    given = Path(name)
    if given.is_file():
        if given.suffix != ".safetensors":
            raise ValueError(f"{given} cannot be used: {no_weights([given.name])}")
        return given
    if _is_public(given):
        return given
    if is_hub_id(name):
        return fetch(str(name), variant)
    try:
        return find_release(name)
    except ValueError as error:
        raise ValueError(
            f"{error}; a folder of diffusers (with its model_index.json) or an id of the hub, organisation/name, do too"
        ) from None


def _is_public(folder: Path) -> bool:
    """Whether a folder holds what diffusers or transformers wrote, or a flat file of OpenAI's decoder, not a run."""
    if (folder / "model_index.json").is_file():
        return True
    is_run = (folder / "release" / "model.json").is_file() or (folder / "checkpoints").is_dir()
    is_release = (folder / "model.json").is_file()
    described = (folder / "config.json").is_file() or any(folder.glob("*.safetensors"))
    return described and not is_run and not is_release


def _alone(path: Path, components: Collection[str] | None, shardings: Any, title: str, how: dict[str, Any]) -> Release:
    """The release of one public network."""
    names = list(components or ())
    places = COMPONENTS[type(convert.module_of(path, how["variant"]))]
    if len(names) > 1 or not set(names) <= set(places):
        raise ValueError(f"{path} holds one network, which can be {' or '.join(places)}, not {', '.join(names)}")
    name = names[0] if names else places[0]
    module, params = convert.load(path, shardings=public.of_part(name, shardings), **how)
    config = read_json(path / "config.json") if (path / "config.json").is_file() else {}
    return Release(
        {name: module},
        {name: params},
        public.latent_of(config, module, params) if isinstance(module, VAE) else None,
        {name: convert.decoding(config)} if isinstance(module, DecoderUNet) else {},
        training={"imported": title, "config": {name: config}},
        digest=public.digest_of(_files(path, how["variant"])),
    )


def _files(path: Path, variant: str | None) -> list[Path]:
    """The files that a network which comes alone was read from."""
    if path.is_file():
        return [path]
    if (path / "config.json").is_file():
        return [path / "config.json", *weight_files(path, variant)[0]]
    return sorted(path.glob("*.safetensors"))
