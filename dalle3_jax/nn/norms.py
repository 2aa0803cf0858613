"""Normalisations, with float32 statistics and one fused affine per call."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dalle3_jax.typing import Array, Float

__all__ = ["GroupNorm", "RMSNorm", "standardise"]

NormKind = Literal["batch", "group", "layer", "instance"]


def channel_init(init: Callable) -> Callable:
    """An initialiser of one number per channel, carrying its logical axis."""
    return nn.with_logical_partitioning(init, ("out",))


def moments(
    x: Float[Array, "b *hw c"], kind: NormKind, groups: int = 1
) -> tuple[Float[Array, "#b c"], Float[Array, "#b c"]]:
    """Mean and variance in float32 of what each channel is normalised with.

    Each image's channels are averaged first and pooled after, so the four kinds differ in one line:
    batch pools over images, layer over channels, group over runs of channels, instance not at all.
    """
    flat = x.reshape(x.shape[0], -1, x.shape[-1]).astype(jnp.float32)
    first, second = flat.mean(axis=1), jnp.square(flat).mean(axis=1)  # (b c)

    def pool(channels: Float[Array, "b c"]) -> Float[Array, "#b c"]:
        b, c = channels.shape
        match kind:
            case "batch":
                return channels.mean(axis=0, keepdims=True)
            case "layer":
                return jnp.broadcast_to(channels.mean(axis=1, keepdims=True), (b, c))
            case "group":
                if c % groups:
                    raise ValueError(
                        f"{c} channels cannot be split into {groups} groups: choose groups that divide them"
                    )
                return jnp.repeat(channels.reshape(b, groups, c // groups).mean(axis=2), c // groups, axis=1)
            case "instance":
                return channels
        raise ValueError(f"unknown normalisation {kind!r}: use batch, group, layer or instance")

    mean = pool(first)
    return mean, jnp.maximum(pool(second) - jnp.square(mean), 0.0)


def standardise(
    x: Float[Array, "b *hw c"],
    kind: NormKind,
    groups: int = 1,
    *,
    eps: float,
    scale: Float[Array, "#b c"] | float = 1.0,
    shift: Float[Array, "#b c"] | float = 0.0,
) -> Float[Array, "b *hw c"]:
    """(x - mean) / sqrt(var + eps) * scale + shift, computed as one multiply-add over x."""
    mean, var = moments(x, kind, groups)
    gain = lax.rsqrt(var + eps) * scale
    offset = shift - mean * gain
    spread = (gain.shape[0], *(1,) * (x.ndim - 2), x.shape[-1])
    return (x * gain.reshape(spread) + offset.reshape(spread)).astype(x.dtype)


class GroupNorm(nn.Module):
    """Group normalisation (arXiv 1803.08494), optionally followed by an image's own (1 + scale), shift.

    `affine=False` leaves all scaling to the arguments, as Kandinsky 3's and our UNet do; with both, the learned affine
    comes first, as in OpenAI's consistency decoder: (norm(x) * w + b) * (1 + scale) + shift.
    """

    groups: int = 32
    eps: float = 1e-5
    affine: bool = True

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b *hw c"],
        scale: Float[Array, "b c"] | None = None,
        shift: Float[Array, "b c"] | None = None,
    ) -> Float[Array, "b *hw c"]:
        """Normalise over the spatial axes and runs of `c / groups` channels."""
        c = x.shape[-1]
        gain, offset = 1.0, 0.0
        if self.affine:
            gain = self.param("scale", channel_init(nn.initializers.ones), (c,))[None]
            offset = self.param("bias", channel_init(nn.initializers.zeros), (c,))[None]
        if scale is not None:
            gain, offset = gain * (1 + scale), offset * (1 + scale)
        if shift is not None:
            offset = offset + shift
        return standardise(x, "group", self.groups, eps=self.eps, scale=gain, shift=offset)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, in float32 (arXiv 1910.07467; T5's layer norm)."""

    eps: float = 1e-6

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        """Normalise the last axis."""
        weight = self.param("scale", channel_init(nn.initializers.ones), (x.shape[-1],))
        x32 = x.astype(jnp.float32)
        x32 = x32 * lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.eps)
        return (x32 * weight.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)
