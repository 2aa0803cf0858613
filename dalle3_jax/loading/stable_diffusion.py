"""The description of a Stable Diffusion or SDXL pipeline's folder, and whether its parts fit together."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.convert import schedulers
from dalle3_jax.convert.folders import choose_variants, file_names, read_json
from dalle3_jax.models.clip import CLIPTextEncoder, CLIPVisionEncoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.upscaler import low_resolution_channels
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.tokenizers import Tokenizer, read_folder_tokenizer, read_max_length, read_padding_id

__all__ = ["PIPELINE_KINDS", "REFINER_SIZE_IDS", "PipelineDescription", "PipelineKind", "describe_pipeline"]


class PipelineKind(NamedTuple):
    """The facts that a pipeline's class says and its files do not.

    Whose features its UNet attends to, its own guidance and steps, the side of the latents where no config says it, the
    options that its scheduler has whatever its config says, and whether its VAE decodes in float32 when all else is in
    float16. `enlarges` is the factor of an upscaler, whose UNet takes the low-resolution image beside the latents; a
    `guided_unet` takes the guidance scale; one that `inpaints` a mask and the latents of the image around it, in
    folders that have such a UNet; one that `refines` (SDXL's refiner) the second text encoder and an aesthetic score.
    """

    encoders: tuple[str, ...]
    skip: int
    normed: bool
    guidance_scale: float
    side: int
    scheduler: Mapping[str, Any] = MappingProxyType({})
    upcast_vae: bool = False
    enlarges: int = 0
    steps: int = 50
    guided_unet: bool = False
    inpaints: bool = False
    refines: bool = False

    @property
    def reads_text(self) -> bool:
        """Whether it is prompted by text; else by images alone."""
        return "image_encoder" not in self.encoders

    @property
    def components(self) -> tuple[str, ...]:
        """The folders of its networks."""
        return *self.encoders, "unet", "vae"

    @property
    def size_ids(self) -> int:
        """The size ids of its UNet, where that takes any: a refiner has the score in place of the target's size."""
        return REFINER_SIZE_IDS if self.refines else SIZE_IDS

    def folder(self, component: str) -> str:
        """The folder of a component: a refiner's one text encoder lies in that of the second."""
        folders = FOLDERS | ({"text_encoder": self.encoders[0]} if self.reads_text else {})
        return folders.get(component, component)

    def as_refiner(self) -> "PipelineKind":
        """The kind of SDXL's refiner, whose class is that of image to image."""
        return self._replace(encoders=self.encoders[1:], refines=True)


PIPELINE_KINDS = {
    "StableDiffusionPipeline": PipelineKind(
        encoders=("text_encoder",),
        skip=0,
        normed=True,
        guidance_scale=7.5,
        side=64,
        scheduler=MappingProxyType({"steps_offset": 1, "clip_sample": False}),
    ),
    "LatentConsistencyModelPipeline": PipelineKind(
        encoders=("text_encoder",), skip=0, normed=True, guidance_scale=8.5, side=64, steps=4, guided_unet=True
    ),
    "StableDiffusionXLPipeline": PipelineKind(
        encoders=("text_encoder", "text_encoder_2"),
        skip=1,
        normed=False,
        guidance_scale=5.0,
        side=128,
        upcast_vae=True,
    ),
    "StableDiffusionUpscalePipeline": PipelineKind(
        encoders=("text_encoder",), skip=0, normed=True, guidance_scale=9.0, side=128, upcast_vae=True, enlarges=4
    ),
}
PIPELINE_KINDS["StableDiffusionImageVariationPipeline"] = PipelineKind(
    encoders=("image_encoder",), skip=0, normed=True, guidance_scale=7.5, side=64
)
SIZE_IDS, REFINER_SIZE_IDS = 6, 5
"""Of SDXL's UNet, and of its refiner's."""
FOLDERS = {"upscaler": "unet"}
"""The folder of a component where it bears another name."""
POSITIONS = 77
"""Tokens of a text where no file says them."""
PIPELINE_KINDS |= {
    f"{name}{task}Pipeline": PIPELINE_KINDS[f"{name}Pipeline"]._replace(inpaints=task == "Inpaint")
    for name in ("StableDiffusion", "StableDiffusionXL")
    for task in ("Img2Img", "Inpaint")
}
COMPONENT_CLASSES = {"text_encoder": CLIPTextEncoder, "text_encoder_2": CLIPTextEncoder, "unet": UNet, "vae": VAE}
COMPONENT_CLASSES |= {"image_encoder": CLIPVisionEncoder}


class PipelineDescription(NamedTuple):
    """A pipeline's folder but for its weights: its networks or some of them, and what goes with them.

    `options` are those of model_index.json. `networks` are as their folders have them, `modules` as the pipeline calls
    them.
    """

    folder: Path
    name: str
    kind: PipelineKind
    options: dict[str, Any]
    networks: dict[str, convert.Opened]
    modules: dict[str, Any]
    tokenizers: dict[str, Tokenizer]
    length: int
    diffusion: dict[str, Any]
    sampling: dict[str, Any]


def describe_pipeline(
    folder: Path, components: Collection[str] | None = None, variant: str | None = None
) -> PipelineDescription:
    """The description of a folder with a model_index.json; of the weights only the headers are read.

    Raises ValueError naming a class that cannot be read, or else everything that is missing, that is not supported and
    that does not fit together.
    """
    index = read_json(folder / "model_index.json")
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINE_KINDS:
        raise ValueError(f"{folder} names the class {name!r}; pipelines that can be read: {', '.join(PIPELINE_KINDS)}")
    kind, errors = _pipeline_kind(name, index), []
    names = kind.components if components is None else tuple(map(kind.folder, components))
    if kind.refines and "text_encoder_2" in (components or ()):
        errors.append("its one text encoder, of the folder text_encoder_2, is the component text_encoder: ask for that")
    if lacking := [
        part for part in names if part not in kind.components or not (folder / part / "config.json").is_file()
    ]:
        errors.append(
            f"it lacks {', '.join(lacking)}: a {name} has {', '.join(kind.components)}, each with config.json"
        )
    networks, tokenizers, sections, length = {}, {}, ({}, {}), POSITIONS
    there = [part for part in names if part not in lacking]
    variants = choose_variants({part: file_names(folder / part) for part in there}, variant)
    for part in there:
        with _collecting_errors(errors):
            networks[part] = convert.open(folder / part, variants[part], _named_class(index, part))
    modules: dict[str, Any] = {part: network.module for part, network in networks.items()}
    with _collecting_errors(errors):
        sections = _read_scheduler(folder, kind, index)
    with _collecting_errors(errors):
        tokenizers = _load_tokenizers(folder, kind)
        errors += _class_errors(modules) or [*_vocabulary_errors(modules, tokenizers), *_width_errors(kind, modules)]
        length = _text_length(folder, kind, modules)
        modules |= {
            part: _configure_text_encoder(folder, kind, part, modules, tokenizers)
            for part in tokenizers
            if part in modules
        }
    if errors:
        raise ValueError(f"cannot use {folder}: {'; '.join(errors)}")
    return PipelineDescription(folder, name, kind, index, networks, modules, tokenizers, length, *sections)


def _pipeline_kind(name: str, index: Mapping[str, Any]) -> PipelineKind:
    """The kind of a class; SDXL's refiner is one of image to image that wants an aesthetic score."""
    kind = PIPELINE_KINDS[name]
    if index.get("requires_aesthetics_score") and len(kind.encoders) > 1:
        return kind.as_refiner()
    return kind


def _read_scheduler(
    folder: Path, kind: PipelineKind, index: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The diffusion and sampling sections, of the class that model_index.json names.

    guidance_rescale rescales what the network predicts, as diffusers does it.
    """
    config = read_json(folder / "scheduler" / "scheduler_config.json")
    diffusion, sampling = schedulers.read_scheduler(config, _named_class(index, "scheduler"), kind.scheduler)
    return diffusion | {"guidance_rescale_of": diffusion["prediction"]}, sampling


def _named_class(index: Mapping[str, Any], part: str) -> str | None:
    """The class of a part that model_index.json names: [library, class]; None where it names none."""
    named = index.get(part)
    return named[1] if isinstance(named, list) and len(named) == 2 and isinstance(named[1], str) else None


@contextmanager
def _collecting_errors(errors: list[str]) -> Iterator[None]:
    """Goes on after a ValueError, whose message joins the others."""
    try:
        yield
    except ValueError as error:
        errors.append(str(error))


def _load_tokenizers(folder: Path, kind: PipelineKind) -> dict[str, Tokenizer]:
    """Each text encoder's; ValueError where they would read the same text as other tokens."""
    encoders = kind.encoders if kind.reads_text else ()
    places = {encoder: _tokenizer_folder(folder, encoder) for encoder in encoders}
    tokenizers = {
        encoder: Tokenizer.from_json(read_folder_tokenizer(place), str(place)) for encoder, place in places.items()
    }
    vocabularies = [tokenizer.backend.get_vocab() for tokenizer in tokenizers.values()]
    if any(vocabulary != vocabularies[0] for vocabulary in vocabularies):
        raise ValueError("its tokenizers have different vocabularies, which is not supported")
    return tokenizers


def _text_length(folder: Path, kind: PipelineKind, modules: Mapping[str, Any]) -> int:
    """Tokens of a text: what its tokenizers say, which are cut and padded to it, else the positions of its encoders."""
    if not kind.reads_text:
        return 0
    positions = [modules[part].positions for part in kind.encoders if isinstance(modules.get(part), CLIPTextEncoder)]
    lengths = {encoder: read_max_length(_tokenizer_folder(folder, encoder)) for encoder in kind.encoders}
    cuts = sorted({length or min(positions, default=POSITIONS) for length in lengths.values()})
    if len(cuts) > 1:
        raise ValueError(f"its tokenizers cut texts to {' and '.join(map(str, cuts))} tokens, which must be one number")
    return min([*cuts, *positions])


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
    """Errors where the UNet does not take what the text encoders and the VAE give, as far as they are there."""
    unet, latents = modules.get("unet"), modules.get("vae")
    clips = [modules[part] for part in kind.encoders if part in modules]
    errors = []
    if unet and latents:
        beside = low_resolution_channels(kind.enlarges, latents.factor) if kind.enlarges else 0
        beside = latents.latent_channels + 1 if kind.inpaints and unet.in_channels != unet.out_channels else beside
        if (unet.in_channels - beside, unet.out_channels) != (latents.latent_channels,) * 2:
            errors.append(
                f"its UNet takes {unet.in_channels} channels and gives {unet.out_channels}, its VAE's latents have "
                f"{latents.latent_channels}{f' and what is shown beside them {beside}' if beside else ''}"
            )
    if unet and (unet.level_entries is not None) != bool(kind.enlarges):
        errors.append(f"its UNet has num_class_embeds={unet.level_entries}: upscalers have noise levels, others none")
    if unet and unet.pooled and unet.size_ids != kind.size_ids:
        errors.append(
            f"its UNet takes {unet.size_ids or 'no'} size ids, and a pipeline of its kind has {kind.size_ids} "
            f"({REFINER_SIZE_IDS}: SDXL's refiner, whose model_index.json says requires_aesthetics_score)"
        )
    if unet and kind.guided_unet and not unet.guidance_width:
        errors.append("its UNet has no time_cond_proj_dim, by which latent consistency models take the guidance scale")
    if unet and len(clips) == len(kind.encoders):
        vector = clips[-1].projection or clips[-1].width
        width = sum(clip.width for clip in clips) if kind.reads_text else vector
        if unet.context_width != width or (unet.pooled and unet.vector_width != vector):
            read = "text" if kind.reads_text else "image"
            errors.append(
                f"its {read} encoders give tokens of {width} and a vector of {vector}, "
                f"its UNet takes {unet.context_width} and {unet.vector_width or 'none'}"
            )
    return errors
