"""Config sections (plain values) -> modules, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.image_prompt import ImagePrompt
from dalle3_jax.models.latent_head import LatentHead
from dalle3_jax.models.layout_encoder import LayoutEncoder
from dalle3_jax.models.layout_head import LayoutHead
from dalle3_jax.models.layout_memory import LayoutMemory
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.models.t5 import T5Encoder
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.vae import VAE
from dalle3_jax.models.xfnet import XFNet
from dalle3_jax.typing import DTypeLike

__all__ = [
    "COMPONENT_NETWORKS",
    "NETWORKS",
    "NETWORK_CLASSES",
    "build_models",
    "build_module",
    "module_fields",
    "module_kind",
]

NETWORKS: dict[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    "t5": (T5Encoder, ("text_encoder", "glyph_encoder")),
    "clip_text": (CLIPTextEncoder, ("text_encoder_2",)),
    "clip": (CLIP, ()),
    "clip_image": (CLIPVisionEncoder, ("image_encoder",)),
    "image_prompt": (ImagePrompt, ("image_prompt",)),
    "xfnet": (XFNet, ("xfnet",)),
    "latent_head": (LatentHead, ("latent_head",)),
    "layout_head": (LayoutHead, ("layout_head",)),
    "layout_encoder": (LayoutEncoder, ("layout_encoder",)),
    "layout_memory": (LayoutMemory, ("layout_memory",)),
    "unet": (UNet, ("unet", "upscaler")),
    "vae": (VAE, ("vae",)),
    "decoder_unet": (DecoderUNet, ("decoder", "refiner")),
    "scene_reader": (SceneReader, ("reader",)),
    "captioner": (Captioner, ("captioner",)),
    "size_head": (SizeHead, ("size_head",)),
}
"""Kind -> class, and the sections of `config.model` that stand for it unless they name another under `network`."""

NETWORK_CLASSES: dict[str, type[nn.Module]] = {kind: cls for kind, (cls, _) in NETWORKS.items()}
"""Every network that a config or a release may name."""

COMPONENT_NETWORKS = {component: kind for kind, (_, components) in NETWORKS.items() for component in components}
"""Component -> the kind of its network where its section names none."""

NOT_FIELDS = ("parent", "name", "dtype")
LATER_FIELDS: dict[type[nn.Module], tuple[str, ...]] = {
    T5Encoder: ("word_positions",),
    UNet: ("eps", "size_id_width", "conv_in_kernel", "conv_out_kernel", "guidance_width", "grid"),
}
"""Fields that records of before do not have: unless they differ from the default they are not written."""


def build_module(kind: str, fields: Mapping[str, Any], dtype: DTypeLike = jnp.float32) -> nn.Module:
    """The module of a kind; raises ValueError naming every unknown and every missing field at once."""
    _raise_errors(_field_errors(kind, fields, kind))
    records = _record_fields(NETWORK_CLASSES[kind])
    values = {name: _from_json_value(value, records.get(name)) for name, value in fields.items()}
    return NETWORK_CLASSES[kind](**values, dtype=jnp.dtype(dtype))


def build_models(sections: Mapping[str, Mapping[str, Any]], dtype: DTypeLike = jnp.float32) -> dict[str, nn.Module]:
    """The modules of all components that `sections` (config.model) holds; other sections are left alone."""
    chosen = {}
    for component, default in COMPONENT_NETWORKS.items():
        if component in sections:
            fields = dict(sections[component])
            chosen[component] = (fields.pop("network", default), fields)
    _raise_errors(
        [error for component, (kind, fields) in chosen.items() for error in _field_errors(kind, fields, component)]
    )
    return {component: build_module(kind, fields, dtype) for component, (kind, fields) in chosen.items()}


def module_kind(module: nn.Module) -> str:
    """The name under which `build_module` makes this module's class."""
    return next(kind for kind, cls in NETWORK_CLASSES.items() if type(module) is cls)


def module_fields(module: nn.Module) -> dict[str, Any]:
    """A module's fields as JSON values; `build_module(module_kind(module), ...)` of them is the same module."""
    later = LATER_FIELDS.get(type(module), ())
    fields = [field for field in dataclasses.fields(module) if field.name not in NOT_FIELDS]
    values = {field.name: getattr(module, field.name) for field in fields}
    usual = {field.name for field in fields if field.name in later and values[field.name] == field.default}
    return {name: _json_value(value) for name, value in values.items() if name not in usual}


def _field_errors(kind: str, fields: Mapping[str, Any], where: str) -> list[str]:
    if kind not in NETWORK_CLASSES:
        return [f"{where}: unknown network {kind!r}, known are {', '.join(sorted(NETWORK_CLASSES))}"]
    errors = _name_errors(NETWORK_CLASSES[kind], fields, where)
    for name, record in _record_fields(NETWORK_CLASSES[kind]).items():
        value = fields.get(name, ())
        several = isinstance(value, list | tuple)
        inside = {f"{name.removesuffix('s')} {i}": item for i, item in enumerate(value)} if several else {name: value}
        errors += [error for at, item in inside.items() for error in _name_errors(record, item, f"{where} {at}")]
    return errors


def _record_fields(cls: type) -> dict[str, type]:
    """The fields that hold a record, or a tuple of records, and its class."""
    fields = {field.name: field.type for field in dataclasses.fields(cls) if field.name not in NOT_FIELDS}
    kinds = ((name, kind) for name, whole in fields.items() for kind in (whole, *get_args(whole)))
    return {name: kind for name, kind in kinds if isinstance(kind, type) and dataclasses.is_dataclass(kind)}


def _from_json_value(value: Any, record: type | None) -> Any:
    """A field's value of its JSON value."""
    if isinstance(value, list | tuple):
        return tuple(_from_json_value(item, record) for item in value)
    return record(**value) if record else value


def _name_errors(cls: type, values: Mapping[str, Any], where: str) -> list[str]:
    known = {field.name: field for field in dataclasses.fields(cls) if field.name not in NOT_FIELDS}
    missing = dataclasses.MISSING
    required = {name for name, f in known.items() if f.default is missing and f.default_factory is missing}
    errors = [f"unknown field {name!r}" for name in sorted(set(values) - set(known))]
    errors += [f"missing field {name!r}" for name in sorted(required - set(values))]
    return [f"{where}: {', '.join(errors)} (its fields are {', '.join(sorted(known))})"] if errors else []


def _raise_errors(errors: list[str]) -> None:
    if errors:
        raise ValueError("; ".join(errors))


def _json_value(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return [_json_value(item) for item in value] if isinstance(value, tuple) else value
