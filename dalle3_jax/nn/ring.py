"""Attention over pixels whose rows are split over devices: keys and values go round in a ring (arXiv 2310.01889).

No device ever holds all keys, nor the scores of more than its own rows with those of one other.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from dalle3_jax.typing import Array, Float

__all__ = ["ring_attention", "ring_axes"]


def ring_axes() -> tuple[str, ...]:
    """The mesh axes over which rules split the height of images; empty where they do not."""
    mesh, rules = jax.sharding.get_abstract_mesh(), dict(nn.get_logical_axis_rules())
    axes = rules.get("height") or ()
    axes = (axes,) if isinstance(axes, str) else tuple(axes)
    return tuple(name for name in axes if not mesh.empty and mesh.shape[name] > 1)


def ring_attention(
    q: Float[Array, "b l n k"], k: Float[Array, "b l n k"], v: Float[Array, "b l n k"], *, scale: float
) -> Float[Array, "b l n k"]:
    """softmax(scale * q k^T) v, tokens split over `ring_axes`, with a float32 softmax."""
    axes = ring_axes()

    def rows(q: Array, k: Array, v: Array) -> Array:
        count = jax.lax.axis_size(axes)
        q = q.astype(jnp.float32) * scale
        onward = [(i, (i + 1) % count) for i in range(count)]

        def turn(_: int, carry: tuple[Array, ...]) -> tuple[Array, ...]:
            out, total, top, k, v = carry
            scores = jnp.einsum("blnk,bmnk->bnlm", q, k.astype(jnp.float32))
            highest = jnp.maximum(top, scores.max(axis=-1))
            weights = jnp.exp(scores - highest[..., None])
            kept = jnp.exp(top - highest)
            out = out * kept[..., None] + jnp.einsum("bnlm,bmnk->bnlk", weights, v.astype(jnp.float32))
            total = total * kept + weights.sum(axis=-1)
            k, v = (jax.lax.ppermute(x, axes, onward) for x in (k, v))
            return out, total, highest, k, v

        b, length, n, size = q.shape
        zero = jax.lax.pcast(jnp.zeros((b, n, length)), axes, to="varying")
        start = (jax.lax.pcast(jnp.zeros((b, n, length, size)), axes, to="varying"), zero, zero - jnp.inf, k, v)
        out, total, *_ = jax.lax.fori_loop(0, count, turn, start)
        return jnp.moveaxis(out / total[..., None], 1, 2).astype(v.dtype)

    spec = P(None, axes, None, None)
    return jax.shard_map(rows, in_specs=(spec, spec, spec), out_specs=spec)(q, k, v)
