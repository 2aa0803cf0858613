"""Stable Diffusion x4: what the folder of a StableDiffusionUpscalePipeline says beside what all pipelines say."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.checkpoints.upscaler_settings import UpscalerSettings
from dalle3_jax.convert.folders import read_json
from dalle3_jax.convert.schedulers import read_scheduler

__all__ = ["upscaler_release"]

FACTOR, STEPS, GUIDANCE_SCALE, NOISE_LEVEL, MOST_NOISE = 4, 75, 9.0, 20, 350
"""Of the pipeline's class; its model_index.json may say another highest level of noise."""

LATENT_SCALE = 0.08333
"""The scaling_factor that the pipeline's class sets whatever its VAE's config says: older ones lack it."""

ONLY_ADDS_NOISE = {"clip_sample": False, "thresholding": False, "variance_type": "fixed_small"}
"""Options of samplers that the low-resolution image's scheduler never uses."""


def upscaler_release(folder: Path, release: Release) -> Release:
    """The release of an upscaler's folder, of the one that its components, schedule and texts make like any other's.

    Its UNet is the component `upscaler`. Raises ValueError for a `low_res_scheduler` or a highest noise level that
    cannot be.
    """
    if "clipping" in release.diffusion:
        raise ValueError(
            f"{folder}/scheduler clips or thresholds, which upscalers' latents are not trained for: set "
            "clip_sample and thresholding to false in its scheduler_config.json"
        )
    modules, params = (
        {_component(name): part for name, part in parts.items()} for parts in (release.modules, release.params)
    )
    latent = release.latent and _latent(release.latent)
    settings = UpscalerSettings(
        FACTOR,
        schedule=release.diffusion["schedule"],
        prediction=release.diffusion["prediction"],
        spacing=release.diffusion.get("spacing", {}),
        noise_schedule=_noise_schedule(folder),
        noise_level=NOISE_LEVEL,
        most_noise=_most_noise(read_json(folder / "model_index.json")),
        latent=latent,
        steps=STEPS,
        sampler=release.sampling["sampler"],
        guidance_scale=GUIDANCE_SCALE,
    )
    return replace(
        release,
        modules=modules,
        params=params,
        latent=latent,
        upscaler=settings if "upscaler" in modules else None,
        diffusion={},
        sizes=(),
        sampling={},
    )


def _component(name: str) -> str:
    return "upscaler" if name == "unet" else name


def _latent(latent: Latent) -> Latent:
    return replace(latent, shift=(0.0,) * latent.channels, scale=(LATENT_SCALE,) * latent.channels)


def _noise_schedule(folder: Path) -> dict[str, Any]:
    config = read_json(folder / "low_res_scheduler" / "scheduler_config.json")
    diffusion, _ = read_scheduler({**config, **ONLY_ADDS_NOISE})
    return diffusion["schedule"]


def _most_noise(index: Mapping[str, Any]) -> int:
    value = index.get("max_noise_level", MOST_NOISE)
    if not isinstance(value, int) or isinstance(value, bool) or not NOISE_LEVEL <= value < 1000:
        raise ValueError(f"its max_noise_level={value!r} is no whole number from {NOISE_LEVEL} to 999")
    return value
