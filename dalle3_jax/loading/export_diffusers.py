"""A release as folders that transformers and diffusers load: what they can express of it, and what they cannot."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from flax import linen as nn

from dalle3_jax import convert
from dalle3_jax.checkpoints.latents import DecoderSettings
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.checkpoints.weights import write_bytes
from dalle3_jax.convert import schedulers, vae
from dalle3_jax.convert.folders import class_name, read_json
from dalle3_jax.files import atomic_folder
from dalle3_jax.loading.stable_diffusion import PIPELINE_KINDS, REFINER_SIZE_IDS, PipelineKind
from dalle3_jax.models.clip import CLIP_MEAN, CLIP_STD, CLIPTextEncoder, CLIPVisionEncoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.clip_bpe import added_tokens, clip_files
from dalle3_jax.text.tokenizers import EOS, PAD, Tokenizer

__all__ = ["export_diffusers"]

TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


def export_diffusers(release: Release, folder: Path, dtype: str) -> tuple[list[str], list[str]]:
    """Writes a folder for each network, and the pipeline around them where it came from one, whole or not at all.

    Returns the names of what was written, and why anything else could not be. Raises ValueError when no network could,
    and when something is in the way.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty; give another name")
    written, left, kind = [], [], _pipeline_kind(release)
    places = {name: kind.folder(name) if kind and name in TEXT_ENCODERS else name for name in release.modules}
    with atomic_folder(folder) as temporary:
        for name, place in places.items():
            try:
                _write_network(release, name, temporary / place, dtype)
                written.append(place)
            except ValueError as error:
                left.append(f"{name}: {error}")
        if not written:
            raise ValueError(f"nothing of this release has a public layout; {'; '.join(left)}")
        readers = [name for name in TEXT_ENCODERS if release.tokenizer and places.get(name) in written]
        written += [_write_tokenizer(release, name, temporary / _tokenizer_folder(places[name])) for name in readers]
        if kind:
            try:
                written += _write_pipeline(release, kind, written, temporary)
            except ValueError as error:
                left.append(f"scheduler and model_index.json: {error}")
    return written, left


def _pipeline_kind(release: Release) -> PipelineKind | None:
    """The kind of the pipeline that a release came from; SDXL's refiner is told by its UNet. None of our own."""
    kind, unet = PIPELINE_KINDS.get(str(release.training.get("pipeline"))), release.modules.get("unet")
    if kind and len(kind.encoders) > 1 and isinstance(unet, UNet) and unet.size_ids == REFINER_SIZE_IDS:
        return kind.as_refiner()
    return kind


def _write_network(release: Release, name: str, folder: Path, dtype: str) -> None:
    module, params, encoder = release.modules[name], release.params[name], None
    if name in release.decoders:
        _check_decoding(release.decoders[name])
        if isinstance(beside := release.modules.get("vae"), VAE):
            encoder = beside, release.params["vae"]
    config = _imported_config(release, name) or _new_config(release, name, module)
    convert.save(folder, module, params, dtype=dtype, config=config, encoder=encoder)


def _imported_config(release: Release, name: str) -> dict[str, Any] | None:
    """The config.json that a network came with, where it did."""
    training = release.training.get("decoders", {}).get(name, release.training)
    return training.get("config", {}).get(name) if "imported" in training else None


def _new_config(release: Release, name: str, module: nn.Module) -> dict[str, Any]:
    """The config.json of a network that never had one: with what its neighbours know of it."""
    if isinstance(module, UNet) and not module.context_width and "xfnet" in release.modules:
        xfnet = release.modules["xfnet"]
        module = module.clone(context_width=xfnet.width, vector_width=xfnet.vector_width if module.pooled else 0)
    config = convert.public_config(module)
    if isinstance(module, VAE) and release.latent:
        return config | vae.latent_options(release.latent.shift, release.latent.scale)
    if name in release.decoders:
        return config | {"scaling_factor": release.decoders[name].latent.scale[0]}
    return config


def _check_decoding(decoding: DecoderSettings) -> None:
    """ValueError unless diffusers would call a decoder as this release does: no file tells it how."""
    public = convert.decoder_settings({})
    differ = [key for key, value in vars(public).items() if key != "latent" and getattr(decoding, key) != value]
    if {*decoding.latent.shift} != {0.0} or len({*decoding.latent.scale}) != 1:
        differ.append("latent")
    if differ:
        raise ValueError(f"diffusers calls a consistency decoder in its own way, and this one has other {differ}")


def _tokenizer_folder(encoder: str) -> str:
    """The folder of the tokenizer of a text encoder's folder."""
    return encoder.replace("text_encoder", "tokenizer")


def _write_tokenizer(release: Release, name: str, folder: Path) -> str:
    """Writes tokenizer.json and its config, with CLIP's two older files, for a text encoder; returns folder's name."""
    tokenizer, encoder = Tokenizer.from_json(release.tokenizer), release.modules[name]
    folder.mkdir()
    write_bytes(folder / "tokenizer.json", release.tokenizer.encode())
    if not isinstance(encoder, CLIPTextEncoder):
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": EOS}
        _write_json(folder / "tokenizer_config.json", config)
        return folder.name
    pad = tokenizer.backend.id_to_token(tokenizer.pad if encoder.pad_id is None else encoder.pad_id)
    length = release.text.get("length", encoder.positions)
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "pad_token": pad}
    _write_json(folder / "tokenizer_config.json", config)
    for file, text in zip(("vocab.json", "merges.txt"), clip_files(release.tokenizer), strict=True):
        write_bytes(folder / file, text.encode())
    if added := added_tokens(release.tokenizer):
        _write_json(folder / "added_tokens.json", added)
    return folder.name


def _write_pipeline(release: Release, kind: PipelineKind, written: Collection[str], folder: Path) -> list[str]:
    """The scheduler's config, model_index.json, and of a pipeline of images alone the config of what prepares those.

    Returns their names; ValueError for a pipeline of which not all is written, or a scheduler that cannot be.
    """
    pipeline = release.training["pipeline"]
    if lacking := [part for part in kind.components if part not in written]:
        raise ValueError(f"a {pipeline} has {', '.join(lacking)} too")
    scheduler = schedulers.write_scheduler(release.diffusion, release.sampling)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index: dict[str, Any] = {"_class_name": pipeline, "scheduler": ["diffusers", class_name(scheduler)]}
    for part in kind.components:
        config = read_json(folder / part / "config.json")
        index[part] = ["transformers" if "architectures" in config else "diffusers", class_name(config)]
        if part.startswith("text_encoder"):
            index[_tokenizer_folder(part)] = ["transformers", "CLIPTokenizer"]
    if "text_encoder_2" in kind.components:
        index["force_zeros_for_empty_prompt"] = bool(release.text.get("zero_null"))
    else:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    if kind.refines:
        index |= {"text_encoder": [None, None], "tokenizer": [None, None], "requires_aesthetics_score": True}
    if isinstance(encoder := release.modules.get("image_encoder"), CLIPVisionEncoder) and not kind.reads_text:
        _write_json(folder / "feature_extractor" / "preprocessor_config.json", _image_preprocessor(encoder.image_size))
        index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    _write_json(folder / "model_index.json", index)
    return ["scheduler", "model_index.json", *(["feature_extractor"] if index.get("feature_extractor", [0])[0] else [])]


def _image_preprocessor(side: int) -> dict[str, Any]:
    """The preprocessor_config.json of CLIP's images of this side, as SD image variations' own has it."""
    return {
        "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor",
        **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), True),
        "size": {"shortest_edge": side},
        "crop_size": {"height": side, "width": side},
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": CLIP_MEAN,
        "image_std": CLIP_STD,
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
