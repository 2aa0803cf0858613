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
from dalle3_jax.models.upscaler import low_resolution_channels
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer, read_padding_id

__all__ = ["PIPELINE_KINDS", "PipelineDescription", "PipelineKind", "describe_pipeline"]


class PipelineKind(NamedTuple):
    """What a pipeline's class says and its files do not: whose features its UNet attends to, and its own guidance.

    `enlarges` is the factor of an upscaler, whose UNet takes the low-resolution image beside the latents.
    """

    encoders: tuple[str, ...]
    skip: int
    normed: bool
    guidance_scale: float
    enlarges: int = 0

    @property
    def components(self) -> tuple[str, ...]:
        """The folders of its networks."""
        return *self.encoders, "unet", "vae"


PIPELINE_KINDS = {
    "StableDiffusionPipeline": PipelineKind(("text_encoder",), skip=0, normed=True, guidance_scale=7.5),
    "StableDiffusionXLPipeline": PipelineKind(
        ("text_encoder", "text_encoder_2"), skip=1, normed=False, guidance_scale=5.0
    ),
    "StableDiffusionUpscalePipeline": PipelineKind(
        ("text_encoder",), skip=0, normed=True, guidance_scale=9.0, enlarges=4
    ),
}
COMPONENT_CLASSES = {"text_encoder": CLIPTextEncoder, "text_encoder_2": CLIPTextEncoder, "unet": UNet, "vae": VAE}


class PipelineDescription(NamedTuple):
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


def describe_pipeline(
    folder: Path, components: Collection[str] | None = None, variant: str | None = None
) -> PipelineDescription:
    """What a folder with a model_index.json says of itself; of the weights only the headers are read.

    Raises ValueError naming a class that cannot be read, or else everything that is missing, that is not supported and
    that does not fit together.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINE_KINDS:
        raise ValueError(f"{folder} names the class {name!r}; pipelines that can be read: {', '.join(PIPELINE_KINDS)}")
    kind, errors = PIPELINE_KINDS[name], []
    names = kind.components if components is None else tuple(components)
    if index.get("requires_aesthetics_score"):
        errors.append("it wants an aesthetic score (SDXL's refiner), which is not supported")
    if lacking := [
        part for part in names if part not in kind.components or not (folder / part / "config.json").is_file()
    ]:
        errors.append(
            f"it lacks {', '.join(lacking)}: a {name} has {', '.join(kind.components)}, each with config.json"
        )
    configs, modules, tokenizers, sections = {}, {}, {}, ({}, {})
    for part in (part for part in names if part not in lacking):
        with _collecting_errors(errors):
            modules[part] = convert.read_module(folder / part, variant)
            configs[part] = read_json(folder / part / "config.json")
    with _collecting_errors(errors):
        sections = schedulers.read_scheduler(read_json(folder / "scheduler" / "scheduler_config.json"))
    with _collecting_errors(errors):
        tokenizers = _load_tokenizers(folder, kind)
        errors += _class_errors(modules) or [*_vocabulary_errors(modules, tokenizers), *_width_errors(kind, modules)]
        modules |= {
            part: _configure_text_encoder(folder, kind, part, modules, tokenizers)
            for part in tokenizers
            if part in modules
        }
    if errors:
        raise ValueError(f"cannot use {folder}: {'; '.join(errors)}")
    return PipelineDescription(name, index, configs, modules, tokenizers, *sections)


@contextmanager
def _collecting_errors(errors: list[str]) -> Iterator[None]:
    """Goes on after a ValueError, whose message joins the others."""
    try:
        yield
    except ValueError as error:
        errors.append(str(error))


def _load_tokenizers(folder: Path, kind: PipelineKind) -> dict[str, Tokenizer]:
    """Each text encoder's; ValueError where they would read the same text as other tokens."""
    places = {encoder: _tokenizer_folder(folder, encoder) for encoder in kind.encoders}
    found = {
        encoder: Tokenizer.from_json(read_folder_tokenizer(place), str(place)) for encoder, place in places.items()
    }
    first, *others = found.values()
    if any(other.backend.get_vocab() != first.backend.get_vocab() for other in others):
        raise ValueError("its tokenizers have different vocabularies, which is not supported")
    return found


def _tokenizer_folder(folder: Path, encoder: str) -> Path:
    """The folder of a text encoder's tokenizer."""
    return folder / encoder.replace("text_encoder", "tokenizer")


def _configure_text_encoder(
    folder: Path, kind: PipelineKind, part: str, modules: Mapping[str, Any], tokenizers: Mapping[str, Tokenizer]
) -> nn.Module:
    """A text encoder as the pipeline calls it."""
    pad = read_padding_id(_tokenizer_folder(folder, part), tokenizers[part])
    return modules[part].clone(skip=kind.skip, normed=kind.normed, pad_id=pad)


def _class_errors(modules: Mapping[str, nn.Module]) -> list[str]:
    """The networks that are of another class than their place wants."""
    wrong = [(part, module) for part, module in modules.items() if not isinstance(module, COMPONENT_CLASSES[part])]
    return [
        f"its {part} is a {type(module).__name__}, not a {COMPONENT_CLASSES[part].__name__}" for part, module in wrong
    ]


def _vocabulary_errors(modules: Mapping[str, Any], tokenizers: Mapping[str, Tokenizer]) -> list[str]:
    """The text encoders that lack embeddings for their tokenizer's entries."""
    pairs = [(part, tokenizers[part].vocab_size, modules[part].vocab_size) for part in tokenizers if part in modules]
    return [f"the tokenizer of its {part} has {n} entries, more than its {m}" for part, n, m in pairs if n > m]


def _width_errors(kind: PipelineKind, modules: Mapping[str, Any]) -> list[str]:
    """Where the UNet does not take what the text encoders and the VAE give, as far as they are there."""
    unet, latents = modules.get("unet"), modules.get("vae")
    clips = [modules[part] for part in kind.encoders if part in modules]
    found = []
    if unet and latents:
        beside = low_resolution_channels(kind.enlarges, latents.factor) if kind.enlarges else 0
        if (unet.in_channels - beside, unet.out_channels) != (latents.latent_channels,) * 2:
            found.append(
                f"its UNet takes {unet.in_channels} channels and gives {unet.out_channels}, its VAE's latents have "
                f"{latents.latent_channels}{f' and the image beside them {beside}' if beside else ''} (UNets that fill "
                "in parts of a picture are not supported)"
            )
    if unet and (unet.level_entries is not None) != bool(kind.enlarges):
        found.append(f"its UNet has num_class_embeds={unet.level_entries}: upscalers have noise levels, others none")
    if unet and len(clips) == len(kind.encoders):
        width, vector = sum(clip.width for clip in clips), clips[-1].projection or clips[-1].width
        if unet.context_width != width or (unet.pooled and unet.vector_width != vector):
            found.append(
                f"its text encoders give tokens of {width} and a vector of {vector}, "
                f"its UNet takes {unet.context_width} and {unet.vector_width or 'none'}"
            )
    return found
