"""Releases' records of latents: the space a UNet works in, and the decoders that turn them into images."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from dalle3_jax.typing import Array

__all__ = ["DecoderSettings", "Latent"]


@dataclass(frozen=True)
class Latent:
    """The space a UNet works in: latents = (mean - shift) * scale per channel, of the VAE with the digest `vae`."""

    channels: int
    factor: int
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    vae: str = ""

    def __post_init__(self):
        """Raises ValueError unless there is one shift and one positive scale a channel."""
        if not len(self.shift) == len(self.scale) == self.channels:
            raise ValueError(f"{self.channels} latent channels need as many shifts and scales")
        if not (np.isfinite(self.shift).all() and np.isfinite(self.scale).all() and min(self.scale) > 0):
            raise ValueError("latent shifts must be finite and scales positive")

    def normalise(self, latents: Array) -> Array:
        """Normalised latents, in which the UNet works, float32, from the VAE's own (b h w c)."""
        return (latents.astype(jnp.float32) - _per_channel(self.shift)) * _per_channel(self.scale)

    def denormalise(self, latents: Array) -> Array:
        """The VAE's own latents (b h w c) from those that the UNet works in."""
        return latents / _per_channel(self.scale) + _per_channel(self.shift)

    def mismatches(self, other: "Latent") -> list[str]:
        """Why latents of the other space cannot be turned into ones of this; empty where they can.

        Shift and scale may differ where both are of one VAE that is known: its own latents lie between. A space that
        names no VAE, such as the public decoder's, fits by them alone.
        """
        fields = ["channels", "factor", *(["vae"] if self.vae else [])]
        if not (self.vae and other.vae):
            fields += ["shift", "scale"]
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in fields]
        return [
            f"{name} {_abbreviate(theirs)}, not {_abbreviate(ours)}" for name, ours, theirs in pairs if ours != theirs
        ]


@dataclass(frozen=True)
class DecoderSettings:
    """Settings by which a network turns latents of a space into images, or a refiner into better ones.

    `kind` is "consistency" (its few evaluations re-noise to the `times`) or "diffusion" (DDIM in `steps` steps);
    `top` is the time where x is nothing but noise to it. `clamp` keeps every estimate of the image within [-1, 1].
    All noise is multiplied by `temperature`: at 1 images are samples, whose details are guesses where latents leave
    them open; at 0 there is one image for some latents, near the middle of what is possible.
    """

    kind: str
    latent: Latent
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "cosine"})
    prediction: str = "edm"
    top: float = 1.0
    steps: int = 2
    times: tuple[float, ...] = ()  # of `steps` evaluations; empty: evenly spaced from the top
    clamp: bool = False
    temperature: float = 1.0
    mean: tuple[float, ...] = ()  # of the latents, one a channel, where the network is shown (latents - mean) / std
    std: tuple[float, ...] = ()

    def __post_init__(self):
        """Raises ValueError for an unknown kind and for what no sampler could follow."""
        if self.kind not in ("consistency", "diffusion"):
            raise ValueError(f"a decoder of kind {self.kind!r}: known are consistency and diffusion")
        if not 0 < self.top <= 1 or self.steps < 1 or self.temperature < 0:
            raise ValueError(
                f"a decoder's top {self.top} must lie in (0, 1], its steps {self.steps} be at least 1, and its "
                f"temperature {self.temperature} not be negative"
            )

    @property
    def network_latent(self) -> Latent:
        """A network's input from the VAE's own latents: `latent`, less the mean, over the standard deviation."""
        if not self.mean:
            return self.latent
        own, columns = self.latent, (self.latent.shift, self.latent.scale, self.mean, self.std)
        shift, scale = zip(*((z + m / k, k / d) for z, k, m, d in zip(*columns, strict=True)), strict=True)
        return replace(own, shift=shift, scale=scale)


def _per_channel(values: tuple[float, ...]) -> Array:
    return jnp.asarray(values, jnp.float32)[None, None, None]


def _abbreviate(value: Any) -> str:
    return value[:10] + "..." if isinstance(value, str) and len(value) > 10 else repr(value)
