"""Attention that keeps its keys and values, so that a text can be continued token by token."""

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.nn.attention import KV, attend
from dalle3_jax.nn.layers import dense
from dalle3_jax.typing import Array, Bool, DTypeLike, Float, Int

__all__ = ["CachedAttention", "causal_bias", "write_tokens"]


class CachedAttention(nn.Module):
    """Causal self-attention, or cross-attention to a context; with biases, as transformers for language have it.

    The first call gives keys and values beside the result. Later ones take them: of self-attention as buffers of a
    fixed length, into which the one token of each row is written at its `positions`; of cross-attention as they are.
    """

    heads: int
    head_size: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        context: Float[Array, "b m d_context"] | None = None,
        cache: KV | None = None,
        positions: Int[Array, " b"] | None = None,
        mask: Bool[Array, "b l"] | None = None,
    ) -> tuple[Float[Array, "b l d"], KV]:
        """Attend; `positions` marks one token of self-attention after others, which stand in `cache`.

        `mask` marks the tokens of whole texts that may be attended to.
        """

        def split(name: str, rows: Array) -> Array:
            y = dense(self.heads * self.head_size, dtype=self.dtype, axes=("embed", "heads"), name=name)(rows)
            return y.reshape(*y.shape[:-1], self.heads, self.head_size)

        q, bias = split("query", x), None
        if cache is not None and positions is None:
            kv = cache
        else:
            rows = x if context is None else context
            kv = KV(split("key", rows), split("value", rows))
            if cache is not None and positions is not None:
                kv = write_tokens(cache, kv, positions)
                mask = jnp.arange(kv.keys.shape[1])[None] <= positions[:, None]
            elif context is None:
                bias = causal_bias(x.shape[1], self.heads)
        y = attend(q, kv.keys, kv.values, mask, bias, scale=self.head_size**-0.5)
        out = dense(x.shape[-1], dtype=self.dtype, axes=("from_heads", "whole"), name="out")
        return out(y.reshape(*y.shape[:2], -1)), kv


def causal_bias(length: int, heads: int) -> Float[Array, "1 n l l"]:
    """The bias of attention scores with which a token attends to itself and to what stands before it."""
    seen = jnp.tril(jnp.ones((length, length), bool))
    return jnp.broadcast_to(jnp.where(seen, 0.0, jnp.finfo(jnp.float32).min), (1, heads, length, length))


def write_tokens(cache: KV, new: KV, positions: Int[Array, " b"]) -> KV:
    """The buffers with one new token in each row, at its position."""
    here = (jnp.arange(cache.keys.shape[1])[None] == positions[:, None])[..., None, None]
    return KV(*(jnp.where(here, token.astype(old.dtype), old) for old, token in zip(cache, new, strict=True)))
