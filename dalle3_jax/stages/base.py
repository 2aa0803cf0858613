"""The stages of the base model: from nothing, and distilled to a few steps."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.data.settings import bucket_sizes
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.evaluation.prompts import shorten_errors
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.score import PROTOCOLS, ocr_for, score_model, usable_prompts
from dalle3_jax.evaluation.suites import load_named_prompts
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.latents import checked_tokenizer, latent_batches, network_functions, text_lengths
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage, training_metadata
from dalle3_jax.training import logging, tasks
from dalle3_jax.training.objectives import diffusion as objectives
from dalle3_jax.typing import Params

__all__ = ["base_stage", "distill_base_stage"]


def base_stage(config: ConfigDict, workdir: Path, system: StageNetworks) -> Stage:
    """Text encoder, xfnet and UNet in the latents of a frozen VAE."""
    system.require(*text_components(system.modules), "unet", "vae")
    diffusion = plain_config(config.model.diffusion)
    schedule = schedules.build_schedule(**diffusion["schedule"])
    prediction.check_prediction(schedule, diffusion["prediction"])
    loss_fn = objectives.diffusion_loss(
        base_task(system),
        "unet",
        schedule=schedule,
        predict=diffusion["prediction"],
        weighting=diffusion["weighting"],
        time_shift=config.train.time_shift,
    )
    sampling = {key: config.sample[key] for key in ("steps", "sampler", "guidance_scale")}
    return Stage(loss_fn, *base_results(config, workdir, system, diffusion, sampling))


def distill_base_stage(config: ConfigDict, workdir: Path, system: StageNetworks) -> Stage:
    """The base model's consistency model: a few steps, with the teacher's guidance folded in (arXiv 2310.04378)."""
    system.require(*text_components(system.modules), "unet", "vae")
    distillation.trained_component(config, ("unet",))
    if not config.train.consistency.teacher:
        raise ValueError("train.consistency.teacher is False: a base model is distilled from one in config.init.unet")
    diffusion = distillation.teacher_release(system, "unet").diffusion
    null = inputs.tokenize_captions(config, checked_tokenizer(config, system), [""])
    loss_fn = distillation.distillation_loss(config, base_task(system, null), "unet", diffusion)
    sampling = {"steps": config.sample.steps, "sampler": "consistency", "guidance_scale": 1.0}
    teacher = {"teacher": system.loaded["unet"]}
    return Stage(loss_fn, *base_results(config, workdir, system, diffusion, sampling), teacher)


def base_task(system: StageNetworks, null: Mapping[str, Any] | None = None) -> tasks.MakeTask:
    """What a base model learns: the latents of captions; with `null`, the empty caption beside them."""
    modules, latent = system.modules, system.latent()
    return tasks.text_to_image(
        network_functions(modules, *text_components(modules), "unet"),
        shift=latent.shift,
        scale=latent.scale,
        sizes=bool(modules["unet"].size_ids),
        null=null,
    )


def base_results(
    config: ConfigDict, workdir: Path, system: StageNetworks, diffusion: Mapping[str, Any], sampling: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """(Data, preview, release) of a base model with these schedule and prediction, and defaults of sampling."""
    tokenizer, latent = checked_tokenizer(config, system), system.latent()
    inputs.check_preview_prompts(config, latent.factor)
    scored = suite_scorer(config)

    def release(ema: Params, step: int) -> Release:
        return Release(
            dict(system.modules),
            {**system.loaded, **ema},
            latent,
            diffusion={key: diffusion[key] for key in ("schedule", "prediction")},
            text=text_lengths(config),
            sizes=bucket_sizes(inputs.data_section(config)),
            sampling=dict(sampling),
            training=training_metadata(config, step),
            tokenizer=tokenizer.to_json(),
        )

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        pipeline = Pipeline(release(ema, step))
        pictures = pipeline(list(config.sample.prompts)) if config.sample.prompts else []
        cells = [SheetCell(picture.image, (SheetLine(picture.prompt),)) for picture in pictures]
        if cells:
            logging.save_image(path, draw_sheet(cells, columns=min(len(cells), 6), title=f"step {step:,}"))
        return scored(pipeline).shares() if scored else {}

    return functools.partial(latent_batches, config, workdir, system, tokenizer), preview, release


def suite_scorer(config: ConfigDict) -> Callable[[Pipeline], Report] | None:
    """Scores a model on the first prompts of config.sample.suite; ValueError where that cannot be, None without one."""
    name, count = config.sample.suite, config.sample.suite_count
    if not name:
        return None
    prompts, world, left_out = load_named_prompts(name, count)
    reader = Reader.load()
    ocr = ocr_for(prompts)
    prompts, others = usable_prompts(prompts, reader, ocr, PROTOCOLS[:1])
    if found := [*left_out, *others]:
        raise ValueError(f"config.sample.suite={name!r}: {shorten_errors(found)}")
    return functools.partial(score_model, prompts=prompts, reader=reader, ocr=ocr, world=world, ceilings=False)
