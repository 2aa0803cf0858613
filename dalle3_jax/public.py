"""A folder of diffusers as a release: Stable Diffusion 1.x, 2.x and SDXL, with their tokenizers and schedulers."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn
from jax.sharding import Sharding

from dalle3_jax import convert
from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release, weights_digest
from dalle3_jax.convert import schedulers, vae
from dalle3_jax.convert.folders import read_json, weight_files
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.tokenizers import Tokenizer, folder_padding, folder_tokenizer
from dalle3_jax.typing import Params

__all__ = ["latent_of", "load_pipeline", "of_part", "parts"]


class Kind(NamedTuple):
    """What a pipeline's class says and its files do not: whose features its UNet attends to, and its own guidance."""

    encoders: tuple[str, ...]
    skip: int
    normed: bool
    guidance_scale: float


KINDS = {
    "StableDiffusionPipeline": Kind(("text_encoder",), skip=0, normed=True, guidance_scale=7.5),
    "StableDiffusionXLPipeline": Kind(("text_encoder", "text_encoder_2"), skip=1, normed=False, guidance_scale=5.0),
}
STEPS = 50


def load_pipeline(
    folder: Path, components: Collection[str] | None = None, shardings: Any = None, **how: Any
) -> Release:
    """The release of a folder with a model_index.json, or some of its components; `how` is what `convert.load` takes.

    Raises ValueError naming a class or an option that is not supported, and what does not fit together.
    """
    whole, index = parts(folder), read_json(folder / "model_index.json")
    name, names = index["_class_name"], list(whole if components is None else components)
    kind = KINDS[name]
    if lacking := [part for part in dict.fromkeys((*names, *whole)) if not (folder / part / "config.json").is_file()]:
        raise ValueError(f"{folder} lacks {', '.join(lacking)}: a {name} has {', '.join(whole)}, each with config.json")
    if index.get("requires_aesthetics_score"):
        raise ValueError(f"{folder} wants an aesthetic score (SDXL's refiner), which is not supported")
    configs = {part: read_json(folder / part / "config.json") for part in whole}
    diffusion, sampling = schedulers.read(read_json(folder / "scheduler" / "scheduler_config.json"))
    tokenizers = _tokenizers(folder, kind)
    modules, params = {}, {}
    for part in names:
        modules[part], params[part] = convert.load(folder / part, shardings=of_part(part, shardings), **how)
        if part in tokenizers:
            pad = folder_padding(folder / part.replace("text_encoder", "tokenizer"), tokenizers[part])
            modules[part] = modules[part].clone(skip=kind.skip, normed=kind.normed, pad_id=pad)
    _check(folder, kind, modules)
    side = configs["unet"].get("sample_size") or 64
    latent = latent_of(configs["vae"], modules["vae"], params["vae"]) if "vae" in modules else None
    sizes = () if latent is None or not isinstance(side, int) else ((side * latent.factor, side * latent.factor),)
    return Release(
        modules,
        params,
        latent,
        diffusion=diffusion,
        text={
            "length": configs["text_encoder"].get("max_position_embeddings", 77),
            "zero_null": name == "StableDiffusionXLPipeline" and index.get("force_zeros_for_empty_prompt", True),
        },
        sizes=sizes,
        sampling={"steps": STEPS, "guidance_scale": kind.guidance_scale, **sampling},
        training={"imported": folder.name, "pipeline": name, "config": configs},
        tokenizer=tokenizers["text_encoder"].to_json(),
        digest=_digest(folder, whole, how.get("variant")) if set(whole) <= set(names) else "",
    )


def parts(folder: Path) -> tuple[str, ...]:
    """The folders of the networks that a pipeline's folder should have; ValueError for a class that cannot be read."""
    name = read_json(folder / "model_index.json").get("_class_name")
    if name not in KINDS:
        raise ValueError(f"{folder} is a {name}; pipelines that can be read: {', '.join(KINDS)}")
    return *KINDS[name].encoders, "unet", "vae"


def latent_of(config: Mapping[str, Any], module: VAE, params: Params) -> Latent:
    """The latents of a public VAE, as its config.json scales them."""
    return Latent(module.latent_channels, module.factor, *vae.latent_statistics(config), weights_digest(params))


def of_part(part: str, shardings: Any) -> Any:
    """Where one component's parameters go: the function that answers for all, asked for one."""
    if shardings is None or isinstance(shardings, Sharding):
        return shardings
    return lambda boxed: shardings({part: boxed})[part]


def _tokenizers(folder: Path, kind: Kind) -> dict[str, Tokenizer]:
    """Each text encoder's; ValueError where they would read the same text as other tokens."""
    places = {encoder: folder / encoder.replace("text_encoder", "tokenizer") for encoder in kind.encoders}
    found = {encoder: Tokenizer.from_json(folder_tokenizer(place), str(place)) for encoder, place in places.items()}
    first, *others = found.values()
    if any(other.backend.get_vocab() != first.backend.get_vocab() for other in others):
        raise ValueError(f"the tokenizers of {folder} have different vocabularies, which is not supported")
    return found


def _check(folder: Path, kind: Kind, modules: Mapping[str, nn.Module]) -> None:
    """ValueError where the text encoders do not give what the UNet takes."""
    unet, encoders = modules.get("unet"), [modules[name] for name in kind.encoders if name in modules]
    if not isinstance(unet, UNet) or len(encoders) < len(kind.encoders):
        return
    clips = [encoder for encoder in encoders if isinstance(encoder, CLIPTextEncoder)]
    if len(clips) < len(encoders):
        raise ValueError(f"{folder}: its text encoders must be CLIP's")
    width, vector = sum(clip.width for clip in clips), clips[-1].projection or clips[-1].width
    if unet.context_width != width or (unet.pooled and unet.vector_width != vector):
        raise ValueError(
            f"{folder}: its text encoders give tokens of {width} and a vector of {vector}, "
            f"its UNet takes {unet.context_width} and {unet.vector_width}"
        )


def _digest(folder: Path, names: Collection[str], variant: str | None) -> str:
    """SHA-256 over those of everything that was read: what pictures say of their checkpoint."""
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for part in names:
        files += [folder / part / "config.json", *weight_files(folder / part, variant)[0]]
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()
