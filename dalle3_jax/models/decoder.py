"""The UNet of diffusion decoders, conditioned on latents: in pixels, or in the latents themselves to refine them."""

from collections.abc import Mapping
from typing import Any, Literal

import jax.numpy as jnp
from flax import linen as nn

from dalle3_jax.models.examples import floats
from dalle3_jax.models.vae import depth_to_space, space_to_depth
from dalle3_jax.nn.explicit_axes import accept_explicit_axes
from dalle3_jax.nn.layers import EmbeddingMLP, conv, embedding, sinusoids
from dalle3_jax.nn.norms import GroupNorm, RMSNorm
from dalle3_jax.nn.resnet import ResBlock
from dalle3_jax.typing import Array, DTypeLike, Float

__all__ = ["DecoderUNet"]


@accept_explicit_axes
class DecoderUNet(nn.Module):
    """Predicts images from noisy ones and their latents; without attention, so that any size works.

    Defaults are OpenAI's consistency decoder (openai/consistencydecoder, 621,277,702 parameters): of its six outputs
    the first three are used. With `factor=1` and latents for images it is the refiner between a latent diffusion model
    and its VAE. `patch` folds pixels into channels before the first convolution; `norm="rms"` has no statistics over
    space, so that crops train it and tiles decode like the whole.
    """

    channels: tuple[int, ...] = (320, 640, 1024, 1024)
    blocks: int = 3
    image_channels: int = 3
    latent_channels: int = 4
    out_channels: int = 6
    factor: int = 8
    patch: int = 1
    time_entries: int = 1024  # of a learned table of whole network times; 0: sinusoids of any
    embedding_ratio: int = 4
    norm: Literal["group", "rms"] = "group"
    groups: int = 32
    remat: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b H W c"], t: Float[Array, " b"], latents: Float[Array, "b h w c_latent"]
    ) -> Float[Array, "b H W c"]:
        """One evaluation: x is noisy, t the schedule's network time, latents normalised and `factor` times smaller."""
        self._check_inputs(x, latents)
        e = self._time_embedding(t)
        repeats = self.factor // self.patch
        latents = jnp.repeat(jnp.repeat(latents, repeats, axis=1), repeats, axis=2)
        x = jnp.concatenate([space_to_depth(x, self.patch), latents], axis=-1).astype(self.dtype)
        x = conv(self.channels[0], dtype=self.dtype, name="conv_in")(x)
        skips = [x]
        last = len(self.channels) - 1
        for i, features in enumerate(self.channels):
            for j in range(self.blocks):
                x = self._block(features, f"down_{i}_{j}")(x, e)
                skips.append(x)
            if i < last:
                x = self._block(features, f"down_{i}_downsample", "down")(x, e)
                skips.append(x)

        x = self._block(self.channels[-1], "middle_0")(x, e)
        x = self._block(self.channels[-1], "middle_1")(x, e)

        for i, features in reversed(list(enumerate(self.channels))):
            for j in range(self.blocks + 1):
                x = self._block(features, f"up_{i}_{j}")(jnp.concatenate([x, skips.pop()], axis=-1), e)
            if i > 0:
                _, height, width, _ = skips[-1].shape
                # An odd side was rounded up on the way down.
                x = self._block(features, f"up_{i}_upsample", "up")(x, e)[:, :height, :width]

        norm = RMSNorm(1e-5, name="norm_out") if self.norm == "rms" else GroupNorm(self.groups, name="norm_out")
        # The first guess of a new network is zero.
        x = conv(self.out_channels * self.patch**2, dtype=self.dtype, zero=True, name="conv_out")(nn.silu(norm(x)))
        return depth_to_space(x, self.patch)[..., : self.image_channels].astype(jnp.float32)

    def _time_embedding(self, t: Array) -> Array:
        width = self.channels[0]
        if self.time_entries:
            rows = jnp.clip(jnp.round(t), 0, self.time_entries - 1).astype(jnp.int32)
            e = embedding(self.time_entries, width, dtype=self.dtype, name="time_table")(rows)
        else:
            e = sinusoids(t, width)
        return EmbeddingMLP(self.embedding_ratio * width, self.dtype, name="time_embedding")(e)

    def _block(self, features: int, name: str, resample: Literal["none", "down", "up"] = "none") -> ResBlock:
        block = nn.remat(ResBlock) if self.remat else ResBlock
        return block(
            features,
            conditioning="scale_shift",
            norm=self.norm,
            resample=resample,
            groups=self.groups,
            dtype=self.dtype,
            name=name,
        )

    def _check_inputs(self, x: Array, latents: Array) -> None:
        wanted = (*(side * self.factor for side in latents.shape[1:3]), self.image_channels)
        if x.shape[1:] != wanted or latents.shape[-1] != self.latent_channels:
            raise ValueError(
                f"x {x.shape[1:]} and latents {latents.shape[1:]}: this network takes {self.image_channels} channels "
                f"of images and {self.latent_channels} of latents, {self.factor} times smaller"
            )
        if self.factor % self.patch:
            raise ValueError(f"patch {self.patch} does not divide the factor {self.factor}")

    @nn.nowrap
    def example_inputs(self, modules: Mapping[str, nn.Module]) -> tuple[Any, ...]:
        """Abstract arguments of `__call__` within a system of these modules."""
        side, latents = 2 * self.factor, floats(1, 2, 2, self.latent_channels)
        return floats(1, side, side, self.image_channels), floats(1), latents
