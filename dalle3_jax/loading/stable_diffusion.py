"""What the folder of a Stable Diffusion or SDXL pipeline says of itself, and whether its parts fit together."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.convert import schedulers
from dalle3_jax.convert.folders import read_json
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.tokenizers import Tokenizer, folder_padding, folder_tokenizer

__all__ = ["KINDS", "Described", "Kind", "described"]


class Kind(NamedTuple):
    """What a pipeline's class says and its files do not: whose features its UNet attends to, and its own guidance."""

    encoders: tuple[str, ...]
    skip: int
    normed: bool
    guidance_scale: float

    @property
    def parts(self) -> tuple[str, ...]:
        """The folders of its networks."""
        return *self.encoders, "unet", "vae"


KINDS = {
    "StableDiffusionPipeline": Kind(("text_encoder",), skip=0, normed=True, guidance_scale=7.5),
    "StableDiffusionXLPipeline": Kind(("text_encoder", "text_encoder_2"), skip=1, normed=False, guidance_scale=5.0),
}
CLASSES = {"text_encoder": CLIPTextEncoder, "text_encoder_2": CLIPTextEncoder, "unet": UNet, "vae": VAE}


class Described(NamedTuple):
    """A pipeline's folder but for its weights: its networks or some of them, and what goes with them.

    `options` are those of model_index.json, `configs` each network's config.json.
    """

    name: str
    options: dict[str, Any]
    configs: dict[str, dict[str, Any]]
    modules: dict[str, Any]
    tokenizers: dict[str, Tokenizer]
    diffusion: dict[str, Any]
    sampling: dict[str, Any]


def described(folder: Path, components: Collection[str] | None = None, variant: str | None = None) -> Described:
    """What a folder with a model_index.json says of itself; of the weights only the headers are read.

    Raises ValueError naming a class that cannot be read, or else everything that is missing, that is not supported and
    that does not fit together.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in KINDS:
        raise ValueError(f"{folder} names the class {name!r}; pipelines that can be read: {', '.join(KINDS)}")
    kind, problems = KINDS[name], []
    names = kind.parts if components is None else tuple(components)
    if index.get("requires_aesthetics_score"):
        problems.append("it wants an aesthetic score (SDXL's refiner), which is not supported")
    if lacking := [part for part in names if part not in kind.parts or not (folder / part / "config.json").is_file()]:
        problems.append(f"it lacks {', '.join(lacking)}: a {name} has {', '.join(kind.parts)}, each with config.json")
    configs, modules, tokenizers, sections = {}, {}, {}, ({}, {})
    for part in (part for part in names if part not in lacking):
        with _noted(problems):
            modules[part] = convert.module_of(folder / part, variant)
            configs[part] = read_json(folder / part / "config.json")
    with _noted(problems):
        sections = schedulers.read(read_json(folder / "scheduler" / "scheduler_config.json"))
    with _noted(problems):
        tokenizers = _tokenizers(folder, kind)
        problems += _strangers(modules) or [*_text_misfits(modules, tokenizers), *_misfits(kind, modules)]
        modules |= {part: _called(folder, kind, part, modules, tokenizers) for part in tokenizers if part in modules}
    if problems:
        raise ValueError(f"cannot use {folder}: {'; '.join(problems)}")
    return Described(name, index, configs, modules, tokenizers, *sections)


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Goes on after a ValueError, whose message joins the others."""
    try:
        yield
    except ValueError as error:
        problems.append(str(error))


def _tokenizers(folder: Path, kind: Kind) -> dict[str, Tokenizer]:
    """Each text encoder's; ValueError where they would read the same text as other tokens."""
    places = {encoder: _place(folder, encoder) for encoder in kind.encoders}
    found = {encoder: Tokenizer.from_json(folder_tokenizer(place), str(place)) for encoder, place in places.items()}
    first, *others = found.values()
    if any(other.backend.get_vocab() != first.backend.get_vocab() for other in others):
        raise ValueError("its tokenizers have different vocabularies, which is not supported")
    return found


def _place(folder: Path, encoder: str) -> Path:
    """The folder of a text encoder's tokenizer."""
    return folder / encoder.replace("text_encoder", "tokenizer")


def _called(
    folder: Path, kind: Kind, part: str, modules: Mapping[str, Any], tokenizers: Mapping[str, Tokenizer]
) -> nn.Module:
    """A text encoder as the pipeline calls it."""
    pad = folder_padding(_place(folder, part), tokenizers[part])
    return modules[part].clone(skip=kind.skip, normed=kind.normed, pad_id=pad)


def _strangers(modules: Mapping[str, nn.Module]) -> list[str]:
    """The networks that are of another class than their place wants."""
    wrong = [(part, module) for part, module in modules.items() if not isinstance(module, CLASSES[part])]
    return [f"its {part} is a {type(module).__name__}, not a {CLASSES[part].__name__}" for part, module in wrong]


def _text_misfits(modules: Mapping[str, Any], tokenizers: Mapping[str, Tokenizer]) -> list[str]:
    """The text encoders that lack embeddings for their tokenizer's entries."""
    pairs = [(part, tokenizers[part].vocab_size, modules[part].vocab_size) for part in tokenizers if part in modules]
    return [f"the tokenizer of its {part} has {n} entries, more than its {m}" for part, n, m in pairs if n > m]


def _misfits(kind: Kind, modules: Mapping[str, Any]) -> list[str]:
    """Where the UNet does not take what the text encoders and the VAE give, as far as they are there."""
    unet, latents = modules.get("unet"), modules.get("vae")
    clips = [modules[part] for part in kind.encoders if part in modules]
    found = []
    if unet and latents and {unet.in_channels, unet.out_channels} != {latents.latent_channels}:
        found.append(
            f"its UNet takes {unet.in_channels} channels and gives {unet.out_channels}, its VAE's latents have "
            f"{latents.latent_channels} (UNets that fill in parts of a picture are not supported)"
        )
    if unet and len(clips) == len(kind.encoders):
        width, vector = sum(clip.width for clip in clips), clips[-1].projection or clips[-1].width
        if unet.context_width != width or (unet.pooled and unet.vector_width != vector):
            found.append(
                f"its text encoders give tokens of {width} and a vector of {vector}, "
                f"its UNet takes {unet.context_width} and {unet.vector_width or 'none'}"
            )
    return found
