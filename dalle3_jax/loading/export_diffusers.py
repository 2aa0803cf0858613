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
from dalle3_jax.loading.stable_diffusion import PIPELINE_KINDS
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.clip_bpe import added_tokens, clip_files
from dalle3_jax.text.tokenizers import EOS, PAD, Tokenizer

__all__ = ["export_diffusers"]


def export_diffusers(release: Release, folder: Path, dtype: str) -> tuple[list[str], list[str]]:
    """Writes a folder for each network, and the pipeline around them where it came from one, whole or not at all.

    Returns the names of what was written, and why anything else could not be. Raises ValueError when no network could,
    and when something is in the way.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty; give another name")
    written, left = [], []
    with atomic_folder(folder) as temporary:
        for name in release.modules:
            try:
                _write_network(release, name, temporary / name, dtype)
                written.append(name)
            except ValueError as error:
                left.append(f"{name}: {error}")
        if not written:
            raise ValueError(f"nothing of this release has a public layout; {'; '.join(left)}")
        if release.tokenizer:
            written += _write_tokenizers(release, written, temporary)
        pipeline = release.training.get("pipeline")
        if pipeline in PIPELINE_KINDS:
            try:
                written += _write_pipeline(release, _pipeline_parts(pipeline, written), temporary)
            except ValueError as error:
                left.append(f"scheduler and model_index.json: {error}")
    return written, left


def _pipeline_parts(pipeline: str, written: Collection[str]) -> tuple[str, ...]:
    """The folders of a pipeline's networks; ValueError for one of which not all is written, or would not be read."""
    kind = PIPELINE_KINDS[pipeline]
    if lacking := [part for part in kind.components if part not in written]:
        raise ValueError(f"a {pipeline} has {', '.join(lacking)} too")
    if not kind.reads_text:
        raise ValueError(f"a {pipeline} has a feature extractor too, which is not written")
    return kind.components


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


def _write_tokenizers(release: Release, written: Collection[str], folder: Path) -> list[str]:
    """tokenizer.json and its config, with CLIP's two older files, for each text encoder that reads it."""
    tokenizer, targets = Tokenizer.from_json(release.tokenizer), []
    for name in (name for name in written if name in ("text_encoder", "text_encoder_2")):
        encoder, target = release.modules[name], folder / name.replace("text_encoder", "tokenizer")
        targets.append(target.name)
        target.mkdir()
        write_bytes(target / "tokenizer.json", release.tokenizer.encode())
        if not isinstance(encoder, CLIPTextEncoder):
            config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": PAD, "eos_token": EOS}
            _write_json(target / "tokenizer_config.json", config)
            continue
        pad = tokenizer.backend.id_to_token(tokenizer.pad if encoder.pad_id is None else encoder.pad_id)
        length = release.text.get("length", encoder.positions)
        config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "pad_token": pad}
        _write_json(target / "tokenizer_config.json", config)
        for file, text in zip(("vocab.json", "merges.txt"), clip_files(release.tokenizer), strict=True):
            write_bytes(target / file, text.encode())
        if added := added_tokens(release.tokenizer):
            _write_json(target / "added_tokens.json", added)
    return targets


def _write_pipeline(release: Release, parts: Collection[str], folder: Path) -> list[str]:
    """The scheduler's config and model_index.json."""
    scheduler = schedulers.write_scheduler(release.diffusion, release.sampling)
    (folder / "scheduler").mkdir()
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index: dict[str, Any] = {
        "_class_name": release.training["pipeline"],
        "scheduler": ["diffusers", class_name(scheduler)],
    }
    for name in parts:
        config = read_json(folder / name / "config.json")
        index[name] = ["transformers" if "architectures" in config else "diffusers", class_name(config)]
        if name.startswith("text_encoder"):
            index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    if "text_encoder_2" in parts:
        index["force_zeros_for_empty_prompt"] = bool(release.text.get("zero_null"))
    else:
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    _write_json(folder / "model_index.json", index)
    return ["scheduler", "model_index.json"]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
