"""One attention for all uses: self, cross, masked, biased; `attend` picks the kernel for the backend."""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.nn.backend import target_platform
from dalle3_jax.nn.flash import flash_attention, suits_flash
from dalle3_jax.nn.layers import dense
from dalle3_jax.nn.norms import RMSNorm
from dalle3_jax.nn.ring import ring_attention, ring_axes
from dalle3_jax.typing import Array, Bool, DTypeLike, Float

__all__ = ["KV", "Attention", "ContextProjection", "PromptedKV", "attend", "fits_cudnn", "plain_attention"]

TILED_FROM = 256 * 1024
"""Scores per head from which XLA's CPU backend is faster tile by tile (measured at 1,024 x 1,024: four times)."""


_PLAIN: ContextVar[bool] = ContextVar("plain attention", default=False)


@contextlib.contextmanager
def plain_attention() -> Iterator[None]:
    """Within, what is traced takes no fused kernel of attention: those have no forward-mode derivative (`jax.jvp`)."""
    before = _PLAIN.set(True)
    try:
        yield
    finally:
        _PLAIN.reset(before)


class KV(NamedTuple):
    """Keys and values of every token so far, or of all that is attended to; as `attend` takes them."""

    keys: Float[Array, "*layers b m n k"]
    values: Float[Array, "*layers b m n k"]


class PromptedKV(NamedTuple):
    """Keys and values of a text and, beside them, of an image: what is found there is added, `scale` times."""

    text: KV
    image: KV
    scale: Float[Array, "*layers b"]


def attend(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b m n k"],
    v: Float[Array, "b m n k"],
    mask: Bool[Array, "b m"] | None = None,
    bias: Float[Array, "1 n l m"] | None = None,
    *,
    scale: float,
) -> Float[Array, "b l n k"]:
    """softmax(scale * q k^T + bias) v over the unmasked keys, with a float32 softmax."""
    if ring_axes() and mask is None and bias is None and q.shape == k.shape:
        return ring_attention(q, k, v, scale=scale)
    backend = target_platform()
    plain = _PLAIN.get()
    if backend == "tpu" and not plain and bias is None and suits_flash(q, k):
        return flash_attention(q, k, v, mask, scale=scale)
    if backend == "cpu":
        tiled = bias is None and q.shape[1] * k.shape[1] >= TILED_FROM
        return _attend_per_head(q, k, v, mask, scale) if tiled else _attend_at_once(q, k, v, mask, bias, scale)
    fused = backend == "gpu" and not plain and bias is None and fits_cudnn(q, k, masked=mask is not None)
    return jax.nn.dot_product_attention(
        q,
        k,
        v,
        bias=bias,
        mask=None if mask is None else mask[:, None, None, :],
        scale=scale,
        implementation="cudnn" if fused else "xla",
    )


def fits_cudnn(q: Float[Array, "b l n k"], k: Float[Array, "b m n k"], *, masked: bool) -> bool:
    """Whether cuDNN's flash kernel takes these; it refuses an odd length in the backward pass under a mask."""
    half = q.dtype in (jnp.bfloat16, jnp.float16)
    even = q.shape[1] % 2 == 0 and k.shape[1] % 2 == 0
    return half and q.shape[-1] <= 128 and q.shape[-1] % 8 == 0 and (even or not masked)


def _attend_at_once(q: Array, k: Array, v: Array, mask: Array | None, bias: Array | None, scale: float) -> Array:
    q = q * jnp.asarray(scale, q.dtype)
    scores = jnp.einsum("blnk,bmnk->bnlm", q, k, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias
    if mask is not None:
        scores = jnp.where(mask[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
    return jnp.einsum("bnlm,bmnk->blnk", jax.nn.softmax(scores, axis=-1).astype(v.dtype), v)


def _attend_per_head(q: Array, k: Array, v: Array, mask: Array | None, scale: float) -> Array:
    b, length, n, _ = q.shape
    rows = [jnp.moveaxis(x, 2, 1).reshape(b * n, x.shape[1], -1) for x in (q, k, v)]
    keep = jnp.ones(k.shape[:2], bool) if mask is None else mask

    @jax.checkpoint
    def one_head(tile: tuple[Array, ...]) -> Array:
        q, k, v, keep = tile
        q = q * jnp.asarray(scale, q.dtype)
        scores = jnp.matmul(q, k.T, preferred_element_type=jnp.float32)
        scores = jnp.where(keep[None], scores, jnp.finfo(jnp.float32).min)
        return jax.nn.softmax(scores, axis=-1).astype(v.dtype) @ v

    out = jax.lax.map(one_head, (*rows, jnp.repeat(keep, n, axis=0)))
    return jnp.moveaxis(out.reshape(b, n, length, -1), 1, 2)


class Attention(nn.Module):
    """Multi-head attention from x to itself or to a context of any width.

    `scale=None` divides scores by sqrt(head_size); T5 uses 1. `qk_norm` normalises queries and keys per head.
    The context may be given as its keys and values (see `ContextProjection`), with those of an image beside them.
    """

    heads: int
    head_size: int
    out_features: int | None = None
    qkv_bias: bool = False
    out_bias: bool = True
    scale: float | None = None
    qk_norm: bool = False
    query_std: float | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b l d"],
        context: Float[Array, "b m d_context"] | KV | PromptedKV | None = None,
        mask: Bool[Array, "b m"] | None = None,
        bias: Float[Array, "1 n l m"] | None = None,
    ) -> Float[Array, "b l d_out"]:
        """Attend from x to context (by default x); `mask` marks the keys to use, `bias` is added to the scores."""
        q = _project_heads("query", x, self.heads, self.head_size, self.qkv_bias, self.dtype, self.query_std)
        if self.qk_norm:
            q = RMSNorm(name="query_norm")(q)
        prompted = None
        if isinstance(context, PromptedKV):
            context, prompted = context.text, context
        if not isinstance(context, KV):
            context = x if context is None else context
            context = _project_context(context, self.heads, self.head_size, self.qkv_bias, self.qk_norm, self.dtype)
        k, v = context
        scale = self.head_size**-0.5 if self.scale is None else self.scale
        y = attend(q, k, v, mask, bias, scale=scale)
        if prompted:
            y = y + prompted.scale[:, None, None, None].astype(y.dtype) * attend(q, *prompted.image, scale=scale)
        out = dense(
            self.out_features or x.shape[-1],
            use_bias=self.out_bias,
            dtype=self.dtype,
            axes=("from_heads", "whole"),
            name="out",
        )
        return out(y.reshape(*y.shape[:2], -1))


class ContextProjection(nn.Module):
    """The keys and values that an `Attention` of these fields, and of this module's parameters, has of a context."""

    heads: int
    head_size: int
    qkv_bias: bool = False
    qk_norm: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, context: Float[Array, "b m d_context"]) -> KV:
        """Project every token."""
        return _project_context(context, self.heads, self.head_size, self.qkv_bias, self.qk_norm, self.dtype)


def _project_context(context: Array, heads: int, head_size: int, use_bias: bool, qk_norm: bool, dtype: DTypeLike) -> KV:
    """Keys and values, by submodules of the module in whose call this is called."""
    k, v = (_project_heads(name, context, heads, head_size, use_bias, dtype) for name in ("key", "value"))
    return KV(RMSNorm(name="key_norm")(k) if qk_norm else k, v)


def _project_heads(
    name: str, x: Array, heads: int, head_size: int, use_bias: bool, dtype: DTypeLike, std: float | None = None
) -> Array:
    """A linear map of each token to every head, by a submodule of the module in whose call this is called."""
    linear = dense(heads * head_size, use_bias=use_bias, dtype=dtype, axes=("embed", "heads"), std=std, name=name)
    return linear(x).reshape(*x.shape[:-1], heads, head_size)
