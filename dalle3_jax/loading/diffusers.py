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
from dalle3_jax.loading.stable_diffusion import KINDS, Described, described
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.vae import VAE
from dalle3_jax.typing import Params

__all__ = ["digest_of", "latent_of", "load_pipeline", "of_part"]

STEPS, POSITIONS, SIDE = 50, 77, 64
"""Sampling steps of diffusers; tokens of a text and side of the latents where no config says them."""


def load_pipeline(
    folder: Path, components: Collection[str] | None = None, shardings: Any = None, *, title: str, **how: Any
) -> Release:
    """The release of a folder with a model_index.json, or some of its components.

    `title` is what the release says that it was imported from; `how` is what `convert.load` takes. Raises ValueError as
    `described` does, before any tensor is read, and as `convert.load` does.
    """
    found = described(folder, components, how.get("variant"))
    modules, params = {}, {}
    for part, module in found.modules.items():
        loaded, params[part] = convert.load(folder / part, shardings=of_part(part, shardings), **how)
        modules[part] = module.clone(dtype=loaded.dtype)
    return Release(
        modules,
        params,
        latent_of(found.configs["vae"], modules["vae"], params["vae"]) if "vae" in modules else None,
        diffusion=found.diffusion,
        text=_text(found),
        sizes=_sizes(found),
        sampling={"steps": STEPS, "guidance_scale": KINDS[found.name].guidance_scale, **found.sampling},
        training={"imported": title, "pipeline": found.name, "config": found.configs},
        tokenizer=found.tokenizers["text_encoder"].to_json(),
        digest=_digest(folder, found, how.get("variant")),
    )


def latent_of(config: Mapping[str, Any], module: VAE, params: Params) -> Latent:
    """The latents of a public VAE, as its config.json scales them."""
    return Latent(module.latent_channels, module.factor, *vae.latent_statistics(config), weights_digest(params))


def of_part(part: str, shardings: Any) -> Any:
    """Where one component's parameters go: the function that answers for all, asked for one."""
    if shardings is None or isinstance(shardings, Sharding):
        return shardings
    return lambda boxed: jax.tree.broadcast(shardings({part: boxed}), {part: nn.unbox(boxed)})[part]


def digest_of(files: Sequence[Path], *texts: str) -> str:
    """SHA-256 over those of files, in their order, and of texts."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    for text in texts:
        whole.update(hashlib.sha256(text.encode()).digest())
    return whole.hexdigest()


def _text(found: Described) -> dict[str, Any]:
    """How long texts are, and whether the empty one is told to the UNet as zeros."""
    encoder, zeros = found.modules.get("text_encoder"), found.options.get("force_zeros_for_empty_prompt", True)
    return {
        "length": encoder.positions if encoder else POSITIONS,
        "zero_null": found.name == "StableDiffusionXLPipeline" and bool(zeros),
    }


def _sizes(found: Described) -> tuple[tuple[int, int], ...]:
    """The size that the UNet was trained for, where its config tells one."""
    if not {"unet", "vae"} <= found.modules.keys():
        return ()
    side, factor = found.configs["unet"].get("sample_size") or SIDE, found.modules["vae"].factor
    return ((side * factor, side * factor),) if isinstance(side, int) else ()


def _digest(folder: Path, found: Described, variant: str | None) -> str:
    """SHA-256 of everything that was read: what pictures say of their checkpoint, and runs of what they began with."""
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in found.modules:
        files += [folder / part / "config.json", *weight_files(folder / part, variant)[0]]
    texts = [tokenizer.to_json() for tokenizer in found.tokenizers.values()]
    pads = [str(module.pad_id) for module in found.modules.values() if isinstance(module, CLIPTextEncoder)]
    return digest_of(files, *texts, *pads)
