"""A folder of diffusers as a release: Stable Diffusion 1.x, 2.x and SDXL, with their tokenizers and schedulers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Sharding

from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release, weights_digest
from dalle3_jax.convert import vae
from dalle3_jax.convert.configs import are_sizes, is_size
from dalle3_jax.loading.sd_upscaler import upscaler_release
from dalle3_jax.loading.stable_diffusion import PipelineDescription
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.vae import VAE
from dalle3_jax.typing import Params

__all__ = ["component_shardings", "digest_files", "load_pipeline", "vae_latent"]

OLD_VERSION, OLD_SIDE = (0, 9), 64
"""diffusers' version from which a UNet's sample_size below 64 is meant; of before it is wrong and taken for 64."""


def load_pipeline(description: PipelineDescription, shardings: Any = None, *, title: str, **how: Any) -> Release:
    """The release of a described pipeline; raises ValueError as `convert.load` does.

    `title` is what the release says that it was imported from; `dtype` and `progress` are those of `convert.load`.
    """
    modules, params, configs, kind = {}, {}, {}, description.kind
    for part, network in description.networks.items():
        name = (
            "text_encoder" if kind.reads_text and part == kind.encoders[0] else part
        )  # a refiner has the second one alone
        loaded, params[name] = network.load(shardings=component_shardings(name, shardings), **how)
        modules[name], configs[name] = description.modules[part].clone(dtype=loaded.dtype), network.config
    release = Release(
        modules,
        params,
        vae_latent(configs["vae"], modules["vae"], params["vae"]) if "vae" in modules else None,
        diffusion=description.diffusion,
        text=_text_section(description),
        sizes=_trained_sizes(description),
        sampling={"steps": kind.steps, "guidance_scale": kind.guidance_scale, **description.sampling},
        training={"imported": title, "pipeline": description.name, "config": configs},
        tokenizer=description.tokenizers[kind.encoders[0]].to_json() if kind.reads_text else "",
        digest=_pipeline_digest(description),
    )
    return upscaler_release(description.folder, release) if kind.enlarges else release


def vae_latent(config: Mapping[str, Any], module: VAE, params: Params) -> Latent:
    """The latents of a public VAE, as its config.json scales them."""
    return Latent(module.latent_channels, module.factor, *vae.latent_statistics(config), weights_digest(params))


def component_shardings(component: str, shardings: Any) -> Any:
    """The shardings of one component's parameters: the function that answers for all, asked for one."""
    if shardings is None or isinstance(shardings, Sharding):
        return shardings
    return lambda boxed: jax.tree.broadcast(shardings({component: boxed}), {component: nn.unbox(boxed)})[component]


def digest_files(files: Sequence[Path], *texts: str) -> str:
    """SHA-256 over those of files, in their order, and of texts."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    for text in texts:
        whole.update(hashlib.sha256(text.encode()).digest())
    return whole.hexdigest()


def _text_section(description: PipelineDescription) -> dict[str, Any]:
    """The length of texts, and whether the UNet is given zeros for the empty one."""
    if not description.kind.reads_text:
        return {}
    zeros = description.options.get("force_zeros_for_empty_prompt", True)
    return {
        "length": description.length,
        "zero_null": "text_encoder_2" in description.kind.encoders and bool(zeros),
    }


def _trained_sizes(description: PipelineDescription) -> tuple[tuple[int, int], ...]:
    """The size in pixels, height and width, that the UNet's config says it was trained for."""
    if not {"unet", "vae"} <= description.modules.keys():
        return ()
    config, factor = description.networks["unet"].config, description.modules["vae"].factor
    kind = description.kind
    side = config.get("sample_size") or kind.side
    if is_size(side) and side < OLD_SIDE and kind.side == OLD_SIDE and _is_old(config):
        side = OLD_SIDE
    sides = tuple(side) if isinstance(side, list) else (side, side)
    if not are_sizes(sides) or len(sides) != 2:
        raise ValueError(f"its UNet's sample_size={side!r} is no size of latents: one side, or height and width")
    height, width = sides
    return ((height * factor, width * factor),)


def _is_old(config: Mapping[str, Any]) -> bool:
    """Whether a config says that a version of diffusers before OLD_VERSION wrote it."""
    numbers = re.match(r"(\d+)\.(\d+)", str(config.get("_diffusers_version", "")))
    return numbers is not None and tuple(map(int, numbers.groups())) < OLD_VERSION


def _pipeline_digest(description: PipelineDescription) -> str:
    """SHA-256 of everything that was read: what pictures say of their checkpoint, and runs of what they began with."""
    folder = description.folder
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    files += [file for network in description.networks.values() for file in network.files]
    texts = [tokenizer.to_json() for tokenizer in description.tokenizers.values()]
    pads = [str(module.pad_id) for module in description.modules.values() if isinstance(module, CLIPTextEncoder)]
    return digest_files(files, *texts, *pads)
