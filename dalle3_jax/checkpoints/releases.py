"""Releases: a folder with everything a trained system needs to make pictures, and nothing that could run.

model.json         classes and fields of the networks, files with their SHA-256, latent statistics, defaults
*.safetensors      the weights, 15 MB a file or a 64th of them all, dotted parameter paths
tokenizer.json     MODEL_CARD.md
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Sharding

from dalle3_jax.checkpoints.int8 import INT8, Quantized, input_axes, joined
from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.checkpoints.model_card import model_card
from dalle3_jax.checkpoints.placing import Piece, place_arrays
from dalle3_jax.checkpoints.release_record import format_version, is_release, read_record, seal_record
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.checkpoints.tensors import is_finite
from dalle3_jax.checkpoints.upscaler_settings import UpscalerSettings
from dalle3_jax.checkpoints.weights import (
    BESIDE_INT8,
    BYTES_PER_FILE,
    TYPES,
    check_release_type,
    read_weights,
    sha256,
    stored_values,
    write_bytes,
    write_weights,
)
from dalle3_jax.files import atomic_folder
from dalle3_jax.models.build import build_module, module_fields, module_kind
from dalle3_jax.typing import Params

__all__ = ["Release", "check_target", "load_release", "save_release", "weights_digest"]

FILES = 64
"""About as many files as a release has at most: large ones have larger files than the 15 MB that suit a repository."""


@dataclass(frozen=True)
class Release:
    """Networks with their parameters and all that sampling needs to know about them; sizes are (height, width)."""

    modules: dict[str, nn.Module]
    params: dict[str, Params]
    latent: Latent | None = None
    decoders: dict[str, DecoderSettings] = field(default_factory=dict)
    upscaler: UpscalerSettings | None = None
    diffusion: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[tuple[int, int], ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""
    digest: str = ""  # SHA-256 of model.json's content, which holds those of all files; "" when it was never saved


def save_release(folder: str | Path, release: Release, dtype: str = "float16") -> None:
    """Writes the release beside `folder` and renames it into place; replaces an older release, nothing else.

    With "int8" the matrices have 8 bits and a scale for each output channel, everything else is float16.
    Raises ValueError when parameters do not fit their networks or a value does not fit `dtype`.
    """
    folder = Path(folder)
    stored = check_release_type(dtype)
    check_target(folder)
    tensors = {name: _leaves_by_name(jax.device_get(params)) for name, params in release.params.items()}
    if release.modules.keys() != release.params.keys():
        raise ValueError("a release holds the same components as modules and as params")
    shapes = abstract_params(release.modules)
    _check_shapes(shapes, tensors)
    axes = {name: input_axes(tree) for name, tree in shapes.items()}
    values = sum(value.size for flat in tensors.values() for value in flat.values())
    limit = max(BYTES_PER_FILE, values * stored.itemsize // FILES)
    with atomic_folder(folder) as temporary:
        record = _write_contents(release, stored, temporary, tensors, axes, limit)
        write_bytes(temporary / "MODEL_CARD.md", model_card(record).encode())
        write_bytes(temporary / "model.json", (json.dumps(record, indent=1) + "\n").encode())


def check_target(folder: str | Path) -> None:
    """Raises ValueError where something else than a release would be in the way of one."""
    folder = Path(folder)
    if folder.exists() and not is_release(folder) and not _is_empty_folder(folder):
        raise ValueError(f"{folder} exists and is not a release; give another name")


def load_release(
    folder: str | Path,
    components: Collection[str] | None = None,
    dtype: Any = None,
    shardings: Sharding | Callable[[Any], Any] | None = None,
) -> Release:
    """Reads a release, or only some components of it, and verifies every byte before anything is computed.

    Parameters and computation are float32 unless `dtype` says otherwise. `shardings` is where leaves go: one sharding
    for all, or a function from the boxed shapes {component: tree} to a like tree of shardings.
    Raises ValueError that names the file and the remedy.
    """
    folder = Path(folder)
    record = read_record(folder)
    names = list(record["components"] if components is None else components)
    if unknown := sorted(set(names) - set(record["components"])):
        raise ValueError(f"{folder} lacks {', '.join(unknown)}; it holds {', '.join(record['components'])}")
    try:
        modules = {name: _build_module(part, dtype) for name, part in record["components"].items()}
        files = {name: _read_component(folder, record["components"][name]) for name in names}
        shapes = abstract_params(modules, names)
        tensors = {name: _parameters(record["components"][name], files[name], shapes[name]) for name in names}
        _check_shapes(shapes, tensors)
        latent = record["latent"] and Latent(**_lists_to_tuples(record["latent"]))
        decoders = {name: _parse_decoder_settings(part) for name, part in record.get("decoders", {}).items()}
        upscaler = _parse_upscaler_settings(record["upscaler"]) if "upscaler" in record else None
    except (ValueError, TypeError) as error:
        raise ValueError(f"cannot use the release {folder}: {error}") from None
    return Release(
        modules={name: modules[name] for name in names},
        params=_place_params(tensors, shapes, jnp.dtype(dtype or jnp.float32), shardings),
        latent=latent,
        decoders={name: part for name, part in decoders.items() if name in names},
        upscaler=upscaler if "upscaler" in names else None,
        sizes=tuple((height, width) for height, width in record["sizes"]),
        tokenizer=_read_tokenizer(folder, record["tokenizer"]),
        digest=record["sha256"],
        **{key: record[key] for key in ("diffusion", "text", "sampling", "training")},
    )


def weights_digest(params: Params) -> str:
    """SHA-256 of parameters by name, shape and float32 value: the identity of a network whatever file it lies in."""
    digest = hashlib.sha256()
    for name, value in sorted(flatten_dict(nn.unbox(params), sep=".").items()):
        value = np.asarray(jax.device_get(value), np.float32)
        digest.update(f"{name}{value.shape}".encode() + np.ascontiguousarray(value).astype("<f4").tobytes())
    return digest.hexdigest()


def _leaves_by_name(params: Params) -> dict[str, Any]:
    """Dotted names and values."""
    return flatten_dict(nn.unbox(params), sep=".")


def _write_contents(
    release: Release,
    dtype: np.dtype,
    folder: Path,
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    axes: Mapping[str, Mapping[str, tuple[int, ...]]],
    limit: int,
) -> dict:
    """Writes weights and tokenizer into `folder` and returns the content of model.json."""
    components = {
        name: {
            "class": module_kind(module),
            "fields": module_fields(module),
            "parameters": sum(value.size for value in tensors[name].values()),
            "dtype": dtype.name,
            "files": write_weights(folder, name, tensors[name], dtype, axes=axes[name], limit=limit),
        }
        for name, module in release.modules.items()
    }
    latent = release.latent
    if latent and "vae" in tensors:  # of the values as stored, so that it holds for whoever loads them
        latent = replace(latent, vae=weights_digest(stored_values(tensors["vae"], dtype, axes["vae"])))
    own = release.latent  # decoders of these latents go on being so
    decoders = {name: replace(of, latent=latent) if of.latent == own else of for name, of in release.decoders.items()}
    upscaler = release.upscaler
    if upscaler and upscaler.latent == own:
        upscaler = replace(upscaler, latent=latent)
    tokenizer = release.tokenizer.encode()
    if tokenizer:
        write_bytes(folder / "tokenizer.json", tokenizer)
    content = {
        "format_version": format_version(components, release.diffusion),
        "components": components,
        "latent": latent and asdict(latent),
        "decoders": {name: asdict(decoding) for name, decoding in decoders.items()},
        **({"upscaler": asdict(upscaler)} if upscaler else {}),
        "tokenizer": {"file": "tokenizer.json", "sha256": sha256(tokenizer)} if tokenizer else None,
        **{key: getattr(release, key) for key in ("diffusion", "text", "sizes", "sampling", "training")},
    }
    return seal_record(content)


def _build_module(part: Mapping[str, Any], dtype: Any) -> nn.Module:
    return build_module(part["class"], part["fields"], dtype=dtype or jnp.float32)


def _read_component(folder: Path, part: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Views of the component's tensors by dotted name, out of all its files."""
    tensors = {}
    for file, digest in part["files"].items():
        for name, value in read_weights(folder / file, digest).items():
            if name in tensors:
                raise ValueError(f"{name} is in two files, the second being {file}")
            if value.dtype not in TYPES.get(part["dtype"], ()):
                raise ValueError(f"{name} in {file} is {value.dtype}, model.json says {part['dtype']}")
            if value.dtype != INT8 and not is_finite(value):
                raise ValueError(f"{name} in {file} holds values that are not finite")
            tensors[name] = value
    return tensors


def _parameters(part: Mapping[str, Any], tensors: dict[str, np.ndarray], shapes: Any) -> Mapping[str, Any]:
    """The component's parameters by dotted name: its tensors, or those that they and their scales stand for."""
    return joined(tensors, input_axes(shapes), BESIDE_INT8) if part["dtype"] == INT8.name else tensors


def _check_shapes(shapes: Mapping[str, Any], tensors: Mapping[str, Mapping[str, np.ndarray | Quantized]]) -> None:
    """Raises ValueError that lists how the tensors differ from what their networks take."""
    errors = []
    for component, tree in shapes.items():
        leaves = _leaves_by_name(tree)
        expected = {name: leaf.shape for name, leaf in leaves.items()}
        stored = {name: value.shape for name, value in tensors[component].items()}
        errors += [f"{component} lacks {name}" for name in sorted(expected.keys() - stored.keys())]
        errors += [f"{component} has no place for {name}" for name in sorted(stored.keys() - expected.keys())]
        errors += [
            f"{component}.{name} is {stored[name]} and should be {expected[name]}"
            for name in sorted(expected.keys() & stored.keys())
            if expected[name] != stored[name]
        ]
    if errors:
        more = f"; and {len(errors) - 8} more" if len(errors) > 8 else ""
        raise ValueError("parameters do not fit the networks: " + "; ".join(errors[:8]) + more)


def _place_params(
    tensors: Mapping[str, Mapping[str, np.ndarray | Quantized]],
    shapes: Mapping[str, Any],
    dtype: np.dtype,
    shardings: Any,
) -> dict[str, Params]:
    """Parameter trees on their devices."""
    if shardings is None or isinstance(shardings, Sharding):
        wanted: Mapping[str, Any] = {name: dict.fromkeys(flat, shardings) for name, flat in tensors.items()}
    else:
        asked = jax.tree.broadcast(shardings(shapes), nn.unbox(shapes))  # one may stand for many
        wanted = {name: _leaves_by_name(tree) for name, tree in asked.items()}
    trees = {}
    for name, flat in tensors.items():
        pieces = (Piece(path, None, view) for path, view in flat.items())
        trees[name] = unflatten_dict(place_arrays(pieces, {}, dtype, wanted[name]), sep=".")
    return trees


def _read_tokenizer(folder: Path, entry: Mapping[str, str] | None) -> str:
    if not entry:
        return ""
    path = folder / "tokenizer.json"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}; copy the release again") from None
    if sha256(data) != entry["sha256"]:
        raise ValueError(f"{path} is damaged: its SHA-256 is not model.json's; copy or export the release again")
    return data.decode()


def _parse_decoder_settings(part: Mapping[str, Any]) -> DecoderSettings:
    return DecoderSettings(**{**_lists_to_tuples(part), "latent": Latent(**_lists_to_tuples(part["latent"]))})


def _parse_upscaler_settings(part: Mapping[str, Any]) -> UpscalerSettings:
    latent = part.get("latent") and Latent(**_lists_to_tuples(part["latent"]))
    return UpscalerSettings(**{**_lists_to_tuples(part), "latent": latent})


def _lists_to_tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}


def _is_empty_folder(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
