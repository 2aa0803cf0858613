"""The stages of the base model: from nothing, and distilled to a few steps."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.data.settings import sizes_of
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.evaluation.prompts import shortened
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.score import PROTOCOLS, ocr_for, score, usable
from dalle3_jax.evaluation.suites import named
from dalle3_jax.models.glyph import text_side
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.contact_sheet import Cell, Line, sheet
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.config import plain
from dalle3_jax.stages.latents import applied, checked_tokenizer, latent_batches, lengths
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.stage import Stage, described
from dalle3_jax.training import logging, tasks
from dalle3_jax.training.objectives import diffusion as objectives
from dalle3_jax.typing import Params

__all__ = ["base", "distill_base"]


def base(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """Text encoder, xfnet and UNet in the latents of a frozen VAE."""
    system.require(*text_side(system.modules), "unet", "vae")
    diffusion = plain(config.model.diffusion)
    schedule = schedules.build(**diffusion["schedule"])
    prediction.check(schedule, diffusion["prediction"])
    loss_fn = objectives.diffusion_loss(
        problem_of(system),
        "unet",
        schedule=schedule,
        predict=diffusion["prediction"],
        weighting=diffusion["weighting"],
        time_shift=config.train.time_shift,
    )
    sampling = {key: config.sample[key] for key in ("steps", "sampler", "guidance_scale")}
    return Stage(loss_fn, *results(config, workdir, system, diffusion, sampling))


def distill_base(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The base model's consistency model: a few steps, with the teacher's guidance folded in (arXiv 2310.04378)."""
    system.require(*text_side(system.modules), "unet", "vae")
    distillation.learnt(config, ("unet",))
    if not config.train.consistency.teacher:
        raise ValueError("train.consistency.teacher is False: a base model is distilled from one in config.init.unet")
    diffusion = distillation.taught(system, "unet").diffusion
    null = inputs.captions(config, checked_tokenizer(config, system), [""])
    loss_fn = distillation.loss(config, problem_of(system, null), "unet", diffusion)
    sampling = {"steps": config.sample.steps, "sampler": "consistency", "guidance_scale": 1.0}
    teacher = {"teacher": system.loaded["unet"]}
    return Stage(loss_fn, *results(config, workdir, system, diffusion, sampling), teacher)


def problem_of(system: System, null: Mapping[str, Any] | None = None) -> tasks.Pose:
    """What a base model learns: the latents of captions; with `null`, the empty caption beside them."""
    modules, latent = system.modules, system.latent()
    return tasks.drawing(
        applied(modules, *text_side(modules), "unet"),
        shift=latent.shift,
        scale=latent.scale,
        sizes=bool(modules["unet"].size_ids),
        null=null,
    )


def results(
    config: ConfigDict, workdir: Path, system: System, diffusion: Mapping[str, Any], sampling: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """(Data, preview, release) of a base model with these schedule and prediction, and defaults of sampling."""
    tokenizer, latent = checked_tokenizer(config, system), system.latent()
    inputs.check_prompts(config, latent.factor)
    scored = meter(config)

    def release(ema: Params, step: int) -> Release:
        return Release(
            dict(system.modules),
            {**system.loaded, **ema},
            latent,
            diffusion={key: diffusion[key] for key in ("schedule", "prediction")},
            text=lengths(config),
            sizes=sizes_of(config.data),
            sampling=dict(sampling),
            training=described(config, step),
            tokenizer=tokenizer.to_json(),
        )

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        pipeline = Pipeline(release(ema, step))
        pictures = pipeline(list(config.sample.prompts)) if config.sample.prompts else []
        cells = [Cell(picture.image, (Line(picture.prompt),)) for picture in pictures]
        if cells:
            logging.save_image(path, sheet(cells, columns=min(len(cells), 6), title=f"step {step:,}"))
        return scored(pipeline).shares() if scored else {}

    return functools.partial(latent_batches, config, workdir, system, tokenizer), preview, release


def meter(config: ConfigDict) -> Callable[[Pipeline], Report] | None:
    """Scores a model on the first prompts of config.sample.suite; ValueError where that cannot be, None without one."""
    name, count = config.sample.suite, config.sample.suite_count
    if not name:
        return None
    prompts, world, left_out = named(name, count)
    reader = Reader.load()
    ocr = ocr_for(prompts)
    prompts, others = usable(prompts, reader, ocr, PROTOCOLS[:1])
    if found := [*left_out, *others]:
        raise ValueError(f"config.sample.suite={name!r}: {shortened(found)}")
    return functools.partial(score, prompts=prompts, reader=reader, ocr=ocr, world=world, ceilings=False)
