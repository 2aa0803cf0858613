"""CLIP's tensors as transformers names them: its text encoder, alone or with the projection, and both towers."""

import functools
from collections.abc import Mapping
from typing import Any

from dalle3_jax.convert.clip_configs import text_config, text_module, whole_config, whole_module
from dalle3_jax.convert.layout import Layout
from dalle3_jax.convert.rules import Rule, conv, embedding, linear, norm

__all__ = ["TEXT", "TEXT_WITH_PROJECTION", "WHOLE"]

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


def text_rules(config: Config) -> list[Rule]:
    """The table of a text encoder alone; transformers 5 leaves the prefix away, all others write it."""
    return _text("text_model.", "") + _text("", "")


def projected_text_rules(config: Config) -> list[Rule]:
    """The table of a text encoder with its projection."""
    return _text("text_model.", "") + linear("text_projection", "projection", bias=False)


def whole_rules(config: Config) -> list[Rule]:
    """The table of both towers."""
    return [
        *_text("text_model.", "text_encoder."),
        *linear("text_projection", "text_encoder.projection", bias=False),
        *_vision("vision_model.", "vision_encoder."),
        *linear("visual_projection", "vision_projection", bias=False),
        Rule("logit_scale", "logit_scale"),
    ]


def _text(source: str, target: str) -> list[Rule]:
    return [
        *embedding(f"{source}embeddings.token_embedding", f"{target}token_embedding"),
        *embedding(f"{source}embeddings.position_embedding", f"{target}position_embedding"),
        *_layers(source, target),
        *norm(f"{source}final_layer_norm", f"{target}final_norm"),
    ]


def _vision(source: str, target: str) -> list[Rule]:
    return [
        Rule(f"{source}embeddings.class_embedding", f"{target}class_embedding"),
        *conv(f"{source}embeddings.patch_embedding", f"{target}patch_embedding", bias=False),
        *embedding(f"{source}embeddings.position_embedding", f"{target}position_embedding"),
        *norm(f"{source}pre_layrnorm", f"{target}pre_norm"),  # so spelt
        *_layers(source, target),
        *norm(f"{source}post_layernorm", f"{target}final_norm"),
    ]


def _layers(source: str, target: str) -> list[Rule]:
    table = []
    for theirs, ours in LAYER.items():
        rules = norm if ours.startswith("norm") else linear
        table += rules(f"{source}encoder.layers.{{layer}}.{theirs}", f"{target}layers.{ours}[{{layer}}]")
    return table


POSITION_IDS = tuple(f"{prefix}embeddings.position_ids" for prefix in ("", "text_model.", "vision_model."))
"""Counts from 0, which old files hold as if they were weights."""

TEXT = Layout(text_module, text_rules, text_config, POSITION_IDS)
TEXT_WITH_PROJECTION = Layout(
    functools.partial(text_module, projected=True), projected_text_rules, text_config, POSITION_IDS
)
WHOLE = Layout(whole_module, whole_rules, whole_config, POSITION_IDS)
