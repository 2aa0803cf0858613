"""Tables of the blocks that diffusers' networks share."""

from typing import Literal

from dalle3_jax.convert.rules import Rule, conv, linear, norm, pointwise

__all__ = ["attention_rules", "mlp_rules", "residual_rules", "spatial_transformer_rules"]

PROJECTIONS = {"to_q": "query", "to_k": "key", "to_v": "value"}


def residual_rules(source: str, target: str, time: Literal["none", "add", "scale_shift"] = "none") -> list[Rule]:
    """A ResnetBlock2D, with the layer by which the time conditions it; also of those that resample."""
    modulated = time == "scale_shift"
    table = [
        *norm(f"{source}.norm1", f"{target}.norm_1"),
        *conv(f"{source}.conv1", f"{target}.conv_1"),
        *norm(f"{source}.norm2", f"{target}.norm_2.norm" if modulated else f"{target}.norm_2"),
        *conv(f"{source}.conv2", f"{target}.conv_2"),
        *conv(f"{source}.conv_shortcut", f"{target}.shortcut"),
    ]
    if time != "none":
        table += linear(f"{source}.time_emb_proj", f"{target}.{'norm_2.modulation' if modulated else 'embedding'}")
    return table


def mlp_rules(source: str, target: str) -> list[Rule]:
    """A TimestepEmbedding."""
    return [rule for name in ("linear_1", "linear_2") for rule in linear(f"{source}.{name}", f"{target}.{name}")]


def attention_rules(source: str, target: str, layer: str = "", bias: bool = False) -> list[Rule]:
    """An Attention, whose target may end in the bracket `layer`; `bias` is of queries, keys and values."""
    table = linear(f"{source}.to_out.0", f"{target}.out{layer}")
    for theirs, ours in PROJECTIONS.items():
        table += linear(f"{source}.{theirs}", f"{target}.{ours}{layer}", bias)
    return table


def spatial_transformer_rules(source: str, target: str, dense: bool) -> list[Rule]:
    """A Transformer2DModel; its projections are linear layers where `dense`, else 1x1 convolutions."""
    project = linear if dense else pointwise
    block, layers, layer = f"{source}.transformer_blocks.{{layer}}", f"{target}.layers", "[{layer}]"
    return [
        *norm(f"{source}.norm", f"{target}.norm"),
        *project(f"{source}.proj_in", f"{target}.project_in"),
        *project(f"{source}.proj_out", f"{target}.project_out"),
        *norm(f"{block}.norm1", f"{layers}.norm_1{layer}"),
        *attention_rules(f"{block}.attn1", f"{layers}.self_attention", layer),
        *norm(f"{block}.norm2", f"{layers}.norm_2{layer}"),
        *attention_rules(f"{block}.attn2", f"{layers}.cross_attention", layer),
        *norm(f"{block}.norm3", f"{layers}.norm_3{layer}"),
        *linear(f"{block}.ff.net.0.proj", f"{layers}.feed_forward.in{layer}"),
        *linear(f"{block}.ff.net.2", f"{layers}.feed_forward.out{layer}"),
    ]
