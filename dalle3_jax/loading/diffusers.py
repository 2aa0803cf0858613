"""A folder of diffusers as a release: Stable Diffusion 1.x, 2.x and SDXL, with their tokenizers and schedulers."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import linen as nn
from jax.sharding import Sharding

from dalle3_jax import convert
from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release, weights_digest
from dalle3_jax.convert import vae
from dalle3_jax.convert.folders import weight_files
from dalle3_jax.loading.sd_upscaler import upscaler_release
from dalle3_jax.loading.stable_diffusion import PIPELINE_KINDS, PipelineDescription, describe_pipeline
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.vae import VAE
from dalle3_jax.typing import Params

__all__ = ["component_shardings", "digest_files", "load_diffusers_pipeline", "vae_latent"]

STEPS, POSITIONS, SIDE = 50, 77, 64
"""Sampling steps of diffusers; tokens of a text and side of the latents where no config says them."""


def load_diffusers_pipeline(
    folder: Path, components: Collection[str] | None = None, shardings: Any = None, *, title: str, **how: Any
) -> Release:
    """The release of a folder with a model_index.json, or some of its components.

    `title` is what the release says that it was imported from; `load_options` is what `convert.load` takes. Raises
    ValueError as `describe_pipeline` does, before any tensor is read, and as `convert.load` does.
    """
    parts = None if components is None else [{"upscaler": "unet"}.get(name, name) for name in components]
    found = describe_pipeline(folder, parts, how.get("variant"))
    modules, params = {}, {}
    for part, module in found.modules.items():
        loaded, params[part] = convert.load(folder / part, shardings=component_shardings(part, shardings), **how)
        modules[part] = module.clone(dtype=loaded.dtype)
    release = Release(
        modules,
        params,
        vae_latent(found.configs["vae"], modules["vae"], params["vae"]) if "vae" in modules else None,
        diffusion=found.diffusion,
        text=_text_section(found),
        sizes=_trained_sizes(found),
        sampling={"steps": STEPS, "guidance_scale": PIPELINE_KINDS[found.name].guidance_scale, **found.sampling},
        training={"imported": title, "pipeline": found.name, "config": found.configs},
        tokenizer=found.tokenizers["text_encoder"].to_json(),
        digest=_pipeline_digest(folder, found, how.get("variant")),
    )
    return upscaler_release(folder, release) if PIPELINE_KINDS[found.name].enlarges else release


def vae_latent(config: Mapping[str, Any], module: VAE, params: Params) -> Latent:
    """The latents of a public VAE, as its config.json scales them."""
    return Latent(module.latent_channels, module.factor, *vae.latent_statistics(config), weights_digest(params))


def component_shardings(component: str, shardings: Any) -> Any:
    """Where one component's parameters go: the function that answers for all, asked for one."""
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
    """How long texts are, and whether the empty one is told to the UNet as zeros."""
    encoder, zeros = (
        description.modules.get("text_encoder"),
        description.options.get("force_zeros_for_empty_prompt", True),
    )
    return {
        "length": encoder.positions if encoder else POSITIONS,
        "zero_null": description.name == "StableDiffusionXLPipeline" and bool(zeros),
    }


def _trained_sizes(description: PipelineDescription) -> tuple[tuple[int, int], ...]:
    """The size that the UNet was trained for, where its config tells one."""
    if not {"unet", "vae"} <= description.modules.keys():
        return ()
    side, factor = description.configs["unet"].get("sample_size") or SIDE, description.modules["vae"].factor
    return ((side * factor, side * factor),) if isinstance(side, int) else ()


def _pipeline_digest(folder: Path, description: PipelineDescription, variant: str | None) -> str:
    """SHA-256 of everything that was read: what pictures say of their checkpoint, and runs of what they began with."""
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in description.modules:
        files += [folder / part / "config.json", *weight_files(folder / part, variant)[0]]
    texts = [tokenizer.to_json() for tokenizer in description.tokenizers.values()]
    pads = [str(module.pad_id) for module in description.modules.values() if isinstance(module, CLIPTextEncoder)]
    return digest_files(files, *texts, *pads)
