"""T5's encoder: v1.0 (ReLU), v1.1, FLAN and ByT5 (gated GELU), UL2 (gated SiLU) from one class.

arXiv 1910.10683, 2105.13626; the layout is Mesh TensorFlow's and transformers'.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.models.examples import text_inputs
from dalle3_jax.nn.attention import Attention
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import dense, embedding
from dalle3_jax.nn.norms import RMSNorm
from dalle3_jax.nn.transformer import scan_layers
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Int

__all__ = ["Activation", "T5Block", "T5Encoder", "relative_buckets", "word_places"]

WORD_END = 1
"""The id that ends a word of bytes (see `text.glyphs`)."""
Activation = Literal["gated_gelu", "gated_silu", "relu"]


def relative_buckets(length: int, buckets: int, max_distance: int) -> Int[Array, "l l"]:
    """The bucket of key - query for every pair: half for each direction, exact near, logarithmic to max_distance."""
    half = buckets // 2
    exact = half // 2
    # numpy, at trace time: an accelerator's rounding of the logarithm would move the borders, which are powers of two.
    offset = np.arange(1 - length, length)
    distance = np.abs(offset)
    spread = np.log(np.maximum(distance, 1) / exact) / math.log(max_distance / exact)
    far = np.minimum(exact + (spread * (half - exact)).astype(np.int32), half - 1)
    bucket = jnp.asarray(np.where(offset > 0, half, 0) + np.where(distance < exact, distance, far))
    position = jnp.arange(length)
    return bucket[position[None, :] - position[:, None] + length - 1]


def word_places(ids: Int[Array, "b l"]) -> tuple[Int[Array, "b l"], Int[Array, "b l"]]:
    """The place of every byte in its word, from its start and from its end, which the id `WORD_END` marks."""
    length = ids.shape[1]
    index = jnp.arange(length)[None]
    ends = ids == WORD_END
    starts = jnp.pad(ends[:, :-1], ((0, 0), (1, 0)), constant_values=True)
    start = jax.lax.cummax(jnp.where(starts, index, 0), axis=1)
    end = jax.lax.cummin(jnp.where(ends, index, length - 1), axis=1, reverse=True)
    return index - start, end - index


def residual_dtype(dtype: DTypeLike) -> DTypeLike:
    """The type in which blocks add up: float32 for float16, whose range trained encoders pass."""
    return jnp.float32 if jnp.dtype(dtype) == jnp.float16 else dtype


class T5FeedForward(nn.Module):
    """wo(f(wi_0 x) * wi_1 x), f the tanh GELU or SiLU, or wo(relu(wi_0 x)); no biases.

    In float16 `wo` is computed in float32, as transformers keeps it: its output passes float16's range.
    """

    mlp_width: int
    activation: Activation
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b l d"]) -> Float[Array, "b l d"]:
        """Apply the layer."""

        def wide(name: str) -> nn.Dense:
            return dense(self.mlp_width, use_bias=False, axes=("embed", "mlp"), dtype=self.dtype, name=name)

        if self.activation == "gated_gelu":
            h = nn.gelu(wide("wi_0")(x), approximate=True) * wide("wi_1")(x)
        elif self.activation == "gated_silu":
            h = nn.silu(wide("wi_0")(x)) * wide("wi_1")(x)
        elif self.activation == "relu":
            h = nn.relu(wide("wi_0")(x))
        else:
            raise ValueError(f"unknown activation {self.activation!r}: use gated_gelu, gated_silu or relu")
        dtype = residual_dtype(self.dtype)
        return dense(x.shape[-1], use_bias=False, axes=("from_mlp", "whole"), dtype=dtype, name="wo")(h)


class T5Block(nn.Module):
    """RMS norm, self-attention without scaling or biases, RMS norm, feed-forward."""

    heads: int
    head_size: int
    mlp_width: int
    activation: Activation
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b l d"], mask: Bool[Array, "b l"], bias: Float[Array, "1 n l l"]
    ) -> tuple[Float[Array, "b l d"], None]:
        """Apply the block; bias is the relative position bias that all blocks share."""
        attention = Attention(
            self.heads,
            self.head_size,
            out_bias=False,
            scale=1.0,
            # Mesh TensorFlow's initialiser: what other transformers divide the scores by is in the query's deviation.
            query_std=(x.shape[-1] * self.head_size) ** -0.5,
            dtype=self.dtype,
            name="attention",
        )
        x = x + attention(RMSNorm(name="norm_1")(x), mask=mask, bias=bias)
        h = RMSNorm(name="norm_2")(x)
        x = x + T5FeedForward(self.mlp_width, self.activation, self.dtype, name="feed_forward")(h)
        return nn.with_logical_constraint(x, ("batch", None, None)), None


@accept_explicit_axes
class T5Encoder(nn.Module):
    """Token ids -> one feature vector per token. XXL: width 4096, 24 layers, 64 heads of 64, mlp_width 10240.

    `relative_std` is the deviation with which the relative bias begins (None: T5's, width^-0.5). A small encoder that
    learns from nothing wants about 2: heads that look at different neighbours from the start, so that "a left of b" is
    told from "b left of a" within hundreds of steps instead of not at all.
    A glyph encoder with `word_positions` adds to a byte what it has learnt of the byte's place in its word, counted
    from the start and from the end up to so many (0: nothing is added): which letter stands where in a centred word
    follows from both.
    """

    vocab_size: int
    width: int
    layers: int
    heads: int
    head_size: int
    mlp_width: int
    activation: Activation = "gated_gelu"
    relative_buckets: int = 32
    relative_max_distance: int = 128
    relative_std: float | None = None
    word_positions: int = 0
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"]) -> Float[Array, "b l d"]:
        """Encode; features at masked positions are finite and mean nothing."""
        x = embedding(self.vocab_size, self.width, dtype=self.dtype, name="token_embedding")(ids)
        places = zip(("from_start", "from_end"), word_places(ids), strict=True) if self.word_positions else ()
        for name, place in places:
            table = embedding(self.word_positions, self.width, dtype=self.dtype, name=name)
            x += table(jnp.minimum(place, self.word_positions - 1))
        x = x.astype(residual_dtype(self.dtype))
        std = self.width**-0.5 if self.relative_std is None else self.relative_std
        table = embedding(self.relative_buckets, self.heads, dtype=jnp.float32, std=std, name="relative_bias")
        bias = table(relative_buckets(ids.shape[1], self.relative_buckets, self.relative_max_distance))
        blocks = scan_layers(T5Block, self.layers, remat=self.remat)(
            self.heads, self.head_size, self.mlp_width, self.activation, self.dtype, name="layers"
        )
        x, _ = blocks(x, mask, jnp.moveaxis(bias, -1, 0)[None])
        return RMSNorm(name="final_norm")(x).astype(self.dtype)

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return text_inputs()
