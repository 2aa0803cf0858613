"""A release as folders that transformers and diffusers load: what they can express of it, and what they cannot."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dalle3_jax import convert
from dalle3_jax.checkpoints.folders import whole_folder
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.checkpoints.weights import write_bytes
from dalle3_jax.convert import schedulers, vae
from dalle3_jax.models.clip import CLIPTextEncoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.text.clip_bpe import clip_files
from dalle3_jax.text.tokenizers import Tokenizer

__all__ = ["publish"]


def publish(release: Release, folder: Path, dtype: str) -> tuple[list[str], list[str]]:
    """Writes a folder for each network, and the pipeline around them where it came from one, whole or not at all.

    Returns the names of what was written, and why each other network could not be. Raises ValueError when there is
    nothing that could be written, and when something is in the way.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty; give another name")
    written, left = [], []
    with whole_folder(folder) as temporary:
        for name in release.modules:
            try:
                _write_network(release, name, temporary / name, dtype)
                written.append(name)
            except ValueError as error:
                left.append(f"{name}: {error}")
        if not written:
            raise ValueError(f"nothing of this release has a public layout; {'; '.join(left)}")
        if release.tokenizer:
            written += _write_tokenizers(release, temporary)
        if "pipeline" in release.training and not left:
            _write_pipeline(release, temporary)
            written += ["scheduler", "model_index.json"]
    return written, left


def _write_network(release: Release, name: str, folder: Path, dtype: str) -> None:
    module, params = release.modules[name], release.params[name]
    if isinstance(module, UNet) and not module.context_width and "xfnet" in release.modules:
        adapter = release.modules["xfnet"]
        widths = {"context_width": adapter.width, "vector_width": adapter.vector_width if module.pooled else 0}
        module = module.clone(**widths)
    config, encoder = release.training.get("config", {}).get(name), None
    if name in release.decoders:
        encoder = (release.modules["vae"], release.params["vae"]) if "vae" in release.modules else None
        if (how := release.decoders[name]) != (public := convert.decoding({"scaling_factor": how.latent.scale[0]})):
            differ = [key for key, value in vars(public).items() if value != getattr(how, key) and key != "latent"]
            raise ValueError(f"diffusers' decoder is told nothing of its sampling, and this one has other {differ}")
    if "imported" not in release.training or not isinstance(config, dict):
        config = convert.config_of(module)
        if isinstance(module, VAE) and release.latent:
            config |= vae.latent_options(release.latent.shift, release.latent.scale)
    convert.save(folder, module, params, dtype=dtype, config=config, encoder=encoder)


def _write_tokenizers(release: Release, folder: Path) -> list[str]:
    """tokenizer.json, with CLIP's two older files, for each text encoder that reads it."""
    names = [name for name in release.modules if name in ("text_encoder", "text_encoder_2")]
    for name in names:
        encoder, target = release.modules[name], folder / name.replace("text_encoder", "tokenizer")
        target.mkdir()
        write_bytes(target / "tokenizer.json", release.tokenizer.encode())
        if isinstance(encoder, CLIPTextEncoder):
            tokenizer = Tokenizer.from_json(release.tokenizer)
            pad = tokenizer.backend.id_to_token(tokenizer.pad if encoder.pad_id is None else encoder.pad_id)
            told = {"tokenizer_class": "CLIPTokenizer", "model_max_length": encoder.positions, "pad_token": pad}
            _write_json(target / "tokenizer_config.json", told)
            for file, text in zip(("vocab.json", "merges.txt"), clip_files(release.tokenizer), strict=True):
                write_bytes(target / file, text.encode())
    return [name.replace("text_encoder", "tokenizer") for name in names]


def _write_pipeline(release: Release, folder: Path) -> None:
    """The scheduler's config and model_index.json."""
    (folder / "scheduler").mkdir()
    scheduler = schedulers.write(release.diffusion, release.sampling)
    _write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    index: dict[str, Any] = {"_class_name": release.training["pipeline"], "scheduler": ["diffusers", _class(scheduler)]}
    for name in release.modules:
        config = json.loads((folder / name / "config.json").read_bytes())
        index[name] = ["transformers" if "architectures" in config else "diffusers", _class(config)]
        if name.startswith("text_encoder"):
            index[name.replace("text_encoder", "tokenizer")] = ["transformers", "CLIPTokenizer"]
    if release.training["pipeline"] == "StableDiffusionPipeline":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    else:
        index["force_zeros_for_empty_prompt"] = bool(release.text.get("zero_null"))
    _write_json(folder / "model_index.json", index)


def _class(config: Mapping[str, Any]) -> str:
    return config["_class_name"] if "_class_name" in config else config["architectures"][0]


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
