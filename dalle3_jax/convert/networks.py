"""One network: a folder with config.json and safetensors <-> a module and its parameters."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Sharding
from tqdm import tqdm

from dalle3_jax.checkpoints.placing import Piece, map_ahead, place_arrays
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.checkpoints.tensors import have_same_bytes
from dalle3_jax.checkpoints.weights import parse_dtype, split_by_size, write_bytes, write_part
from dalle3_jax.convert import clip, decoder, t5, unet, vae
from dalle3_jax.convert.configs import check_extent
from dalle3_jax.convert.folders import class_name, no_weights_message, read_json, weight_files
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Move, export_moves, import_moves, matches
from dalle3_jax.convert.shards import Shards
from dalle3_jax.files import atomic_folder, is_stray
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.typing import Params

__all__ = ["LAYOUTS", "load", "public_config", "read_module", "save", "stored_types"]

LAYOUTS: dict[str, NetworkLayout] = {
    "T5EncoderModel": t5.LAYOUT,
    "T5ForConditionalGeneration": t5.LAYOUT,
    "T5Model": t5.LAYOUT,
    "T5WithLMHeadModel": t5.LAYOUT,
    "MT5EncoderModel": t5.LAYOUT,
    "MT5ForConditionalGeneration": t5.LAYOUT,
    "MT5Model": t5.LAYOUT,
    "CLIPTextModel": clip.TEXT,
    "CLIPTextModelWithProjection": clip.TEXT_WITH_PROJECTION,
    "CLIPModel": clip.WHOLE,
    "AutoencoderKL": vae.LAYOUT,
    "UNet2DConditionModel": unet.LAYOUT,
    "ConsistencyDecoderVAE": decoder.LAYOUT,
}
"""Every class of a config.json that can be read."""

PUBLIC_LAYOUTS: dict[type[nn.Module], NetworkLayout] = {
    T5Encoder: t5.LAYOUT,
    CLIPTextEncoder: clip.TEXT,
    CLIP: clip.WHOLE,
    VAE: vae.LAYOUT,
    UNet: unet.LAYOUT,
    DecoderUNet: decoder.LAYOUT,
}
"""Our class -> the layout whose `config` says which public class it is written as."""

AHEAD = 4
"""Tensors that are read from the disk before they are wanted."""
SHARD = 10**9
"""Bytes of the files that a large network is written in."""


def load(
    path: str | Path,
    *,
    dtype: Any = jnp.float32,
    shardings: Sharding | Callable[[Any], Any] | None = None,
    variant: str | None = None,
    progress: bool = False,
) -> tuple[nn.Module, Params]:
    """The network of a folder, or of safetensors alone that hold OpenAI's flat layout of the consistency decoder.

    `dtype` is that of the parameters and of the computation. `shardings` is where parameters go: one sharding for all,
    or a function from the boxed tree of shapes to a like tree of shardings. `variant="fp16"` takes files of that
    name. Tensors are read through the memory map, one after the other, each straight to where it belongs.
    Raises ValueError naming the file and everything that does not fit, before any tensor is read; and for NaN.
    """
    path = Path(path)
    config, layout, shards = _open_network(path, variant)
    try:
        module = layout.module(config).clone(dtype=jnp.dtype(dtype))
        boxed = abstract_params({"network": module})["network"]
        shapes = _param_shapes(boxed)
        found = import_moves(layout.rules(config), _tensors_to_import(shards, layout), shapes)
        shards.check_types(move.source for move in found)
    except ValueError as error:
        raise ValueError(f"cannot use {path}: {error}") from None
    if shardings is None or isinstance(shardings, Sharding):
        where = dict.fromkeys(shapes, shardings)
    else:
        where = _leaves_by_name(jax.tree.broadcast(shardings(boxed), nn.unbox(boxed)))
    total = sum(shards[move.source].nbytes for move in found)
    with tqdm(total=total, desc=path.name, unit="B", unit_scale=True, disable=not progress) as bar:
        arrays = place_arrays(_pieces(found, shards, bar), shapes, jnp.dtype(dtype), where)
    return module, unflatten_dict(arrays, sep=".")


def read_module(path: str | Path, variant: str | None = None) -> nn.Module:
    """The network that `load` would return, by its config and the headers of its files; ValueError as there."""
    path = Path(path)
    config, layout, _ = _open_network(path, variant)
    try:
        return layout.module(config)
    except ValueError as error:
        raise ValueError(f"cannot use {path}: {error}") from None


def stored_types(path: str | Path, variant: str | None = None) -> set[str]:
    """The types of what `load` would read."""
    _, layout, shards = _open_network(Path(path), variant)
    return {shards[name].dtype.name for name in shards if not matches(layout.ignored, name)}


def public_config(module: nn.Module) -> dict[str, Any]:
    """The config.json as which a network is written; ValueError naming what its public class cannot express."""
    if type(module) not in PUBLIC_LAYOUTS:
        known = ", ".join(cls.__name__ for cls in PUBLIC_LAYOUTS)
        raise ValueError(f"a {type(module).__name__} is in no public layout; those that are: {known}")
    return PUBLIC_LAYOUTS[type(module)].config(module)


def save(
    folder: str | Path,
    module: nn.Module,
    params: Params,
    *,
    dtype: str = "float32",
    config: Mapping[str, Any] | None = None,
    encoder: tuple[VAE, Params] | None = None,
) -> None:
    """Writes a network as a folder that transformers or diffusers load; the folder appears whole or not at all.

    `config` is the public config.json that it came from, where it came from one: the folder then has the very names
    and shapes of that. `encoder` is the VAE whose encoder goes with a decoder: diffusers keeps them in one file.
    Raises ValueError naming what the public class cannot express, a value that `dtype` cannot hold, and a folder with
    other things in it.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not empty; give another name")
    stored, config = parse_dtype(dtype), public_config(module) if config is None else config
    tensors = _public_tensors(config, params)
    if encoder is not None:
        config = {**config, **decoder.encoder_options(encoder[0])}
        others = _public_tensors(public_config(encoder[0]), encoder[1])
        tensors |= {name: value for name, value in others.items() if matches(_layout_of_class(config).ignored, name)}
    with atomic_folder(folder) as temporary:
        write_bytes(temporary / "config.json", (json.dumps(config, indent=2) + "\n").encode())
        _write_weights(temporary, "model" if "architectures" in config else "diffusion_pytorch_model", tensors, stored)


def _open_network(path: Path, variant: str | None) -> tuple[Mapping[str, Any], NetworkLayout, Shards]:
    """The config, how to read it, and the mapped tensors; flat files have their shapes for a config."""
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"{path} cannot be used: {no_weights_message([path.name])}")
    flat = [path] if path.is_file() else sorted(file for file in path.glob("*.safetensors") if not is_stray(file.name))
    if flat and not (path / "config.json").is_file():
        shards = Shards(flat)
        return {name: shards.shape(name) for name in shards}, decoder.FLAT, shards
    config = read_json(path / "config.json")
    check_extent(config)
    return config, _layout_of_class(config, path), Shards(*weight_files(path, variant))


def _layout_of_class(config: Mapping[str, Any], path: Path | str = "this config") -> NetworkLayout:
    try:
        name = class_name(config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if name not in LAYOUTS:
        raise ValueError(f"{path} is of the class {name}, which cannot be read; those that can: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _param_shapes(params: Params) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in _leaves_by_name(params).items()}


def _leaves_by_name(tree: Any) -> dict[str, Any]:
    """Leaves by their dotted names."""
    return flatten_dict(nn.unbox(tree), sep=".")


def _tensors_to_import(shards: Shards, layout: NetworkLayout) -> dict[str, tuple[int, ...]]:
    """The tensors that are to be imported: neither of other parts nor second copies, which must be the same."""
    names = dict.fromkeys(name for name in shards if not matches(layout.ignored, name))
    copies = [name for name, first in layout.tied.items() if name in names and first in names]
    if wrong := [name for name in copies if not have_same_bytes(shards[name], shards[layout.tied[name]])]:
        told = ", ".join(f"{name} differs from {layout.tied[name]}" for name in wrong)
        raise ValueError(f"{told}, of which it should be a copy")
    return {name: shards.shape(name) for name in names if name not in copies}


def _pieces(imports: Sequence[Move], shards: Shards, bar: tqdm) -> Iterator[Piece]:
    """The tensors as parameters, one by one, each looked through for what is not finite."""

    def warmed(move: Move) -> Move:
        shards.warm(move.source)
        return move

    for move in map_ahead(warmed, imports, AHEAD):
        tensor = shards.read_finite(move.source)
        yield Piece(move.target, move.layer, move.transform.ours(tensor))
        bar.update(tensor.nbytes)


def _public_tensors(config: Mapping[str, Any], params: Params) -> dict[str, np.ndarray]:
    """Parameters by their public names, as views of the arrays on the host."""
    leaves = jax.device_get(_leaves_by_name(params))
    found = {}
    for move in export_moves(_layout_of_class(config).rules(config), _param_shapes(params)):
        leaf = np.asarray(leaves[move.target])
        found[move.source] = move.transform.public(leaf if move.layer is None else leaf[move.layer])
    return found


def _write_weights(folder: Path, stem: str, tensors: Mapping[str, np.ndarray], dtype: np.dtype) -> None:
    """One file, or several with their index, as the public libraries name them."""
    groups = split_by_size({name: tensor.size * dtype.itemsize for name, tensor in tensors.items()}, SHARD)
    weight_map = {}
    for number, names in enumerate(groups, start=1):
        file = f"{stem}-{number:05}-of-{len(groups):05}.safetensors" if len(groups) > 1 else f"{stem}.safetensors"
        write_part(folder / file, {name: tensors[name] for name in names}, dtype, {"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if len(groups) > 1:
        total = sum(tensor.size * dtype.itemsize for tensor in tensors.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_bytes(folder / f"{stem}.safetensors.index.json", (json.dumps(index, indent=2) + "\n").encode())
