"""The KL autoencoder of latent diffusion (arXiv 2112.10752), able to hold Stable Diffusion's VAE exactly."""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.examples import floats
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import conv
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.nn.resnet import Downsample, ResBlock, Upsample
from dalle3_jax.nn.transformer import PixelAttention
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["VAE", "depth_to_space", "space_to_depth"]

Norm = Literal["group", "rms"]


def space_to_depth(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c2"]:
    """Fold patch x patch pixels into channels."""
    b, h, w, c = x.shape
    x = x.reshape(b, h // patch, patch, w // patch, patch, c).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // patch, w // patch, patch * patch * c)


def depth_to_space(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c2"]:
    """Unfold channels into patch x patch pixels; the inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    x = x.reshape(b, h, w, patch, patch, c // patch**2).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * patch, w * patch, c // patch**2)


class _Half(nn.Module):
    """The fields that encoder and decoder share."""

    channels: tuple[int, ...]
    blocks: int
    out_channels: int
    patch: int = 1
    norm: Norm = "group"
    groups: int = 32
    attention: bool = True
    dtype: DTypeLike = jnp.float32

    def block(self, features: int, name: str) -> ResBlock:
        return ResBlock(features, norm=self.norm, groups=self.groups, eps=1e-6, dtype=self.dtype, name=name)

    def middle(self, x: Array) -> Array:
        x = self.block(x.shape[-1], "middle_block_0")(x)
        if self.attention:
            x = PixelAttention(self.groups, dtype=self.dtype, name="middle_attention")(x)
        return self.block(x.shape[-1], "middle_block_1")(x)

    def head(self, x: Array) -> Array:
        norm = RMSNorm(1e-6, name="norm_out") if self.norm == "rms" else GroupNorm(self.groups, 1e-6, name="norm_out")
        return conv(self.out_channels, dtype=self.dtype, name="conv_out")(nn.silu(norm(x)))


class Encoder(_Half):
    """Images -> moments of the latents."""

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Encode."""
        x = conv(self.channels[0], dtype=self.dtype, name="conv_in")(space_to_depth(x, self.patch))
        for level, features in enumerate(self.channels):
            for i in range(self.blocks):
                x = self.block(features, f"level_{level}_block_{i}")(x)
            if level < len(self.channels) - 1:
                x = Downsample(features, asymmetric=True, dtype=self.dtype, name=f"level_{level}_downsample")(x)
        return self.head(self.middle(x))


class Decoder(_Half):
    """Latents -> images. Levels are numbered from the image's side, as the encoder's."""

    @nn.compact
    def __call__(self, z: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c2"]:
        """Decode."""
        x = self.middle(conv(self.channels[-1], dtype=self.dtype, name="conv_in")(z))
        for level, features in reversed(list(enumerate(self.channels))):
            for i in range(self.blocks):
                x = self.block(features, f"level_{level}_block_{i}")(x)
            if level > 0:
                x = Upsample(features, dtype=self.dtype, name=f"level_{level}_upsample")(x)
        return depth_to_space(self.head(x), self.patch)


@accept_explicit_axes
class VAE(nn.Module):
    """Encoder and decoder; pixels in [-1, 1], latents unscaled: whoever trains or samples shifts and scales them.

    Defaults are Stable Diffusion's VAE (83,653,863 parameters). `patch` folds pixels into channels before the first
    convolution: the cheap way to one more halving. `decoder_channels` and `decoder_quant_conv` are as the encoder's
    `channels` and `quant_convs` unless given.
    """

    latent_channels: int = 4
    channels: tuple[int, ...] = (128, 256, 512, 512)
    decoder_channels: tuple[int, ...] | None = None
    blocks: int = 2
    decoder_blocks: int = 3
    patch: int = 1
    norm: Norm = "group"
    groups: int = 32
    attention: bool = True
    quant_convs: bool = True
    decoder_quant_conv: bool | None = None
    dtype: DTypeLike = jnp.float32

    # setup, against the house's habit: two entry points share the weights, and `nn.compact` allows one.
    def setup(self) -> None:
        """Make the two halves."""
        shared = {
            "patch": self.patch,
            "norm": self.norm,
            "groups": self.groups,
            "attention": self.attention,
            "dtype": self.dtype,
        }
        self.encoder = Encoder(self.channels, self.blocks, 2 * self.latent_channels, **shared)
        up = self.decoder_channels or self.channels
        self.decoder = Decoder(up, self.decoder_blocks, 3 * self.patch**2, **shared)
        if self.quant_convs:
            self.quant_conv = conv(2 * self.latent_channels, 1, dtype=self.dtype, name="quant_conv")
        if self.has_post_quant_conv:
            self.post_quant_conv = conv(self.latent_channels, 1, dtype=self.dtype, name="post_quant_conv")

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return self.patch * 2 ** (len(self.channels) - 1)

    @property
    def has_post_quant_conv(self) -> bool:
        """Whether a 1x1 convolution of the latents stands before the decoder."""
        return self.quant_convs if self.decoder_quant_conv is None else self.decoder_quant_conv

    def encode(self, images: Float[Array, "b H W 3"]) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """Mean and log variance of the latents of images in [-1, 1]; sides must be multiples of `factor`."""
        if images.shape[1] % self.factor or images.shape[2] % self.factor:
            raise ValueError(f"image sides {images.shape[1:3]} must be multiples of {self.factor}")
        moments = self.encoder(images)
        if self.quant_convs:
            moments = self.quant_conv(moments)
        mean, logvar = jnp.split(moments, 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, latents: Float[Array, "b h w c"]) -> Float[Array, "b H W 3"]:
        """Images in about [-1, 1] from unscaled latents."""
        if self.has_post_quant_conv:
            latents = self.post_quant_conv(latents)
        return self.decoder(latents)

    def __call__(
        self, images: Float[Array, "b H W 3"]
    ) -> tuple[Float[Array, "b H W 3"], Float[Array, "b h w c"], Float[Array, "b h w c"]]:
        """(Reconstruction from the mean, mean, log variance)."""
        mean, logvar = self.encode(images)
        return self.decode(mean), mean, logvar

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        return (floats(1, 4 * self.factor, 4 * self.factor, 3),)
