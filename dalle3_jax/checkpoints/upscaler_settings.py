"""A release's record of its upscaler: by how much it enlarges, in which space, and how it is sampled."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dalle3_jax.checkpoints.latents import Latent

__all__ = ["UpscalerSettings"]

FACTORS = (2, 4)


@dataclass(frozen=True)
class UpscalerSettings:
    """Settings by which a network makes images of images `factor` times smaller, noised to a level that it is told.

    `kind` is "diffusion" (`sampler` in `steps` steps, guided by `guidance_scale`) or "consistency" (its evaluations
    re-noise to `times`, or evenly spaced ones from `top` down). It works in the latents of a VAE, or in pixels where
    `latent` is None. Levels are in thousandths of time under `noise_schedule`, a table's own entries where that is one:
    those it was trained on end at `most_noise`. `clamp` keeps estimates of pixels within [-1, 1].
    """

    factor: int
    kind: str = "diffusion"
    schedule: Mapping[str, Any] = field(default_factory=lambda: {"name": "cosine"})
    prediction: str = "v"
    noise_schedule: Mapping[str, Any] = field(default_factory=lambda: {"name": "cosine"})
    noise_level: int = 20
    most_noise: int = 350
    latent: Latent | None = None
    steps: int = 20
    sampler: str = "ddim"
    spacing: Mapping[str, Any] = field(default_factory=dict)
    guidance_scale: float = 1.0
    top: float = 1.0
    times: tuple[float, ...] = ()
    clamp: bool = False
    temperature: float = 1.0

    def __post_init__(self):
        """Raises ValueError naming everything that no sampler could follow."""
        wrong = []
        if self.factor not in FACTORS:
            wrong.append(f"factor {self.factor} must be 2 or 4")
        if self.kind not in ("consistency", "diffusion"):
            wrong.append(f"kind {self.kind!r} must be consistency or diffusion")
        if not 0 <= self.noise_level <= self.most_noise < 1000:
            wrong.append(f"noise_level {self.noise_level} must lie in [0, {self.most_noise}], within 1000")
        if not 0 < self.top <= 1 or self.steps < 1 or self.temperature < 0 or self.guidance_scale < 0:
            wrong.append(
                f"top {self.top} must lie in (0, 1], steps {self.steps} be at least 1, temperature {self.temperature} "
                f"and guidance_scale {self.guidance_scale} not be negative"
            )
        if wrong:
            raise ValueError(f"an upscaler's settings: {'; '.join(wrong)}")
