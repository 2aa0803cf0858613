"""Transformer blocks, stacked by `nn.scan` at any depth so that parameter trees keep their shape."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.nn.attention import KV, Attention, ContextProjection, PromptedKV
from dalle3_jax.nn.backend import unrolled_layers
from dalle3_jax.nn.layers import dense, layer_norm
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Params

__all__ = [
    "GEGLU",
    "ContextKeys",
    "PixelAttention",
    "SpatialTransformer",
    "TransformerBlock",
    "project_context",
    "scan_layers",
]

ContextKeys = Mapping[str, KV | PromptedKV | Array]
"""A context as the keys and values that each attention to it, by its name, has of it, or as that attention's output."""


def scan_layers(
    block: type[nn.Module], layers: int, *, remat: bool = False, axes: Any = nn.broadcast
) -> type[nn.Module]:
    """`layers` copies of a block as one scanned module, parameters stacked on a leading `layers` axis.

    The block maps (carry, *shared) -> (carry, kept); the shared arguments go to every layer, and what each layer keeps
    (mostly None) comes back stacked. `axes`, one an argument, is 0 for those of which every layer has its own part.
    """
    block = nn.remat(block, prevent_cse=False) if remat else block
    return nn.scan(
        block,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        in_axes=axes,
        length=layers,
        unroll=unrolled_layers(layers),
        metadata_params={nn.PARTITION_NAME: "layers"},
    )


class GEGLU(nn.Module):
    """linear(x) * gelu(linear(x)), then back to the width of x (arXiv 2002.05202; exact GELU as in diffusers)."""

    expansion: int = 4
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Apply the gated feed-forward layer."""
        hidden = dense(2 * self.expansion * x.shape[-1], dtype=self.dtype, axes=("embed", "mlp"), name="in")(x)
        hidden, gate = jnp.split(hidden, 2, axis=-1)
        out = dense(x.shape[-1], dtype=self.dtype, axes=("from_mlp", "whole"), name="out")
        return out(hidden * nn.gelu(gate, approximate=False))


class TransformerBlock(nn.Module):
    """Pre-norm self-attention, optional cross-attention, GEGLU (SD's BasicTransformerBlock).

    What the text adds is sown as the intermediate "text". Without
    `self_attend` the first attention is to the context too (diffusers' `only_cross_attention`): nothing then
    passes from one pixel to another.
    """

    heads: int
    head_size: int
    cross: bool = True
    self_attend: bool = True
    qk_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        context: Float[Array, "b m d_context"] | ContextKeys | None = None,
        mask: Bool[Array, "b m"] | None = None,
    ) -> tuple[Float[Array, "b l d"], None]:
        """Apply the block. With `cross`, mask marks the context's tokens; without, it marks x's own."""

        def attend(name: str, h: Array, context: Any, mask: Array | None) -> Array:
            if isinstance(context, Mapping) and not isinstance(context := context[name], KV | PromptedKV):
                return context  # the output itself
            attention = Attention(self.heads, self.head_size, qk_norm=self.qk_norm, dtype=self.dtype, name=name)
            return attention(h, context, mask)

        h = layer_norm(dtype=self.dtype, name="norm_1")(x)
        given = (None, None if self.cross else mask) if self.self_attend else (context, mask)
        x = x + attend("self_attention", h, *given)
        if self.cross:
            h = layer_norm(dtype=self.dtype, name="norm_2")(x)
            y = attend("cross_attention", h, context, mask)
            self.sow("intermediates", "text", y)
            x = x + y
        return x + GEGLU(dtype=self.dtype, name="feed_forward")(layer_norm(dtype=self.dtype, name="norm_3")(x)), None


class BlockProjection(nn.Module):
    """The keys and values that a `TransformerBlock` of these fields, and of this module's parameters, has."""

    heads: int
    head_size: int
    self_attend: bool = True
    qk_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, carry: None, context: Float[Array, "b m d"]) -> tuple[None, ContextKeys]:
        """Project the context for each attention to it."""
        names = ["cross_attention"] if self.self_attend else ["self_attention", "cross_attention"]
        project = functools.partial(
            ContextProjection, self.heads, self.head_size, qk_norm=self.qk_norm, dtype=self.dtype
        )
        return carry, {name: project(name=name)(context) for name in names}


class SpatialTransformer(nn.Module):
    """GroupNorm, 1x1 projection, transformer blocks over the pixels, projection, residual (SD's Transformer2DModel).

    The last projection begins at zero, as in latent diffusion's own code. Without `self_attend` and with `norm="rms"`
    a pixel's output depends on that pixel and the context alone.
    """

    depth: int
    heads: int
    head_size: int
    self_attend: bool = True
    norm: Literal["group", "rms"] = "group"
    groups: int = 32
    qk_norm: bool = False
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        context: Float[Array, "b m d"] | ContextKeys,
        mask: Bool[Array, "b m"] | None = None,
    ) -> Float[Array, "b h w c"]:
        """Let every pixel attend to all pixels and to the context, which may come as `project_context` gives it."""
        b, height, width, c = x.shape
        inner = self.heads * self.head_size
        norm = RMSNorm(1e-6, name="norm") if self.norm == "rms" else GroupNorm(self.groups, eps=1e-6, name="norm")
        h: Array = norm(x).reshape(b, height * width, c)
        h = dense(inner, dtype=self.dtype, name="project_in")(h)
        axes = (0, nn.broadcast) if isinstance(context, Mapping) else nn.broadcast
        blocks = scan_layers(TransformerBlock, self.depth, remat=self.remat, axes=axes)
        layers = blocks(
            self.heads,
            self.head_size,
            self_attend=self.self_attend,
            qk_norm=self.qk_norm,
            dtype=self.dtype,
            name="layers",
        )
        h, _ = layers(h, context, mask)
        h = dense(c, dtype=self.dtype, zero=True, name="project_out")(h).reshape(b, height, width, c)
        return nn.with_logical_constraint(x + h, ("batch", "height", None, None))


def project_context(module: SpatialTransformer, params: Params, context: Float[Array, "b m d"]) -> ContextKeys:
    """The keys and values that a transformer of these parameters has of a context, [layers b m n k] each."""
    blocks = scan_layers(BlockProjection, module.depth)(
        module.heads,
        module.head_size,
        self_attend=module.self_attend,
        qk_norm=module.qk_norm,
        dtype=module.dtype,
    )
    result: Any = blocks.apply({"params": params["layers"]}, None, context)
    return result[1]


class PixelAttention(nn.Module):
    """GroupNorm, one-head self-attention over the pixels, residual (the middle of SD's VAE)."""

    groups: int = 32
    eps: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """Let every pixel attend to all pixels."""
        b, height, width, c = x.shape
        h: Array = GroupNorm(self.groups, self.eps, name="norm")(x).reshape(b, height * width, c)
        h = Attention(1, c, qkv_bias=True, dtype=self.dtype, name="attention")(h)
        return x + h.reshape(b, height, width, c)
