"""Attention on TPUs by a Pallas kernel that never writes the scores (FlashAttention-2, arXiv 2307.08691).

XLA's partitioner cannot split such a kernel: it runs inside `shard_map`, on each device's rows and heads.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import PartitionSpec as P

from dalle3_jax.nn.fsdp import divisible_spec
from dalle3_jax.typing import Array, Bool, Float

__all__ = ["flash_attention", "suits_flash"]

LANES = 128
BLOCKS = (512, 384, 256, 128)
SHORTEST = 512
"""Queries and keys from which the kernel is used: below, the scores are small and XLA's fused softmax does as well."""


def suits_flash(q: Float[Array, "b l n k"], k: Float[Array, "b m n k"]) -> bool:
    """Whether the kernel takes these: many tokens on both sides, and a head that fits the lanes."""
    return min(q.shape[1], k.shape[1]) >= SHORTEST and q.shape[-1] <= LANES and q.shape[-1] % 8 == 0


def flash_attention(
    q: Float[Array, "b l n k"],
    k: Float[Array, "b m n k"],
    v: Float[Array, "b m n k"],
    mask: Bool[Array, "b m"] | None,
    *,
    scale: float,
) -> Float[Array, "b l n k"]:
    """softmax(scale * q k^T) v over the unmasked keys, on each device's rows and heads where rules split them."""
    keep = jnp.ones(k.shape[:2], bool) if mask is None else mask
    kernel = functools.partial(_pallas_kernel, scale=scale, masked=mask is not None)
    mesh, rules = jax.sharding.get_abstract_mesh(), nn.get_logical_axis_rules()
    if mesh.empty or not rules:
        return kernel(q, k, v, keep)
    spec = divisible_spec(q.shape, nn.logical_to_mesh(P("batch", None, "heads", None), rules), mesh)
    # The kernel says nothing of how its result varies over the mesh, which is what check_vma would ask.
    split = jax.shard_map(kernel, in_specs=(spec, spec, spec, P(spec[0], None)), out_specs=spec, check_vma=False)
    return split(q, k, v, keep)


def _pallas_kernel(q: Array, k: Array, v: Array, keep: Array, *, scale: float, masked: bool) -> Array:
    from jax.experimental.pallas.ops.tpu import flash_attention as pallas

    length = q.shape[1]
    q, k, v = (_pad_to_lanes(jnp.moveaxis(x, 2, 1), axis=2) for x in (q, k, v))
    segments = None
    if masked or k.shape[2] != keep.shape[1]:
        # Only what has the same id is attended to: queries are 1, and so are the keys to use.
        ids = _pad_to_lanes(keep, axis=1).astype(jnp.int32)
        segments = pallas.SegmentIds(jnp.ones((q.shape[0], q.shape[2]), jnp.int32), ids)
    rows, columns = (next(block for block in BLOCKS if x.shape[2] % block == 0) for x in (q, k))
    backward = {"block_q_major_dkv": rows, "block_q_dkv": rows, "block_k_major_dkv": columns, "block_k_dkv": columns}
    backward |= {"block_q_dq": rows, "block_k_major_dq": columns, "block_k_dq": columns}
    sizes = pallas.BlockSizes(block_q=rows, block_k_major=columns, block_k=columns, block_b=1, **backward)
    out = pallas.flash_attention(q, k, v, segment_ids=segments, sm_scale=scale, block_sizes=sizes)
    return jnp.moveaxis(out[:, :, :length], 1, 2)


def _pad_to_lanes(x: Array, axis: int) -> Array:
    """With zeros up to a multiple of the lanes."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (0, -x.shape[axis] % LANES)
    return jnp.pad(x, widths)
