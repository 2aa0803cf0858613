"""One network: a folder with config.json and safetensors <-> a module and its parameters."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
from dalle3_jax.convert.configs import TRAINING_OPTIONS, check_extent
from dalle3_jax.convert.folders import class_name, no_weights_message, read_json, weight_files
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Move, Rule, export_moves, import_moves, matches
from dalle3_jax.convert.shards import Shards
from dalle3_jax.files import atomic_folder, is_stray
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.typing import Params

__all__ = ["LAYOUTS", "Opened", "load", "open", "public_config", "save"]

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
    "CLIPVisionModelWithProjection": clip.VISION_WITH_PROJECTION,
    "CLIPModel": clip.WHOLE,
    "AutoencoderKL": vae.LAYOUT,
    "UNet2DConditionModel": unet.LAYOUT,
    "ConsistencyDecoderVAE": decoder.LAYOUT,
}
"""Every class of a config.json that can be read."""

PUBLIC_LAYOUTS: dict[type[nn.Module], NetworkLayout] = {
    T5Encoder: t5.LAYOUT,
    CLIPTextEncoder: clip.TEXT,
    CLIPVisionEncoder: clip.VISION_WITH_PROJECTION,
    CLIP: clip.WHOLE,
    VAE: vae.LAYOUT,
    UNet: unet.LAYOUT,
    DecoderUNet: decoder.LAYOUT,
}
"""Our class -> the layout whose `config` says which public class it is written as."""

TRANSFORMERS = ("CLIP", "T5", "MT5")
"""How the classes begin that transformers writes, as `architectures`; diffusers writes `_class_name`."""

AHEAD = 4
"""Tensors that are read from the disk before they are wanted."""
SHARD = 10**9
"""Bytes of the files that a large network is written in."""


class Opened(NamedTuple):
    """A network's files, listed and described once; its tensors are mapped, and read by `load`.

    `config` is the content of config.json, {} where the file has none of its own; `files` are all that is read,
    config.json before the weights; `rules` fill the `module`'s parameters.
    """

    path: Path
    config: Mapping[str, Any]
    layout: NetworkLayout
    files: tuple[Path, ...]
    shards: Shards
    module: nn.Module
    rules: tuple[Rule, ...]

    def load(
        self,
        *,
        dtype: Any = jnp.float32,
        shardings: Sharding | Callable[[Any], Any] | None = None,
        progress: bool = False,
    ) -> tuple[nn.Module, Params]:
        """The network and its parameters; arguments and errors are those of `convert.load`."""
        try:
            dtype = jnp.dtype(dtype)
            module = self.module.clone(dtype=dtype)
            boxed = abstract_params({"network": module})["network"]
            shapes = _param_shapes(boxed)
            moves = import_moves(self.rules, self._tensors_to_import(), shapes)
            self.shards.check_types(move.source for move in moves)
        except ValueError as error:
            raise ValueError(f"cannot use {self.path}: {error}") from None
        if shardings is None or isinstance(shardings, Sharding):
            where = dict.fromkeys(shapes, shardings)
        else:
            where = _leaves_by_name(jax.tree.broadcast(shardings(boxed), nn.unbox(boxed)))
        wide = self.layout.float32 if dtype == jnp.float16 else ()
        float32 = [name for name in shapes if matches(wide, name)]
        total = sum(self.shards[move.source].nbytes for move in moves)
        with tqdm(total=total, desc=self.path.name, unit="B", unit_scale=True, disable=not progress) as bar:
            arrays = place_arrays(_pieces(moves, self.shards, bar), shapes, dtype, where, float32)
        return module, unflatten_dict(arrays, sep=".")

    def _tensors_to_import(self) -> dict[str, tuple[int, ...]]:
        """The tensors that are to be imported: neither of other parts nor second copies, which must be the same."""
        known = self.layout.tied(self.config)
        tied = [name for name in known if name in self.shards]
        if known and not tied:
            others = sorted((name for name in self.shards if matches(self.layout.ignored, name)), key=len)
            message = f"; {', '.join(others[:3])} cannot stand for it" if others else ""
            raise ValueError(f"it lacks {' or '.join(known)}, one of which is needed{message}")
        names = [name for name in self.shards if name in tied[:1] or not matches(self.layout.ignored, name)]
        copies = [name for name in tied[1:] if name in names]
        if wrong := [name for name in copies if not have_same_bytes(self.shards[name], self.shards[tied[0]])]:
            message = ", ".join(f"{name} differs from {tied[0]}" for name in wrong)
            raise ValueError(f"{message}, of which it should be a copy")
        return {name: self.shards.shape(name) for name in names if name not in copies}

    def stored_types(self) -> set[str]:
        """The types of the tensors that `load` reads."""
        return {self.shards[name].dtype.name for name in self.shards if not matches(self.layout.ignored, name)}


def open(path: str | Path, variant: str | None = None, named: str | None = None) -> Opened:
    """A network's folder, or safetensors alone that hold OpenAI's flat layout of the consistency decoder.

    `named` is the class that a pipeline's model_index.json names: it counts, and the config's where there is none.
    Raises ValueError naming the file, its class, and every option of its config that cannot be had here; of the
    weights only the headers are read.
    """
    path = Path(path)
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"{path} cannot be used: {no_weights_message([path.name])}")
    flat = [path] if path.is_file() else sorted(file for file in path.glob("*.safetensors") if not is_stray(file.name))
    if flat and not (path / "config.json").is_file():
        config, layout, files, shards = {}, decoder.FLAT, flat, Shards(flat)
        described: Mapping[str, Any] = {name: shards.shape(name) for name in shards}
    else:
        described = config = _with_class(read_json(path / "config.json"), named)
        check_extent(config)
        left = [name for name in TRAINING_OPTIONS if name in config]
        if left and "_class_name" in config:  # transformers writes some of them into each of its own
            warnings.warn(f"{path} holds options of a training, which are passed over: {', '.join(left)}", stacklevel=2)
        layout, (weights, index) = _layout_of_class(config, path), weight_files(path, variant)
        files, shards = [path / "config.json", *weights], Shards(weights, index)
    try:
        module = layout.module(described)
        return Opened(path, config, layout, tuple(files), shards, module, tuple(layout.rules(described, module)))
    except ValueError as error:
        raise ValueError(f"cannot use {path}: {error}") from None


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
    return open(path, variant).load(dtype=dtype, shardings=shardings, progress=progress)


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


def _with_class(config: dict[str, Any], named: str | None) -> dict[str, Any]:
    """The config of a network of the class that is named, where one is."""
    if named is None:
        return config
    return config | ({"architectures": [named]} if named.startswith(TRANSFORMERS) else {"_class_name": named})


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
    leaves, layout = jax.device_get(_leaves_by_name(params)), _layout_of_class(config)
    tensors = {}
    for move in export_moves(layout.rules(config, layout.module(config)), _param_shapes(params)):
        leaf = np.asarray(leaves[move.target])
        tensors[move.source] = move.transform.public(leaf if move.layer is None else leaf[move.layer])
    return tensors


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
