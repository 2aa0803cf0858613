"""Parts of the stages that learn to denoise: the loss, and a model whose release a pipeline samples with."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.data.settings import bucket_sizes
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.latents import text_lengths
from dalle3_jax.stages.stage import Stage, training_metadata
from dalle3_jax.training import tasks
from dalle3_jax.training.objectives.diffusion import diffusion_loss
from dalle3_jax.typing import LossFn, Params

__all__ = ["assemble_further_stage", "assemble_stage", "denoising_loss"]

Preview = Callable[[Pipeline, Path, int], Mapping[str, float]]
"""(pipeline, file, step) -> figures by name; leaves a picture in the file."""


def denoising_loss(
    context: Context, task: tasks.MakeTask, component: str, diffusion: Mapping[str, Any], time_shift: float
) -> LossFn:
    """The loss of a component that learns a task, of the schedule and the prediction that `diffusion` names."""
    schedule = schedules.build_schedule(diffusion["schedule"])
    prediction.check_prediction(schedule, diffusion["prediction"])
    return diffusion_loss(
        task,
        component,
        schedule=schedule,
        predict=diffusion["prediction"],
        weighting=context.config.model.diffusion.weighting,
        time_shift=time_shift,
    )


def assemble_further_stage(
    context: Context,
    component: str,
    task: tasks.MakeTask,
    preview: Callable[[ConfigDict, Pipeline, Path, int], Mapping[str, float]],
    time_shift: float,
    needs: tuple[str, ...] = (),
) -> Stage:
    """The stage of one component that learns a task of images beside a base model, by that one's process and sampling.

    `needs` are networks beside the base model's. Previews are given the config first.
    """
    config, networks = context.config, context.networks
    networks.require(*text_components(networks.modules), "unet", "vae", *needs)
    distillation.trained_component(config, (component,))
    if config.data.latents or config.data.cache:
        raise ValueError("data.latents, or data.cache, keep no images, which this stage looks at: use neither")
    diffusion = distillation.teacher_release(networks, "unet").diffusion
    loss_fn = denoising_loss(context, task, component, diffusion, time_shift)
    data = functools.partial(inputs.batches, context)
    return assemble_stage(context, loss_fn, diffusion, functools.partial(preview, config), data)


def assemble_stage(
    context: Context,
    loss_fn: LossFn,
    diffusion: Mapping[str, Any],
    preview: Preview,
    data: Callable[[], Any],
    sampling: Mapping[str, Any] = MappingProxyType({}),
    frozen: Params = MappingProxyType({}),
) -> Stage:
    """The stage of a model that samples as this section `diffusion` says, whose previews are made by its pipeline."""
    config = context.config
    inputs.check_preview_prompts(config, context.networks.latent().factor)
    defaults = {key: config.sample[key] for key in ("steps", "sampler", "guidance_scale")}
    release = release_builder(context, diffusion, {**defaults, **sampling})

    def preview_ema(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        return preview(Pipeline(release(ema, step)), path, step)

    return Stage(loss_fn=loss_fn, data=data, preview=preview_ema, release=release, frozen=frozen)


def release_builder(
    context: Context, diffusion: Mapping[str, Any], sampling: Mapping[str, Any]
) -> Callable[[Params, int], Release]:
    """Makes the release of a base model, of its averaged parameters and the steps taken.

    It samples as the section `diffusion` says, whose `weighting` is of the training alone; it has no text where the
    release that its UNet is from has none (zeros, for SDXL).
    """
    config, networks, tokenizer, latent = context.config, context.networks, context.tokenizer, context.networks.latent()
    begun = networks.releases.get("unet")
    null = {"zero_null": True} if begun and begun.text.get("zero_null") else {}

    def release(ema: Params, step: int) -> Release:
        return Release(
            dict(networks.modules),
            {**networks.loaded, **ema},
            latent,
            diffusion={key: value for key, value in diffusion.items() if key != "weighting"},
            text=text_lengths(config) | null,
            sizes=bucket_sizes(inputs.data_section(config)),
            sampling=dict(sampling),
            training=training_metadata(config, step),
            tokenizer=tokenizer.to_json(),
        )

    return release
