"""The static halves of pipelines and decoders: networks, schedules, predictions, all that a program is compiled for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import linen as nn

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.diffusion import consistency, guidance, prediction, schedules
from dalle3_jax.diffusion import spacing as spacings
from dalle3_jax.diffusion.clipping import Clipping, build_clipping
from dalle3_jax.diffusion.samplers import SAMPLERS, evaluates_between
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.models.condition import TEXT_COMPONENTS
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.glyph import check_glyphs, text_components
from dalle3_jax.models.image_prompt import ImagePrompt, image_prompt_errors
from dalle3_jax.models.unet import UNet
from dalle3_jax.pipeline.request import Sampling
from dalle3_jax.pipeline.setting_values import Capabilities
from dalle3_jax.typing import Float

if TYPE_CHECKING:
    from dalle3_jax.pipeline.upscaler import Upscaler

__all__ = ["DecoderSpec", "PipelineSpec"]

_sampling_times = jax.jit(spacings.sampling_times, static_argnums=(0, 1, 2, 3))


@dataclass(frozen=True)
class PipelineSpec:
    """The static half of a pipeline, hashable: pipelines that differ in parameters only share compiled programs."""

    text_encoder: nn.Module | None
    unet: UNet
    vae: nn.Module
    schedule: schedules.Schedule
    prediction: str
    latent: Latent
    xfnet: nn.Module | None = None  # text encoders that give a condition themselves, CLIP's, have none
    text_encoder_2: nn.Module | None = None
    glyph_encoder: nn.Module | None = None
    layout_head: nn.Module | None = None
    layout_encoder: nn.Module | None = None
    layout_memory: nn.Module | None = None  # with it every image has a layout of its own, sampled by its seed
    image_prompt: ImagePrompt | None = None
    image_encoder: nn.Module | None = None  # what it reads: a captioner or CLIP; without it, in place of all text
    spacing: spacings.Spacing = field(default_factory=spacings.Spacing)
    rescaled: str = "v"  # the output whose standard deviation guidance_rescale restores
    clipping: Clipping | None = None  # of estimates of x0, where a public folder's scheduler clips them

    @property
    def text_modules(self) -> dict[str, nn.Module]:
        """The networks that turn text into a condition, by component."""
        return {name: module for name in TEXT_COMPONENTS if (module := getattr(self, name)) is not None}

    @property
    def reads_text(self) -> bool:
        """Whether the UNet is conditioned on text; else it is on an image's vector alone (SD image variations)."""
        return self.text_encoder is not None

    @property
    def image_parts(self) -> tuple[str, ...]:
        """The components that read images."""
        encoder = "captioner" if isinstance(self.image_encoder, Captioner) else "image_encoder"
        return (*((encoder,) if self.image_encoder else ()), *(("image_prompt",) if self.image_prompt else ()))

    @property
    def components(self) -> tuple[str, ...]:
        """All components that a pipeline samples with."""
        return (*self.text_modules, *self.image_parts, "unet", "vae")

    @property
    def needs_mask(self) -> bool:
        """Whether the UNet is shown, beside noisy latents, a mask and the latents of the image around it."""
        return self.unet.in_channels == 2 * self.latent.channels + 1

    @classmethod
    def from_release(cls, release: Release) -> "PipelineSpec":
        """The networks and schedules of a release; ValueError when it lacks anything, or its parts do not fit."""
        readers = text_components(release.modules) if reads_text(release.modules) else ("image_encoder",)
        parts = (*readers, "unet", "vae")
        if missing := [part for part in parts if part not in release.modules]:
            raise ValueError(f"this release makes no pictures: it lacks {', '.join(missing)}")
        tokens = release.tokenizer and release.text.get("length")
        if release.latent is None or not release.diffusion or not (tokens or not reads_text(release.modules)):
            raise ValueError("this release makes no pictures: it lacks latent, diffusion, text length or tokenizer")
        schedule = schedules.build_schedule(release.diffusion["schedule"])
        prediction.check_prediction(schedule, release.diffusion["prediction"])
        modules: dict[str, Any] = {part: release.modules[part] for part in parts}
        check_glyphs(modules, release.text.get("glyph_length", 0))
        spacing = spacings.build_spacing(release.diffusion.get("spacing", {}))
        modules |= {"text_encoder": modules.get("text_encoder"), **image_prompt_modules(release)}
        return cls(
            **modules,
            schedule=schedule,
            prediction=release.diffusion["prediction"],
            latent=release.latent,
            spacing=spacing,
            rescaled=guidance.check_rescaled(release.diffusion.get("guidance_rescale_of", "v")),
            clipping=build_clipping(clipping) if (clipping := release.diffusion.get("clipping")) else None,
        )

    def capabilities(
        self, sizes: Sequence[tuple[int, int]], decoders: tuple[str, ...], upscaler: "Upscaler | None"
    ) -> Capabilities:
        """All that a pipeline of these networks can do, trained for these sizes (height, width)."""
        return Capabilities(
            samplers=tuple(SAMPLERS),
            spacings=spacings.SPACINGS,
            decoders=decoders,
            factor=self.latent.factor,
            sizes=tuple(sizes),
            timing_errors=self.timing_errors,
            upscale_factors=upscaler.factors if upscaler else (),
            upscaling_errors=upscaler.errors if upscaler else lambda _: [],
            step_times=self.step_times,
            takes_guidance_scale=self.unet.guidance_width > 0,
            needs_mask=self.needs_mask,
            takes_image_prompts=self.image_encoder is not None,
            reads_text=self.reads_text,
        )

    def timing_errors(self, sampling: Sampling) -> list[str]:
        """Errors that keep the times of a sampler's steps from being spaced so, and its steps from sharing features."""
        spacing = self.with_spacing(sampling.spacing).spacing
        errors = spacings.spacing_errors(self.schedule, sampling.steps, spacing, sampling.sampler)
        if sampling.deep_cache > 1 and evaluates_between(sampling.sampler):
            errors.append(
                f"deep_cache with {sampling.sampler}, which evaluates several times a step: use another sampler"
            )
        return errors

    def loop_times(self, sampling: Sampling) -> Float[np.ndarray, " points"]:
        """The times at which a sampler's steps begin, 1 being noise, and the end; ValueError as `timing_errors` says.

        They are all that is compiled for a number of steps.
        """
        spacing = self.with_spacing(sampling.spacing).spacing
        return np.asarray(_sampling_times(self.schedule, sampling.steps, spacing, sampling.sampler))

    def step_times(self, sampling: Sampling) -> tuple[float, ...]:
        """The times at which a sampler's steps begin; ValueError where `timing_errors` has any."""
        return tuple(map(float, self.loop_times(sampling)[:-1]))

    def with_spacing(self, kind: str) -> "PipelineSpec":
        """The same with times of another kind of spacing; "" is the release's own."""
        return replace(self, spacing=replace(self.spacing, kind=kind)) if kind else self


def reads_text(modules: Mapping[str, nn.Module]) -> bool:
    """Whether these networks are prompted by text, and not by images alone."""
    return "text_encoder" in modules or "image_encoder" not in modules


def image_prompt_modules(release: Release) -> dict[str, Any]:
    """The image prompt of a release and the network that it reads; ValueError where they do not fit, or its UNet."""
    prompt, modules = release.modules.get("image_prompt"), release.modules
    if not isinstance(prompt, ImagePrompt):
        return {}
    encoder: Any = modules.get("image_encoder", modules.get("captioner"))
    if encoder is None:
        raise ValueError("its image prompt reads images by an image_encoder or a captioner, which this release lacks")
    errors = image_prompt_errors(prompt, modules["unet"])  # pyright: ignore[reportArgumentType]
    width = encoder.tower.width if prompt.kind == "resampler" else encoder.projection
    if prompt.features != width:
        errors.append(f"it reads features of {prompt.features}, and those of its image encoder are {width}")
    if errors:
        raise ValueError(f"the image prompt is for another model: {'; '.join(errors)}")
    return {"image_prompt": prompt, "image_encoder": encoder}


@dataclass(frozen=True)
class DecoderSpec:
    """The static half of a decoder or refiner; `times` are where it is evaluated, the top first."""

    module: DecoderUNet
    schedule: schedules.Schedule
    prediction: str
    sampler: str
    times: tuple[float, ...]
    clamp: bool
    temperature: float
    latent: Latent

    @classmethod
    def from_decoding(cls, module: DecoderUNet, decoding: DecoderSettings, steps: int | None = None) -> "DecoderSpec":
        """The decoder that a release describes, at its own number of steps or at another; ValueError for bad times."""
        own = decoding.times if steps in (None, len(decoding.times)) else ()
        times = own or consistency.consistency_times(decoding.top, steps or decoding.steps)
        consistency.check_consistency_times(times, decoding.top)
        schedule = schedules.build_schedule(decoding.schedule)
        prediction.check_prediction(schedule, decoding.prediction)
        sampler = {"consistency": "consistency", "diffusion": "ddim"}[decoding.kind]
        rest = decoding.clamp, decoding.temperature, decoding.network_latent
        return cls(module, schedule, decoding.prediction, sampler, times, *rest)
