"""The stages of a config: what each trains, on which data, by which objective, and what it leaves behind."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.commands import inputs, reading
from dalle3_jax.commands.config import plain
from dalle3_jax.commands.stage import Stage, apply, described
from dalle3_jax.commands.systems import System
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.evaluation.detector import Reader
from dalle3_jax.evaluation.prompts import shortened
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.sheets import Cell, Line, sheet
from dalle3_jax.evaluation.suite import PROTOCOLS, ocr_for, score, usable
from dalle3_jax.evaluation.suites import named
from dalle3_jax.models.glyph import check_glyphs, text_side
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.training import logging, objectives
from dalle3_jax.typing import Array, Params

__all__ = ["STAGES", "Stage", "measure_latents"]


STATISTICS = 1024
"""Pictures over which the VAE stage measures its latents."""


def vae(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The autoencoder on crops; its release knows mean and deviation of every latent channel."""
    system.require("vae")
    module = system.modules["vae"]
    encode, decode = (functools.partial(apply, module, method=method) for method in ("encode", "decode"))
    loss_fn = objectives.vae_loss(
        encode, decode, kl_weight=config.train.kl_weight, gradient_weight=config.train.gradient_weight
    )
    reconstruct = jax.jit(lambda params, images: apply(module, params, images)[0])
    encode_mean = jax.jit(lambda params, images: encode(params, images)[0])

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        images = next(inputs.pictures(config, config.sample.count, "held_out"))
        logging.save_rows(path, [images, jax.device_get(reconstruct(ema["vae"], images))])
        return {}

    def release(ema: Params, step: int) -> Release:
        images = inputs.pictures(config, STATISTICS, "train")
        images = inputs.progress(images, STATISTICS // inputs.STATISTICS_BATCH, "latent statistics")
        shift, deviation = measure_latents(functools.partial(encode_mean, ema["vae"]), images)
        latent = Latent(module.latent_channels, module.factor, shift, tuple(1.0 / value for value in deviation))
        return Release({"vae": module}, {"vae": ema["vae"]}, latent, training=described(config, step))

    return Stage(loss_fn, functools.partial(inputs.batches, config), preview, release)


def text(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """Text encoder and xfnet learn what a caption says of its picture, before any denoiser is there to listen."""
    system.require("text_encoder", "xfnet", "latent_head", "vae")
    modules, latent, tokenizer = system.modules, system.latent(), checked_tokenizer(config, system)
    parts = (*text_side(modules), "latent_head")
    networks = applied(modules, *parts)
    loss_fn = objectives.text_loss(networks, shift=latent.shift, scale=latent.scale)
    check_head(config, system)

    @jax.jit
    def picture(params: Params, captions: Mapping[str, Array]) -> Array:
        latents = latent.restored(objectives.expected_latents(networks, params, captions))
        return apply(modules["vae"], params["vae"], latents, method="decode")

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        if config.sample.prompts:
            captions = inputs.captions(config, tokenizer, config.sample.prompts)
            logging.save_rows(path, [jax.device_get(picture({**system.loaded, **ema}, captions))])
        return {}

    def release(ema: Params, step: int) -> Release:
        weights, training = {**system.loaded, **ema}, described(config, step)
        chosen, params = {part: modules[part] for part in parts}, {part: weights[part] for part in parts}
        return Release(chosen, params, latent, training=training, tokenizer=tokenizer.to_json())

    return Stage(loss_fn, functools.partial(latent_batches, config, workdir, system, tokenizer), preview, release)


def base(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """Text encoder, xfnet and UNet in the latents of a frozen VAE."""
    system.require("text_encoder", "xfnet", "unet", "vae")
    modules, diffusion = system.modules, plain(config.model.diffusion)
    latent, tokenizer = system.latent(), checked_tokenizer(config, system)
    inputs.check_prompts(config, latent.factor)
    scored = meter(config)
    schedule = schedules.build(**diffusion["schedule"])
    prediction.check(schedule, diffusion["prediction"])
    loss_fn = objectives.diffusion_loss(
        applied(modules, *text_side(modules), "unet"),
        schedule=schedule,
        predict=diffusion["prediction"],
        weighting=diffusion["weighting"],
        shift=latent.shift,
        scale=latent.scale,
        sizes=bool(modules["unet"].size_ids),
        time_shift=config.train.time_shift,
    )

    def release(ema: Params, step: int) -> Release:
        return Release(
            dict(modules),
            {**system.loaded, **ema},
            latent,
            diffusion={key: diffusion[key] for key in ("schedule", "prediction")},
            text=lengths(config),
            sizes=(tuple(config.data.size),),
            sampling={key: config.sample[key] for key in ("steps", "sampler", "guidance_scale")},
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

    return Stage(loss_fn, functools.partial(latent_batches, config, workdir, system, tokenizer), preview, release)


STAGES: Mapping[str, Callable[[ConfigDict, Path, System], Stage]] = {
    "vae": vae,
    "text": text,
    "base": base,
    "reader": reading.reader,
}


def meter(config: ConfigDict) -> Callable[[Pipeline], Report] | None:
    """Scores a model on the first prompts of config.sample.suite; ValueError where that cannot be, None without one."""
    name, count = config.sample.suite, config.sample.suite_count
    if not name:
        return None
    prompts, world, problems = named(name, count)
    reader = Reader.load()
    ocr = ocr_for(prompts)
    prompts, others = usable(prompts, reader, ocr, PROTOCOLS[:1])
    if found := [*problems, *others]:
        raise ValueError(f"config.sample.suite={name!r}: {shortened(found)}")
    return functools.partial(score, prompts=prompts, reader=reader, ocr=ocr, world=world, ceilings=False)


def applied(modules: Mapping[str, nn.Module], *names: str) -> dict[str, Callable[..., Any]]:
    """The networks called `names`, and the VAE's encoder as `encode`, as functions that take their parameters first."""
    networks = {name: functools.partial(apply, modules[name]) for name in names}
    return networks | {"encode": functools.partial(apply, modules["vae"], method="encode")}


def checked_tokenizer(config: ConfigDict, system: System) -> Tokenizer:
    """The config's tokenizer; ValueError where the text encoder has too few embeddings for it or glyphs lack a part."""
    check_glyphs(system.modules, config.data.glyph_length)
    tokenizer, room = inputs.tokenizer(config), system.modules["text_encoder"].vocab_size
    if tokenizer.vocab_size > room:
        raise ValueError(
            f"the tokenizer has {tokenizer.vocab_size} entries, more than "
            f"config.model.text_encoder.vocab_size={room}: raise it"
        )
    return tokenizer


def lengths(config: ConfigDict) -> dict[str, int]:
    """What a release says of the text it reads: tokens, and bytes of quoted text where it reads those."""
    glyphs = config.data.glyph_length
    return {"length": config.data.text_length} | ({"glyph_length": glyphs} if glyphs else {})


def check_head(config: ConfigDict, system: System) -> None:
    """Raise ValueError unless latent_head reads exactly the data's latents from as many tokens as xfnet gives."""
    head, xfnet, latent = system.modules["latent_head"], system.modules["xfnet"], system.latent()
    found, grid = [], tuple(side * head.patch * latent.factor for side in head.grid)
    if grid != tuple(config.data.size):
        found.append(f"grid and patch cover {grid} pixels, data.size is {tuple(config.data.size)}")
    if head.channels != latent.channels:
        found.append(f"channels is {head.channels}, the latents of the VAE have {latent.channels}")
    if xfnet.kind != "resampler" or xfnet.queries != math.prod(head.grid):
        found.append(f"grid {tuple(head.grid)} wants an xfnet of kind resampler with {math.prod(head.grid)} queries")
    if found:
        raise ValueError(f"config.model.latent_head: {'; '.join(found)}: make them agree")


def latent_batches(config: ConfigDict, workdir: Path, system: System, tokenizer: Tokenizer) -> Any:
    """The training batches of a stage that works in latents, from their cache where the config asks for one."""
    encode = applied(system.modules)["encode"]
    encode_mean = jax.jit(lambda params, images: encode(params, images)[0])
    latents = None
    if config.data.latents:
        mean = functools.partial(encode_mean, system.loaded["vae"])
        latents = inputs.latents(config, workdir / "latents", mean, system.latent().vae)
    return inputs.batches(config, tokenizer, latents)


def measure_latents(
    encode: Callable[[np.ndarray], Array], batches: Iterable[np.ndarray]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each latent channel over all pixels of all pictures."""
    latents = np.concatenate([jax.device_get(encode(images)) for images in batches]).astype(np.float64)
    mean, deviation = latents.mean(axis=(0, 1, 2)), latents.std(axis=(0, 1, 2))
    return tuple(mean.tolist()), tuple(deviation.tolist())
