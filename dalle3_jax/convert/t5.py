"""T5's encoders as transformers writes them: v1.0, v1.1, FLAN, UL2, mT5 and ByT5, alone or with their decoder."""

from collections.abc import Mapping
from typing import Any

from dalle3_jax.convert.configs import is_size, raise_unsupported, unsupported_options
from dalle3_jax.convert.layout import NetworkLayout
from dalle3_jax.convert.rules import Rule, embedding, linear, norm
from dalle3_jax.models.t5 import Activation, T5Encoder

__all__ = ["LAYOUT"]

ACTIVATIONS: dict[str, Activation] = {"relu": "relu", "gated-gelu": "gated_gelu", "gated-silu": "gated_silu"}
"""feed_forward_proj -> ours; transformers' "gated-gelu" is the tanh approximation."""

RELATIVE = {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
"""What transformers takes where a config lacks them."""

WHAT = "T5 config"


def module(config: Mapping[str, Any]) -> T5Encoder:
    """The encoder of a config.json; raises ValueError naming every option that is not supported."""
    config = {**config, "feed_forward_proj": _feed_forward(config)}
    sizes = ("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")
    errors = unsupported_options(config, {"feed_forward_proj": list(ACTIVATIONS), "layer_norm_epsilon": 1e-6})
    errors += [f"{name} is missing or no positive whole number" for name in sizes if not is_size(config.get(name))]
    buckets, distance = (config.get(name, usual) for name, usual in RELATIVE.items())
    if not is_size(buckets) or not is_size(distance) or not 1 <= buckets // 4 < distance:
        remedy = "at least 4, and a distance above a quarter of it"
        errors.append(f"{' and '.join(RELATIVE)} are {buckets!r} and {distance!r} (supported: {remedy})")
    raise_unsupported(WHAT, errors)
    return T5Encoder(
        vocab_size=config["vocab_size"],
        width=config["d_model"],
        layers=config["num_layers"],
        heads=config["num_heads"],
        head_size=config["d_kv"],
        mlp_width=config["d_ff"],
        activation=ACTIVATIONS[config["feed_forward_proj"]],
        relative_buckets=buckets,
        relative_max_distance=distance,
    )


def _feed_forward(config: Mapping[str, Any]) -> Any:
    """feed_forward_proj; of configs that only say what follows from it, what it must have been."""
    if "feed_forward_proj" in config or not {"is_gated_act", "dense_act_fn"} & config.keys():
        return config.get("feed_forward_proj", "relu")
    activation = config.get("dense_act_fn", "relu")
    return f"{'gated-' if config.get('is_gated_act') else ''}{'gelu' if activation == 'gelu_new' else activation}"


def rules(config: Mapping[str, Any], encoder: T5Encoder) -> list[Rule]:
    """The table of its tensors."""
    block = "encoder.block.{layer}.layer"
    projections = {"q": "query", "k": "key", "v": "value", "o": "out"}
    gated = encoder.activation != "relu"
    mlp = {"wi_0": "wi_0", "wi_1": "wi_1", "wo": "wo"} if gated else {"wi": "wi_0", "wo": "wo"}
    table = [
        *(Rule(name, "token_embedding.embedding") for name in tied_embeddings(config)),
        *embedding("encoder.block.0.layer.0.SelfAttention.relative_attention_bias", "relative_bias"),
        *norm(f"{block}.0.layer_norm", "layers.norm_1[{layer}]", bias=False),
        *norm(f"{block}.1.layer_norm", "layers.norm_2[{layer}]", bias=False),
        *norm("encoder.final_layer_norm", "final_norm", bias=False),
    ]
    for theirs, ours in projections.items():
        table += linear(f"{block}.0.SelfAttention.{theirs}", f"layers.attention.{ours}[{{layer}}]", bias=False)
    for theirs, ours in mlp.items():
        table += linear(f"{block}.1.DenseReluDense.{theirs}", f"layers.feed_forward.{ours}[{{layer}}]", bias=False)
    return table


def tied_embeddings(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the one table of tokens; files keep any of them, and of v1.0 the output's alone."""
    names = ("shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    return (*names, "lm_head.weight") if config.get("tie_word_embeddings", True) else names


def config(encoder: T5Encoder) -> dict[str, Any]:
    """The config.json of an encoder."""
    theirs = {ours: name for name, ours in ACTIVATIONS.items()}
    return {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "is_encoder_decoder": False,
        "use_cache": False,
        "vocab_size": encoder.vocab_size,
        "d_model": encoder.width,
        "d_kv": encoder.head_size,
        "d_ff": encoder.mlp_width,
        "num_layers": encoder.layers,
        "num_heads": encoder.heads,
        "feed_forward_proj": theirs[encoder.activation],
        "relative_attention_num_buckets": encoder.relative_buckets,
        "relative_attention_max_distance": encoder.relative_max_distance,
        "layer_norm_epsilon": 1e-6,
        "pad_token_id": 0,
        "eos_token_id": 1,
    }


LAYOUT = NetworkLayout(
    module,
    rules,
    config,
    ignored=("decoder.*", "lm_head.weight"),
    tied=tied_embeddings,
    float32=("layers.feed_forward.wo.kernel",),
)
