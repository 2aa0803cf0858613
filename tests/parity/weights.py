"""Torch state dicts as our parameter trees, by explicit names; every weight must be used exactly once.

Deliberately apart from the package's own importer: two independent tables that agree are the proof of both.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
import torch

Tree = dict


class Weights:
    """A state dict under a prefix that remembers which of its weights were read."""

    def __init__(self, state: Mapping[str, torch.Tensor], prefix: str = "", used: list[str] | None = None):
        self.state, self.prefix, self.used = state, prefix, [] if used is None else used

    def __truediv__(self, name: str) -> "Weights":
        return Weights(self.state, f"{self.prefix}{name}.", self.used)

    def has(self, name: str) -> bool:
        return any(key.startswith(f"{self.prefix}{name}") for key in self.state)

    def __getitem__(self, name: str) -> np.ndarray:
        self.used.append(self.prefix + name)
        return self.state[self.prefix + name].detach().numpy()


@contextmanager
def read_once(module: torch.nn.Module, ignore: tuple[str, ...] = ()) -> Iterator[Weights]:
    """The weights of a module; what the block leaves unread or reads twice is an error."""
    weights = Weights(module.state_dict())
    yield weights
    assert sorted(weights.used) == sorted(set(weights.state) - set(ignore))


def perturb(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Add noise to what an initialiser left at zero or one, so that no weight is a neutral element."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.ndim == 1 or torch.all(weight == weight.flatten()[0]):
                weight.add_(0.3 * torch.randn(weight.shape, generator=generator))
    return module.eval()


def stack(layers: list[Tree]) -> Tree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *layers)


def with_bias(w: Weights, kernel: np.ndarray) -> Tree:
    return {"kernel": kernel, "bias": w["bias"]} if w.has("bias") else {"kernel": kernel}


def dense(w: Weights) -> Tree:
    """A linear layer, also where torch writes it as a 1x1 convolution."""
    weight = w["weight"]
    return with_bias(w, weight.reshape(weight.shape[:2]).T)


def conv(w: Weights) -> Tree:
    return with_bias(w, w["weight"].transpose(2, 3, 1, 0))


def norm(w: Weights) -> Tree:
    return {"scale": w["weight"], "bias": w["bias"]}


def mlp(w: Weights) -> Tree:
    return {name: dense(w / name) for name in ("linear_1", "linear_2")}


QK_NORMS = {"query_norm": "norm_q", "key_norm": "norm_k"}


def attention(w: Weights) -> Tree:
    names = {"query": "to_q", "key": "to_k", "value": "to_v", "out": "to_out.0"}
    return {ours: dense(w / theirs) for ours, theirs in names.items()}


def t5_block(w: Weights, gated: bool) -> Tree:
    """A transformers T5Block."""
    q, f = w / "layer.0.SelfAttention", w / "layer.1.DenseReluDense"
    names = {"query": "q", "key": "k", "value": "v", "out": "o"}
    wide = {"wi_0": dense(f / "wi_0"), "wi_1": dense(f / "wi_1")} if gated else {"wi_0": dense(f / "wi")}
    return {
        "norm_1": {"scale": (w / "layer.0.layer_norm")["weight"]},
        "attention": {ours: dense(q / theirs) for ours, theirs in names.items()},
        "norm_2": {"scale": (w / "layer.1.layer_norm")["weight"]},
        "feed_forward": {**wide, "wo": dense(f / "wo")},
    }


def t5(w: Weights, layers: int, gated: bool) -> Tree:
    """A transformers T5 encoder."""
    bias = w / "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"
    return {
        "token_embedding": {"embedding": (w / "shared")["weight"]},
        "relative_bias": {"embedding": bias["weight"]},
        "layers": stack([t5_block(w / f"encoder.block.{i}", gated) for i in range(layers)]),
        "final_norm": {"scale": (w / "encoder.final_layer_norm")["weight"]},
    }


def res_block(w: Weights, scale_shift: bool = False) -> Tree:
    """A diffusers ResnetBlock2D."""
    tree = {"norm_1": norm(w / "norm1"), "conv_1": conv(w / "conv1"), "conv_2": conv(w / "conv2")}
    if scale_shift:
        tree["norm_2"] = {"norm": norm(w / "norm2"), "modulation": dense(w / "time_emb_proj")}
    else:
        tree["norm_2"] = norm(w / "norm2")
        if w.has("time_emb_proj"):
            tree["embedding"] = dense(w / "time_emb_proj")
    return tree | ({"shortcut": conv(w / "conv_shortcut")} if w.has("conv_shortcut") else {})


def transformer_block(w: Weights) -> Tree:
    """A diffusers BasicTransformerBlock."""
    return {
        "norm_1": norm(w / "norm1"),
        "self_attention": attention(w / "attn1"),
        "norm_2": norm(w / "norm2"),
        "cross_attention": attention(w / "attn2"),
        "norm_3": norm(w / "norm3"),
        "feed_forward": {"in": dense(w / "ff.net.0.proj"), "out": dense(w / "ff.net.2")},
    }


def spatial_transformer(w: Weights, depth: int) -> Tree:
    """A diffusers Transformer2DModel."""
    return {
        "norm": norm(w / "norm"),
        "project_in": dense(w / "proj_in"),
        "layers": stack([transformer_block(w / f"transformer_blocks.{i}") for i in range(depth)]),
        "project_out": dense(w / "proj_out"),
    }


def _half(w: Weights, levels: int, blocks: int, part: str, sampler: str, order: Callable[[int], int]) -> Tree:
    tree = {
        "conv_in": conv(w / "conv_in"),
        "norm_out": norm(w / "conv_norm_out"),
        "conv_out": conv(w / "conv_out"),
        "middle_block_0": res_block(w / "mid_block.resnets.0"),
        "middle_block_1": res_block(w / "mid_block.resnets.1"),
    }
    if w.has("mid_block.attentions"):
        middle = w / "mid_block.attentions.0"
        tree["middle_attention"] = {"norm": norm(middle / "group_norm"), "attention": attention(middle)}
    for level in range(levels):
        stage = w / f"{part}_blocks.{order(level)}"
        for i in range(blocks):
            tree[f"level_{level}_block_{i}"] = res_block(stage / f"resnets.{i}")
        if stage.has(f"{sampler}rs"):
            tree[f"level_{level}_{sampler}"] = {"conv": conv(stage / f"{sampler}rs.0.conv")}
    return tree


def vae(w: Weights, levels: int, blocks: int) -> Tree:
    """A diffusers AutoencoderKL; its decoder counts levels from the latents' side, ours from the image's."""
    tree = {
        "encoder": _half(w / "encoder", levels, blocks, "down", "downsample", lambda level: level),
        "decoder": _half(w / "decoder", levels, blocks + 1, "up", "upsample", lambda level: levels - 1 - level),
    }
    quant = ("quant_conv", "post_quant_conv")
    return tree | {name: conv(w / name) for name in quant if w.has(name)}


def unet(w: Weights, depths: tuple[int, ...], blocks: int, middle_depth: int, scale_shift: bool = False) -> Tree:
    """A diffusers UNet2DConditionModel; `depths` are the transformer layers of each level."""
    tree = {
        "conv_in": conv(w / "conv_in"),
        "time_embedding": mlp(w / "time_embedding"),
        "middle_block_0": res_block(w / "mid_block.resnets.0", scale_shift),
        "middle_block_1": res_block(w / "mid_block.resnets.1", scale_shift),
        "middle_transformer": spatial_transformer(w / "mid_block.attentions.0", middle_depth),
        "norm_out": norm(w / "conv_norm_out"),
        "conv_out": conv(w / "conv_out"),
    }
    if w.has("add_embedding"):
        tree["condition_embedding"] = mlp(w / "add_embedding")
    for i, depth in enumerate(depths):
        for part, stage, count in (("down", i, blocks), ("up", len(depths) - 1 - i, blocks + 1)):
            source = w / f"{part}_blocks.{stage}"
            for j in range(count):
                tree[f"{part}_{i}_{j}_block"] = res_block(source / f"resnets.{j}", scale_shift)
                if depth:
                    tree[f"{part}_{i}_{j}_transformer"] = spatial_transformer(source / f"attentions.{j}", depth)
            if source.has(f"{part}samplers"):
                tree[f"{part}_{i}_{part}sample"] = {"conv": conv(source / f"{part}samplers.0.conv")}
    return tree
