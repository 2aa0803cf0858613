"""An IP-Adapter beside a model that it was made for: its file, and the CLIP image encoder whose features it reads."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalle3_jax import convert
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.convert.folders import read_json
from dalle3_jax.convert.ip_adapter import open_adapter
from dalle3_jax.loading.diffusers import component_shardings, digest_files
from dalle3_jax.models.clip import CLIPVisionEncoder
from dalle3_jax.models.image_prompt import ImagePrompt
from dalle3_jax.models.unet import UNet

__all__ = ["add_adapter"]

DOWNLOAD = "hf download h94/IP-Adapter models/image_encoder/config.json models/image_encoder/model.safetensors"


def add_adapter(
    release: Release,
    file: str | Path,
    encoder: str | Path | None = None,
    *,
    shardings: Any = None,
    **how: Any,
) -> Release:
    """The release with an IP-Adapter of a .safetensors file, which then reads image prompts.

    `encoder` is the folder of its CLIP image encoder; else one called image_encoder beside the file, or beside its
    folder, of the width that the adapter reads. `dtype` and `progress` are those of `convert.load`. Raises ValueError
    for an adapter of another model, for files that could run code, and without an encoder that fits.
    """
    unet, file = release.modules.get("unet"), Path(file).expanduser()
    if not isinstance(unet, UNet):
        raise ValueError(f"{file} is an adapter of a UNet, which this checkpoint lacks")
    if "image_encoder" in release.modules and "text_encoder" not in release.modules:
        raise ValueError(f"{file} adds images to text, and this checkpoint reads images alone: load it without one")
    adapter = open_adapter(file, unet)
    assert isinstance(adapter.module, ImagePrompt)
    networks = {"image_prompt": adapter, "image_encoder": convert.open(find_encoder(file, adapter.module, encoder))}
    loaded = {
        part: network.load(shardings=component_shardings(part, shardings), **how) for part, network in networks.items()
    }
    own = digest_files([path for network in networks.values() for path in network.files])
    return replace(
        release,
        modules=release.modules | {part: module for part, (module, _) in loaded.items()},
        params=release.params | {part: params for part, (_, params) in loaded.items()},
        digest=hashlib.sha256((release.digest + own).encode()).hexdigest(),
    )


def find_encoder(file: Path, prompt: ImagePrompt, folder: str | Path | None = None) -> Path:
    """The folder of the image encoder that an adapter reads; ValueError where there is none of its width.

    Folders that hold none, or a part of one, as a download that was stopped leaves it, are passed over, and named.
    """
    seen = []
    for place in [Path(folder).expanduser()] if folder is not None else encoder_folders(file):
        try:
            width = encoder_width(place, prompt)
        except ValueError as error:
            seen.append(f"{place} ({error})")
            continue
        if width == prompt.features:
            return place
        seen.append(f"{place} ({width})")
    where = f"among {', '.join(seen)}" if seen else "beside it"
    raise ValueError(
        f"{file} reads features of {prompt.features}, and there is no CLIP image encoder of that width {where}: "
        f"download it ({DOWNLOAD}) and name its folder as adapter encoder"
    )


def encoder_folders(file: Path) -> Iterator[Path]:
    """The folders in which public repositories keep the encoders of an adapter."""
    file = file.absolute()  # a bare name has no folder above its own
    beside = file.parent / "image_encoder"
    if beside.is_dir():
        yield beside
    yield from (place for place in sorted(file.parent.parent.glob("*/image_encoder")) if place != beside)


def encoder_width(folder: Path, prompt: ImagePrompt) -> int:
    """The width of the features that an adapter reads of this encoder: of its vectors or its tokens.

    Raises ValueError naming what is missing or damaged of it, or where it is another network.
    """
    if not (folder / "config.json").is_file():
        raise ValueError("no config.json")
    names = read_json(folder / "config.json").get("architectures") or []
    module = convert.open(folder).module if "CLIPVisionModelWithProjection" in names else None
    if not isinstance(module, CLIPVisionEncoder):
        raise ValueError("no image encoder")
    return module.tower.width if prompt.kind == "resampler" else module.projection
