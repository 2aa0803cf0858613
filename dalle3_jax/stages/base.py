"""The stages of the base model: from nothing, and distilled to a few steps."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.diffusion import schedules
from dalle3_jax.evaluation.prompts import shorten_errors
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.score import PROTOCOLS, ocr_for, score_model, usable_prompts
from dalle3_jax.evaluation.suites import load_named_prompts
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.layout_encoder import layout_errors
from dalle3_jax.models.token_grid import grid_errors
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.denoising import assemble_stage, denoising_loss
from dalle3_jax.stages.latents import latent_batches
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage
from dalle3_jax.training import logging, tasks
from dalle3_jax.training.objectives.continuous_consistency import continuous_consistency_loss
from dalle3_jax.typing import LossFn, Params

__all__ = ["base_stage", "check_grid", "distill_base_stage"]


def base_stage(context: Context, *, time_shift: float = 1.0) -> Stage:
    """Text encoder, xfnet and UNet in the latents of a frozen VAE.

    A UNet of config.init that goes on with the schedule and prediction it was trained with keeps its release's settings
    of sampling beside them.
    """
    networks = context.networks
    networks.require(*text_components(networks.modules), "unet", "vae")
    check_grid(networks)
    diffusion = plain_config(context.config.model.diffusion)
    if begun := networks.releases.get("unet"):
        diffusion = {**begun.diffusion, **diffusion} if is_same_process(begun.diffusion, diffusion) else diffusion
    loss_fn = denoising_loss(context, base_task(networks), "unet", diffusion, time_shift)
    return assemble_base_stage(context, loss_fn, diffusion)


def check_grid(networks: StageNetworks) -> None:
    """Raise ValueError unless every cell of a UNet's grid has a token, and a layout encoder its layout."""
    unet: Any = networks.modules["unet"]
    errors = layout_errors(networks.modules)
    if unet.grid and "layout_encoder" not in networks.modules:
        networks.require("xfnet")
        errors = [f"unet.{error}" for error in grid_errors(unet.grid, networks.modules["xfnet"])]
    if errors:
        raise ValueError(f"config.model: {'; '.join(errors)}")


def distill_base_stage(
    context: Context,
    *,
    guidance_scales: tuple[float, float] = (1.0, 1.0),
    mean: float = 0.0,
    std: float = 1.6,
    warmup: int = 1_000,
) -> Stage:
    """The base model's consistency model: a few steps, with the teacher's guidance folded in (arXiv 2410.11081).

    A UNet with `guidance_width` reads the scale; its release guides by config.sample.guidance_scale, others by 1. The
    spacing of the teacher's steps is not kept: few of them, in "leading" times, would begin at half the noise.
    """
    config, networks = context.config, context.networks
    networks.require(*text_components(networks.modules), "unet", "vae")
    distillation.trained_component(config, ("unet",))
    diffusion = {**distillation.teacher_release(networks, "unet").diffusion}
    diffusion.pop("spacing", None)
    null = inputs.tokenize_captions(config, context.tokenizer, [""])
    unet: Any = networks.modules["unet"]
    loss_fn = continuous_consistency_loss(
        base_task(networks, null),
        "unet",
        schedule=schedules.build_schedule(diffusion["schedule"]),
        predict=diffusion["prediction"],
        guidance_scales=guidance_scales,
        reads_scale=unet.guidance_width > 0,
        mean=mean,
        std=std,
        warmup=warmup,
    )
    scale = config.sample.guidance_scale if unet.guidance_width else 1.0
    sampling = {"sampler": "consistency", "guidance_scale": scale}
    return assemble_base_stage(context, loss_fn, diffusion, sampling, {"teacher": networks.loaded["unet"]})


def base_task(networks: StageNetworks, null: Mapping[str, Any] | None = None) -> tasks.MakeTask:
    """The base model's task: the latents of captions; with `null`, the empty caption beside them."""
    return tasks.text_to_image(networks.encode_latents, networks.encode_text, networks.unet, null=null)


def is_same_process(diffusion: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two sections `diffusion` have the same schedule and prediction; one may be empty."""
    if not diffusion or diffusion["prediction"] != other["prediction"]:
        return False
    return schedules.build_schedule(diffusion["schedule"]) == schedules.build_schedule(other["schedule"])


def assemble_base_stage(
    context: Context,
    loss_fn: LossFn,
    diffusion: Mapping[str, Any],
    sampling: Mapping[str, Any] = MappingProxyType({}),
    frozen: Params = MappingProxyType({}),
) -> Stage:
    """The stage of a base model with this loss and section `diffusion`; `sampling` goes before config.sample."""
    preview = functools.partial(preview_prompts, context.config, suite_scorer(context.config))
    data = functools.partial(latent_batches, context)
    return assemble_stage(context, loss_fn, diffusion, preview, data, sampling, frozen)


def preview_prompts(
    config: ConfigDict, score: Callable[[Pipeline], Report] | None, pipeline: Pipeline, path: Path, step: int
) -> Mapping[str, float]:
    """Draws the prompts of config.sample into a sheet; the figures of its suite, where it has one and took steps."""
    pictures = pipeline(list(config.sample.prompts)) if config.sample.prompts else []
    cells = [SheetCell(picture.image, (SheetLine(picture.prompt),)) for picture in pictures]
    if cells:
        logging.save_image(path, draw_sheet(cells, columns=min(len(cells), 6), title=f"step {step:,}"))
    return score(pipeline).shares() if score and step else {}


def suite_scorer(config: ConfigDict) -> Callable[[Pipeline], Report] | None:
    """Scores a model on the first prompts of config.sample.suite; ValueError where that cannot be, None without one."""
    name, count = config.sample.suite, config.sample.suite_count
    if not name:
        return None
    prompts, world, left_out = load_named_prompts(name, count)
    reader = Reader.load()
    ocr = ocr_for(prompts)
    prompts, others = usable_prompts(prompts, reader, ocr, PROTOCOLS[:1])
    if errors := [*left_out, *others]:
        raise ValueError(f"config.sample.suite={name!r}: {shorten_errors(errors)}")
    return functools.partial(score_model, prompts=prompts, reader=reader, ocr=ocr, world=world, ceilings=False)
