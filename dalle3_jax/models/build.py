"""Config sections (plain values) -> modules, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.latent_head import LatentHead
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import Level, UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet
from dalle3_jax.typing import DTypeLike

CLASSES: dict[str, type[nn.Module]] = {
    "t5": T5Encoder,
    "xfnet": XFNet,
    "latent_head": LatentHead,
    "unet": UNet,
    "vae": VAE,
    "decoder_unet": DecoderUNet,
    "scene_reader": SceneReader,
}
"""Every network that a config or a release may name."""

COMPONENTS = {
    "text_encoder": "t5",
    "glyph_encoder": "t5",
    "xfnet": "xfnet",
    "latent_head": "latent_head",
    "unet": "unet",
    "vae": "vae",
    "decoder": "decoder_unet",
    "refiner": "decoder_unet",
    "reader": "scene_reader",
}
"""The network that a section of `config.model` stands for, unless it names another under `network`."""

NOT_FIELDS = ("parent", "name", "dtype")


def build(kind: str, fields: Mapping[str, Any], dtype: DTypeLike = jnp.float32) -> nn.Module:
    """The module of a kind; raises ValueError naming every unknown and every missing field at once."""
    _refuse(_problems(kind, fields, kind))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    if "levels" in values:
        values["levels"] = tuple(Level(**level) for level in values["levels"])
    return CLASSES[kind](**values, dtype=jnp.dtype(dtype))


def build_models(sections: Mapping[str, Mapping[str, Any]], dtype: DTypeLike = jnp.float32) -> dict[str, nn.Module]:
    """The modules of all components that `sections` (config.model) holds; other sections are left alone."""
    chosen = {}
    for component, default in COMPONENTS.items():
        if component in sections:
            fields = dict(sections[component])
            chosen[component] = (fields.pop("network", default), fields)
    _refuse([problem for component, (kind, fields) in chosen.items() for problem in _problems(kind, fields, component)])
    return {component: build(kind, fields, dtype) for component, (kind, fields) in chosen.items()}


def kind_of(module: nn.Module) -> str:
    """The name under which `build` makes this module's class."""
    return next(kind for kind, cls in CLASSES.items() if type(module) is cls)


def fields_of(module: nn.Module) -> dict[str, Any]:
    """A module's fields as JSON values; `build(kind_of(module), fields_of(module))` is the same module."""
    fields = (field.name for field in dataclasses.fields(module) if field.name not in NOT_FIELDS)
    return {name: _plain(getattr(module, name)) for name in fields}


def _problems(kind: str, fields: Mapping[str, Any], where: str) -> list[str]:
    if kind not in CLASSES:
        return [f"{where}: unknown network {kind!r}, known are {', '.join(sorted(CLASSES))}"]
    problems = _wrong_names(CLASSES[kind], fields, where)
    if CLASSES[kind] is UNet and "levels" in fields:
        for i, level in enumerate(fields["levels"]):
            problems += _wrong_names(Level, level, f"{where} level {i}")
    return problems


def _wrong_names(cls: type, values: Mapping[str, Any], where: str) -> list[str]:
    known = {field.name: field for field in dataclasses.fields(cls) if field.name not in NOT_FIELDS}
    missing = dataclasses.MISSING
    required = {name for name, f in known.items() if f.default is missing and f.default_factory is missing}
    problems = [f"unknown field {name!r}" for name in sorted(set(values) - set(known))]
    problems += [f"missing field {name!r}" for name in sorted(required - set(values))]
    return [f"{where}: {', '.join(problems)} (its fields are {', '.join(sorted(known))})"] if problems else []


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ValueError("; ".join(problems))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
