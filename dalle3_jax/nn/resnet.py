"""The residual block, conditioned by scale and shift, by addition or not at all; up- and downsampling."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.nn.layers import ScaleShiftGroupNorm, ScaleShiftRMSNorm, conv, dense
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["Downsample", "ResBlock", "Upsample", "downsample_mean", "upsample_nearest"]


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), with a 1x1 shortcut where the width changes.

    `conditioning`: "add" adds a projection of the embedding between the convolutions (SD, SDXL); "scale_shift"
    modulates the second norm, and the first too with `modulate_first`. `affine` keeps the modulated norms' own weights,
    which RMS norms always do.
    `norm="rms"` normalises each pixel over its channels (our VAEs: no statistics over space, so that training on crops
    serves whole images). `resample` halves or doubles the sides before the first convolution and on the way past it
    (ADM, arXiv 2105.05233 section 3; OpenAI's consistency decoder).
    """

    features: int
    conditioning: Literal["none", "add", "scale_shift"] = "none"
    modulate_first: bool = False
    affine: bool = True
    norm: Literal["group", "rms"] = "group"
    resample: Literal["none", "down", "up"] = "none"
    groups: int = 32
    eps: float = 1e-5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c_in"], e: Float[Array, "b d"] | None = None
    ) -> Float[Array, "b h2 w2 c"]:
        """Apply the block; e is the embedding that conditions it."""
        if e is None and self.conditioning != "none":
            raise ValueError(f"a block conditioned by {self.conditioning} needs the embedding e")
        h = nn.silu(self._norm(x, e, "norm_1", self.modulate_first))
        if self.resample != "none":
            x, h = (downsample_mean(part) if self.resample == "down" else upsample_nearest(part) for part in (x, h))
        h = conv(self.features, dtype=self.dtype, name="conv_1")(h)
        if e is not None and self.conditioning == "add":
            h = h + dense(self.features, dtype=self.dtype, name="embedding")(nn.silu(e))[:, None, None, :]
        h = nn.silu(self._norm(h, e, "norm_2", modulate=True))
        # Conditioned blocks begin as the identity: random branches would teach the layers above to ignore the text.
        h = conv(self.features, dtype=self.dtype, zero=self.conditioning != "none", name="conv_2")(h)
        if x.shape[-1] != self.features:
            x = conv(self.features, 1, dtype=self.dtype, name="shortcut")(x)
        return nn.with_logical_constraint(x + h, ("batch", "height", None, None))

    def _norm(self, x: Array, e: Array | None, name: str, modulate: bool) -> Array:
        if modulate and e is not None and self.conditioning == "scale_shift":
            if self.norm == "rms":
                return ScaleShiftRMSNorm(self.eps, self.dtype, name=name)(x, e)
            return ScaleShiftGroupNorm(self.groups, self.eps, self.affine, self.dtype, name=name)(x, e)
        if self.norm == "rms":
            return RMSNorm(self.eps, name=name)(x)
        return GroupNorm(self.groups, self.eps, name=name)(x)


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2; `asymmetric` pads below and right only, as SD's VAE does."""

    features: int
    asymmetric: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c_out"]:
        """Halve height and width, rounding up unless asymmetric."""
        padding = ((0, 1), (0, 1)) if self.asymmetric else None
        return conv(self.features, stride=2, padding=padding, dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling, then a 3x3 convolution."""

    features: int
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b h w c"], size: tuple[int, int] | None = None
    ) -> Float[Array, "b h2 w2 c_out"]:
        """Double height and width, cut to `size` where an odd size was rounded up on the way down."""
        x = upsample_nearest(x)
        if size is not None:
            x = x[:, : size[0], : size[1]]
        return conv(self.features, dtype=self.dtype, name="conv")(x)


def upsample_nearest(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Twice the height and width, each pixel repeated."""
    # repeat, not resize: it partitions without an all-gather.
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def downsample_mean(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Half the height and width, rounded up: means of 2 x 2 pixels, the last ones of an odd side repeated."""
    b, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    return x.reshape(b, (h + 1) // 2, 2, (w + 1) // 2, 2, c).mean(axis=(2, 4)).astype(x.dtype)
