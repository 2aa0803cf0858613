"""CoCa in PyTorch's own layers, with OpenCLIP's structure and names, and its parameters as our captioner has them."""

from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import nn


class Block(nn.Module):
    """A residual block of attention and feed-forward, before each of which is a norm; cross-attention has a third."""

    def __init__(self, width: int, heads: int, wide: int, context: int = 0):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        if context:
            self.ln_1_kv = nn.LayerNorm(context)
        self.attn = nn.MultiheadAttention(width, heads, kdim=context or None, vdim=context or None, batch_first=True)
        layers = ("c_fc", nn.Linear(width, wide)), ("gelu", nn.GELU()), ("c_proj", nn.Linear(wide, width))
        self.mlp = nn.Sequential(OrderedDict(layers))

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None, mask: torch.Tensor | None = None):
        rows = self.ln_1(x)
        read = rows if context is None else self.ln_1_kv(context)
        x = x + self.attn(rows, read, read, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class Stack(nn.Module):
    """Blocks in a row."""

    def __init__(self, width: int, layers: int, heads: int, wide: int):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, wide) for _ in range(layers))


class Pooler(nn.Module):
    """Learned queries that attend to the patches."""

    def __init__(self, width: int, context: int, heads: int, queries: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=context, vdim=context, batch_first=True)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(context)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.ln_k(x)
        query = self.ln_q(self.query).expand(len(x), -1, -1)
        return self.attn(query, x, x, need_weights=False)[0]


class Visual(nn.Module):
    """The image tower: (unnormed vector, tokens)."""

    def __init__(self, fields: dict[str, Any]):
        super().__init__()
        width, patch = fields["vision"][0], fields["patch"]
        cells = (fields["image_size"][0] // patch) * (fields["image_size"][1] // patch)
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width))
        self.positional_embedding = nn.Parameter(torch.randn(cells + 1, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Stack(*fields["vision"])
        out = fields["projection"]
        if fields["queries"]:
            self.attn_pool = Pooler(out, width, fields["pooling_heads"], fields["queries"])
        inner = out if fields["queries"] else width
        self.ln_post, self.proj = nn.LayerNorm(inner), nn.Parameter(torch.randn(inner, out))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.conv1(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        x = self.ln_pre(x)
        for block in self.transformer.resblocks:
            x = block(x)
        x = self.ln_post(self.attn_pool(x) if hasattr(self, "attn_pool") else x)
        return x[:, 0] @ self.proj, x[:, 1:]


class Text(nn.Module):
    """The text tower with its class token behind the text; nothing attends to padding: (unnormed vector, tokens)."""

    def __init__(self, fields: dict[str, Any]):
        super().__init__()
        width, _, self.heads, _ = fields["text"]
        self.token_embedding = nn.Embedding(fields["vocab_size"], width)
        self.positional_embedding = nn.Parameter(torch.randn(fields["positions"] + 1, width))
        self.cls_emb = nn.Parameter(torch.randn(width))
        self.transformer = Stack(*fields["text"])
        self.ln_final, self.text_projection = (
            nn.LayerNorm(width),
            nn.Parameter(torch.randn(width, fields["projection"])),
        )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.cat([self.token_embedding(ids), self.cls_emb.expand(len(ids), 1, -1)], 1) + self.positional_embedding
        seen = causal(x.shape[1]).expand(len(ids), -1, -1).clone()
        seen[:, :, :-1].masked_fill_(~mask[:, None], -torch.inf)
        for block in self.transformer.resblocks:
            x = block(x, mask=seen.repeat_interleave(self.heads, 0))
        return self.ln_final(x[:, -1]) @ self.text_projection, x[:, :-1]


class Decoder(nn.Module):
    """Causal blocks and cross-attention to the picture, in turn: logits."""

    def __init__(self, fields: dict[str, Any]):
        super().__init__()
        width, layers, heads, wide = fields["decoder"]
        self.resblocks = nn.ModuleList(Block(width, heads, wide) for _ in range(layers))
        seen = fields["projection"] if fields["queries"] else fields["vision"][0]
        self.cross_attn = nn.ModuleList(Block(width, heads, wide, context=seen) for _ in range(layers))
        self.ln_final, self.text_projection = (
            nn.LayerNorm(width),
            nn.Parameter(torch.randn(width, fields["vocab_size"])),
        )

    def forward(self, picture: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        for block, cross in zip(self.resblocks, self.cross_attn, strict=True):
            x = cross(block(x, mask=causal(x.shape[1])), picture)
        return self.ln_final(x) @ self.text_projection


class CoCa(nn.Module):
    """All of it: (image vectors, text vectors, scale, logits)."""

    def __init__(self, fields: dict[str, Any]):
        super().__init__()
        self.visual, self.text, self.text_decoder = Visual(fields), Text(fields), Decoder(fields)
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        image, picture = self.visual(images)
        text, tokens = self.text(ids, mask)
        vectors = nn.functional.normalize(image, dim=-1), nn.functional.normalize(text, dim=-1)
        return *vectors, self.logit_scale.exp(), self.text_decoder(picture, tokens)


def causal(length: int) -> torch.Tensor:
    """What is added to scores so that nothing sees what stands behind it."""
    return torch.full((length, length), -torch.inf).triu(1)


def params_of(state: dict[str, torch.Tensor], fields: dict[str, Any]) -> dict[str, Any]:
    """OpenCLIP's parameters as the tree of our captioner."""
    given = {name: value.detach().numpy() for name, value in state.items()}
    visual, text, decoder = "visual.", "text.", "text_decoder."
    tower = {
        "patch_embedding": {"kernel": given[f"{visual}conv1.weight"].transpose(2, 3, 1, 0)},
        "class_embedding": given[f"{visual}class_embedding"],
        "position_embedding": {"embedding": given[f"{visual}positional_embedding"]},
        "pre_norm": norm(given, f"{visual}ln_pre"),
        "layers": stacked(
            [clip_block(given, f"{visual}transformer.resblocks.{i}") for i in range(fields["vision"][1])]
        ),
        "final_norm": norm(given, f"{visual}ln_post"),
        "projection": {"kernel": given[f"{visual}proj"]},
    }
    if fields["queries"]:
        pooler = f"{visual}attn_pool."
        tower["pooler"] = {
            "queries": given[f"{pooler}query"],
            "attention": attention(given, f"{pooler}attn"),
            "norm_queries": norm(given, f"{pooler}ln_q"),
            "norm_context": norm(given, f"{pooler}ln_k"),
        }
    return {
        "image_tower": tower,
        "text_tower": {
            "token_embedding": {"embedding": given[f"{text}token_embedding.weight"]},
            "position_embedding": {"embedding": given[f"{text}positional_embedding"]},
            "class_embedding": given[f"{text}cls_emb"],
            "layers": stacked(
                [text_block(given, f"{text}transformer.resblocks.{i}") for i in range(fields["text"][1])]
            ),
            "final_norm": norm(given, f"{text}ln_final"),
            "projection": {"kernel": given[f"{text}text_projection"]},
        },
        "text_decoder": {
            "layers": stacked([decoder_block(given, decoder, i) for i in range(fields["decoder"][1])]),
            "final_norm": norm(given, f"{decoder}ln_final"),
            "logits": {"kernel": given[f"{decoder}text_projection"]},
        },
        "logit_scale": given["logit_scale"],
    }


def norm(given: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """A layer norm."""
    return {"scale": given[f"{name}.weight"], "bias": given[f"{name}.bias"]}


def linear(given: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """A linear layer."""
    return {"kernel": given[f"{name}.weight"].T, "bias": given[f"{name}.bias"]}


def attention(given: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """An attention, whose projections PyTorch keeps in one matrix where all read the same width."""
    parts = ("query", "key", "value")
    if f"{name}.in_proj_weight" in given:
        kernels = np.split(given[f"{name}.in_proj_weight"], 3)
    else:
        kernels = [given[f"{name}.{part[0]}_proj_weight"] for part in parts]
    biases = np.split(given[f"{name}.in_proj_bias"], 3)
    found = {part: {"kernel": k.T, "bias": b} for part, k, b in zip(parts, kernels, biases, strict=True)}
    return found | {"out": linear(given, f"{name}.out_proj")}


def feed_forward(given: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Both linear layers."""
    return {"wide": linear(given, f"{name}.c_fc"), "narrow": linear(given, f"{name}.c_proj")}


def clip_block(given: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """A block of the image tower."""
    norms = {"norm_1": norm(given, f"{name}.ln_1"), "norm_2": norm(given, f"{name}.ln_2")}
    return norms | {"attention": attention(given, f"{name}.attn"), **feed_forward(given, f"{name}.mlp")}


def text_block(given: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """A block of the text tower."""
    norms = {"norm_1": norm(given, f"{name}.ln_1"), "norm_2": norm(given, f"{name}.ln_2")}
    return norms | {"attention": attention(given, f"{name}.attn"), "feed_forward": feed_forward(given, f"{name}.mlp")}


def decoder_block(given: dict[str, np.ndarray], name: str, i: int) -> dict[str, Any]:
    """A causal block and the cross-attention after it."""
    cross = f"{name}cross_attn.{i}"
    return {
        "text": text_block(given, f"{name}resblocks.{i}"),
        "norm_1": norm(given, f"{cross}.ln_1"),
        "norm_picture": norm(given, f"{cross}.ln_1_kv"),
        "norm_2": norm(given, f"{cross}.ln_2"),
        "cross_attention": attention(given, f"{cross}.attn"),
        "feed_forward": feed_forward(given, f"{cross}.mlp"),
    }


def stacked(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Blocks on a leading axis."""
    first = blocks[0]
    if isinstance(first, dict):
        return {name: stacked([block[name] for block in blocks]) for name in first}
    return np.stack(blocks)
