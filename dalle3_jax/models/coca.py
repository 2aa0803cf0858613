"""The parts of CoCa (arXiv 2205.01917), in OpenCLIP's structure: image tower, text tower, and the decoder between."""

import functools

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.clip import CLIPBlock, ImageFeatures, Tower, activate, unit_vectors
from dalle3_jax.nn.attention import KV
from dalle3_jax.nn.kv_cache import CachedAttention
from dalle3_jax.nn.layers import conv, dense, embedding, grid_sinusoids, kernel_init, layer_norm
from dalle3_jax.nn.transformer import scan_layers
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Int

__all__ = ["ImageTower", "TextDecoder", "TextTower"]


class Pooler(nn.Module):
    """Learned queries that attend to what they pool; the tokens keep the width of the queries."""

    queries: int
    width: int
    heads: int
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b m d_out"]:
        """Pool to `queries` tokens."""
        norm = functools.partial(layer_norm, dtype=self.dtype, eps=self.eps)
        queries = self.param("queries", kernel_init((None, "out"), std=1.0), (self.queries, self.width))
        rows = jnp.broadcast_to(queries.astype(self.dtype), (len(x), *queries.shape))
        attention = CachedAttention(self.heads, self.width // self.heads, self.dtype, name="attention")
        return attention(norm(name="norm_queries")(rows), norm(name="norm_context")(x))[0]


class ImageTower(nn.Module):
    """A vision transformer (arXiv 2010.11929) and its pooling: images in [-1, 1] -> `ImageFeatures`.

    Without `queries` the patches themselves are the tokens and the class token the vector. `patch_positions` and
    `token_positions` are factors of fixed 2-D sinusoids that are added to the patches, beside the learned positions,
    and to the tokens, so that whatever attends to these finds in keys and values where each is. 0 adds none.
    """

    tower: Tower
    image_size: tuple[int, int]
    patch: int
    projection: int
    queries: int = 0
    pooling_heads: int = 8
    patch_positions: float = 0.0
    token_positions: float = 0.0
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> ImageFeatures:
        """Read pictures of `image_size`; ValueError for others."""
        if images.shape[1:3] != tuple(self.image_size):
            raise ValueError(f"images of {images.shape[1:3]}: this captioner takes {self.image_size}, resize them")
        tower, b = self.tower, images.shape[0]
        norm = functools.partial(layer_norm, dtype=self.dtype, eps=tower.eps)
        patches = conv(
            *(tower.width, self.patch),
            stride=self.patch,
            padding=((0, 0), (0, 0)),
            use_bias=False,
            dtype=self.dtype,
            name="patch_embedding",
        )
        grid = patches(images.astype(self.dtype))
        x, fixed = grid.reshape(b, -1, tower.width), 0.0
        if self.patch_positions or self.token_positions:
            fixed = grid_sinusoids(grid.shape[1], grid.shape[2], tower.width).astype(x.dtype)
        x = x + self.patch_positions * fixed
        first = self.param("class_embedding", kernel_init(("out",), std=0.02), (tower.width,))
        x = jnp.concatenate([jnp.broadcast_to(first.astype(x.dtype), (b, 1, tower.width)), x], axis=1)
        places = embedding(x.shape[1], tower.width, std=0.02, dtype=self.dtype, name="position_embedding")
        blocks = scan_layers(CLIPBlock, tower.layers, remat=self.remat)(tower, self.dtype, name="layers")
        x, _ = blocks(norm(name="pre_norm")(x + places(jnp.arange(x.shape[1]))[None]), None)
        if self.queries:
            pooler = Pooler(self.queries, self.projection, self.pooling_heads, tower.eps, self.dtype, name="pooler")
            x = pooler(x)
        x = norm(name="final_norm")(x)
        vector = dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")(x[:, 0])
        return ImageFeatures(unit_vectors(vector), x[:, 1:] + self.token_positions * fixed)


class TextBlock(nn.Module):
    """Pre-norm causal self-attention and feed-forward, token by token where a cache is given."""

    tower: Tower
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        cache: KV | None = None,
        positions: Int[Array, " b"] | None = None,
        mask: Bool[Array, "b l"] | None = None,
    ) -> tuple[Float[Array, "b l d"], KV]:
        """Apply the block; keys and values are there for the next token."""
        tower, norm = self.tower, functools.partial(layer_norm, dtype=self.dtype, eps=self.tower.eps)
        attention = CachedAttention(tower.heads, tower.width // tower.heads, self.dtype, name="attention")
        h, kv = attention(norm(name="norm_1")(x), cache=cache, positions=positions, mask=mask)
        x = x + h
        return x + TowerFeedForward(tower, self.dtype, name="feed_forward")(norm(name="norm_2")(x)), kv


class DecoderBlock(nn.Module):
    """A text block, and after it cross-attention to the picture with a feed-forward of its own."""

    tower: Tower
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        cache: tuple[KV, KV | None] | None = None,
        positions: Int[Array, " b"] | None = None,
        image_tokens: Float[Array, "b m d_picture"] | None = None,
    ) -> tuple[Float[Array, "b l d"], tuple[KV, KV]]:
        """Apply the block; later tokens take the picture's keys and values from `cache`, not from the picture."""
        text, seen = cache or (None, None)
        tower, norm = self.tower, functools.partial(layer_norm, dtype=self.dtype, eps=self.tower.eps)
        x, text = TextBlock(tower, self.dtype, name="text")(x, text, positions)
        context = None if image_tokens is None else norm(name="norm_picture")(image_tokens)
        attention = CachedAttention(tower.heads, tower.width // tower.heads, self.dtype, name="cross_attention")
        h, seen = attention(norm(name="norm_1")(x), context, seen)
        x = x + h
        return x + TowerFeedForward(tower, self.dtype, name="feed_forward")(norm(name="norm_2")(x)), (text, seen)


class TowerFeedForward(nn.Module):
    """Linear, activation, linear."""

    tower: Tower
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Apply the layer."""
        wide = dense(self.tower.mlp_width, dtype=self.dtype, axes=("embed", "mlp"), name="wide")
        narrow = dense(x.shape[-1], dtype=self.dtype, axes=("from_mlp", "whole"), name="narrow")
        return narrow(activate(self.tower.activation, wide(x)))


class TextTower(nn.Module):
    """Token ids -> causal token features and, from a class token behind them that sees them all, a vector."""

    tower: Tower
    vocab_size: int
    positions: int
    projection: int
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        ids: Int[Array, "b l"],
        mask: Bool[Array, "b l"] | None = None,
        cache: KV | None = None,
        positions: Int[Array, " b"] | None = None,
    ) -> tuple[Float[Array, "b l d"], Float[Array, "b v"], KV]:
        """Features and vector of whole texts, or (with `cache` and `positions`) of one more token.

        The class token stands at the last of `positions` + 1 places: a text's vector does not depend on padding.
        """
        b, length = ids.shape
        if length > self.positions:
            raise ValueError(f"a text of {length} tokens exceeds the {self.positions} positions of this captioner")
        x = embedding(self.vocab_size, self.tower.width, std=0.02, dtype=self.dtype, name="token_embedding")(ids)
        places = embedding(self.positions + 1, self.tower.width, std=0.01, dtype=self.dtype, name="position_embedding")
        last = self.param("class_embedding", kernel_init(("out",), std=0.01), (self.tower.width,))
        norm = layer_norm(dtype=self.dtype, eps=self.tower.eps, name="final_norm")
        project = dense(self.projection, use_bias=False, dtype=self.dtype, name="projection")
        blocks = scan_layers(TextBlock, self.tower.layers, remat=self.remat, axes=(0, nn.broadcast, nn.broadcast))
        layers = blocks(self.tower, self.dtype, name="layers")
        if positions is not None:
            x, kv = layers(x + places(positions)[:, None], cache, positions, None)
            return x, unit_vectors(project(norm(x[:, -1]))), kv
        x = x + places(jnp.arange(length))[None]
        end = jnp.broadcast_to(last.astype(x.dtype) + places(jnp.full(1, self.positions)), (b, 1, x.shape[-1]))
        seen = None if mask is None else jnp.pad(mask, ((0, 0), (0, 1)), constant_values=True)
        x, kv = layers(jnp.concatenate([x, end], axis=1), None, None, seen)
        return x[:, :-1], unit_vectors(project(norm(x[:, -1]))), kv


class TextDecoder(nn.Module):
    """Features of the text tower and a picture's tokens -> logits of the next token."""

    tower: Tower
    vocab_size: int
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        image_tokens: Float[Array, "b m d_picture"] | None,
        cache: tuple[KV, KV | None] | None = None,
        positions: Int[Array, " b"] | None = None,
    ) -> tuple[Float[Array, "b l vocab"], tuple[KV, KV]]:
        """Logits in float32, and what later tokens need of these and of the picture."""
        blocks = scan_layers(DecoderBlock, self.tower.layers, remat=self.remat, axes=(0, nn.broadcast, nn.broadcast))
        x, kv = blocks(self.tower, self.dtype, name="layers")(x, cache, positions, image_tokens)
        x = layer_norm(dtype=self.dtype, eps=self.tower.eps, name="final_norm")(x)
        logits = dense(self.vocab_size, use_bias=False, dtype=self.dtype, axes=("embed", "vocab"), name="logits")(x)
        return logits.astype(jnp.float32), kv
