"""CLIP as transformers writes it: config.json of many versions, and the text encoder's and both towers' tensors."""

import functools
from collections.abc import Mapping
from typing import Any

from dalle3_jax.convert.configs import is_size, raise_unsupported, unsupported_options
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Rule, conv, embedding, linear, norm
from dalle3_jax.models.clip import CLIP, CLIPTextEncoder, CLIPVisionEncoder, Tower

__all__ = [
    "TEXT",
    "TEXT_WITH_PROJECTION",
    "VISION_WITH_PROJECTION",
    "WHOLE",
    "clip_config",
    "clip_module",
    "text_config",
    "text_module",
]

TOWER = {
    "hidden_size": "width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "mlp_width",
    "hidden_act": "activation",
    "layer_norm_eps": "eps",
}
"""Options that both towers have -> the fields of ours."""

TEXT_DEFAULTS = {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "projection_dim": 512,
    "eos_token_id": 49407,
}
VISION_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "image_size": 224,
    "patch_size": 32,
}
"""What transformers 5 takes for a key that is missing."""

LEGACY_EOS = 2
"""The end token of old configs, wrong for every public vocabulary: a text then ends at its largest id."""

NO_SIZES = ("hidden_act", "layer_norm_eps")


def text_module(config: Mapping[str, Any], projected: bool = False) -> CLIPTextEncoder:
    """The text encoder of a config.json, as Stable Diffusion 1 calls it: all layers, the final norm, its own padding.

    A pipeline that calls it otherwise clones it with `skip`, `normed` and `pad_id`. `projected` is whether the vector
    is projected, which the public class says and not the options.
    """
    options = {**TEXT_DEFAULTS, **config}
    # Where nothing is projected the option is there all the same, and means nothing.
    sizes = [name for name in TEXT_DEFAULTS if projected or name != "projection_dim"]
    raise_unsupported("CLIP text encoder", _clip_option_errors(options, sizes))
    return CLIPTextEncoder(
        vocab_size=options["vocab_size"],
        positions=options["max_position_embeddings"],
        projection=options["projection_dim"] if projected else 0,
        eos_id=_eos_id(options),
        **_tower_fields(options),
    )


def text_config(encoder: CLIPTextEncoder) -> dict[str, Any]:
    """The config.json of a text encoder. Which of its features a pipeline takes stands in no config."""
    with_projection = {"projection_dim": encoder.projection} if encoder.projection else {}
    return {
        "architectures": ["CLIPTextModelWithProjection" if encoder.projection else "CLIPTextModel"],
        **_text_options(encoder, encoder),
        **with_projection,
    }


def clip_module(config: Mapping[str, Any]) -> CLIP:
    """Both towers of a config.json, whose options stand under text_config and vision_config."""
    text, vision = _tower_section(config, "text", TEXT_DEFAULTS), _tower_section(config, "vision", VISION_DEFAULTS)
    top = {"projection_dim": 512, **config}
    errors = _clip_option_errors(top, ["projection_dim"])
    errors += [f"text_config {error}" for error in _clip_option_errors(text, TEXT_DEFAULTS)]
    errors += [f"vision_config {error}" for error in _clip_option_errors(vision, VISION_DEFAULTS)]
    raise_unsupported("CLIP", errors)
    return CLIP(
        text=Tower(**_tower_fields(text)),
        vision=Tower(**_tower_fields(vision)),
        vocab_size=text["vocab_size"],
        projection=top["projection_dim"],
        positions=text["max_position_embeddings"],
        image_size=vision["image_size"],
        patch=vision["patch_size"],
        eos_id=_eos_id(text),
    )


def clip_config(clip: CLIP) -> dict[str, Any]:
    """The config.json of both towers."""
    width = {"projection_dim": clip.projection}
    vision = {"model_type": "clip_vision_model", "image_size": clip.image_size, "patch_size": clip.patch}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        **width,
        "text_config": {**_text_options(clip, clip.text), **width},
        "vision_config": {**vision, **_tower_options(clip.vision), **width},
    }


def vision_module(config: Mapping[str, Any]) -> CLIPVisionEncoder:
    """The image encoder of a config.json with its projection, as IP-Adapter and SD image variations have it."""
    options = {**VISION_DEFAULTS, "projection_dim": 512, **config}
    raise_unsupported("CLIP image encoder", _clip_option_errors(options, [*VISION_DEFAULTS, "projection_dim"]))
    return CLIPVisionEncoder(
        Tower(**_tower_fields(options)), options["image_size"], options["patch_size"], options["projection_dim"]
    )


def vision_config(encoder: CLIPVisionEncoder) -> dict[str, Any]:
    """The config.json of an image encoder; ValueError for one without a projection."""
    if not encoder.projection:
        raise_unsupported("CLIP image encoder", ["projection=0 (supported: positive whole numbers)"])
    return {
        "architectures": ["CLIPVisionModelWithProjection"],
        "model_type": "clip_vision_model",
        "image_size": encoder.image_size,
        "patch_size": encoder.patch,
        "projection_dim": encoder.projection,
        **_tower_options(encoder.tower),
    }


def _tower_section(config: Mapping[str, Any], tower: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options of one tower; the older `_dict`, where there is one, replaces the newer section as a whole."""
    return {**defaults, **(config.get(f"{tower}_config_dict") or config.get(f"{tower}_config") or {})}


def _clip_option_errors(options: Mapping[str, Any], names: Mapping[str, Any] | list[str]) -> list[str]:
    errors = unsupported_options(options, {"hidden_act": ["quick_gelu", "gelu"], "num_channels": 3})
    wrong = [name for name in names if name not in NO_SIZES and not is_size(options[name])]
    return errors + [f"{name}={options[name]!r} (supported: one positive whole number)" for name in wrong]


def _eos_id(options: Mapping[str, Any]) -> int | None:
    return None if options["eos_token_id"] == LEGACY_EOS else options["eos_token_id"]


def _tower_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: options[theirs] for theirs, ours in TOWER.items()}


def _tower_options(tower: Tower | CLIPTextEncoder) -> dict[str, Any]:
    return {theirs: getattr(tower, ours) for theirs, ours in TOWER.items()}


def _text_options(network: CLIPTextEncoder | CLIP, tower: Tower | CLIPTextEncoder) -> dict[str, Any]:
    return {
        "model_type": "clip_text_model",
        "vocab_size": network.vocab_size,
        "max_position_embeddings": network.positions,
        "eos_token_id": LEGACY_EOS if network.eos_id is None else network.eos_id,
        **_tower_options(tower),
    }


Config = Mapping[str, Any]

LAYER = {
    "layer_norm1": "norm_1",
    "layer_norm2": "norm_2",
    "self_attn.q_proj": "attention.query",
    "self_attn.k_proj": "attention.key",
    "self_attn.v_proj": "attention.value",
    "self_attn.out_proj": "attention.out",
    "mlp.fc1": "wide",
    "mlp.fc2": "narrow",
}


def text_rules(config: Config, encoder: CLIPTextEncoder) -> list[Rule]:
    """The table of a text encoder alone; transformers 5 leaves the prefix away, all others write it."""
    return _text_table("text_model.", "") + _text_table("", "")


def projected_text_rules(config: Config, encoder: CLIPTextEncoder) -> list[Rule]:
    """The table of a text encoder with its projection."""
    return _text_table("text_model.", "") + linear("text_projection", "projection", bias=False)


def clip_rules(config: Config, encoder: CLIP) -> list[Rule]:
    """The table of both towers."""
    return [
        *_text_table("text_model.", "text_encoder."),
        *linear("text_projection", "text_encoder.projection", bias=False),
        *_vision_table("vision_model.", "vision_encoder."),
        *linear("visual_projection", "vision_projection", bias=False),
        Rule("logit_scale", "logit_scale"),
    ]


def vision_rules(config: Config, encoder: CLIPVisionEncoder) -> list[Rule]:
    """The table of an image encoder with its projection."""
    return _vision_table("vision_model.", "") + linear("visual_projection", "projection", bias=False)


def _text_table(source: str, target: str) -> list[Rule]:
    return [
        *embedding(f"{source}embeddings.token_embedding", f"{target}token_embedding"),
        *embedding(f"{source}embeddings.position_embedding", f"{target}position_embedding"),
        *_layer_table(source, target),
        *norm(f"{source}final_layer_norm", f"{target}final_norm"),
    ]


def _vision_table(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}embeddings.class_embedding", f"{target}class_embedding"),
        *conv(f"{source}embeddings.patch_embedding", f"{target}patch_embedding", bias=False),
        *embedding(f"{source}embeddings.position_embedding", f"{target}position_embedding"),
        *norm(f"{source}pre_layrnorm", f"{target}pre_norm"),  # so spelt
        *_layer_table(source, target),
        *norm(f"{source}post_layernorm", f"{target}final_norm"),
    ]


def _layer_table(source: str, target: str) -> list[Rule]:
    table = []
    for theirs, ours in LAYER.items():
        rules = norm if ours.startswith("norm") else linear
        table += rules(f"{source}encoder.layers.{{layer}}.{theirs}", f"{target}layers.{ours}[{{layer}}]")
    return table


POSITION_IDS = tuple(f"{prefix}embeddings.position_ids" for prefix in ("", "text_model.", "vision_model."))
"""Counts from 0, which old files hold as if they were weights."""

TEXT = NetworkLayout(text_module, text_rules, text_config, (*POSITION_IDS, "text_projection.weight", "logit_scale"))
TEXT_WITH_PROJECTION = NetworkLayout(
    functools.partial(text_module, projected=True), projected_text_rules, text_config, POSITION_IDS
)
VISION_WITH_PROJECTION = NetworkLayout(vision_module, vision_rules, vision_config, POSITION_IDS)
WHOLE = NetworkLayout(clip_module, clip_rules, clip_config, POSITION_IDS)
