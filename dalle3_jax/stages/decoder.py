"""The stages of decoders and refiners: as ordinary diffusion models, and distilled to consistency models."""

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from dalle3_jax.checkpoints.latents import DecoderSettings
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.diffusion import schedules
from dalle3_jax.evaluation.decoders.fidelity import psnr
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.pipeline.specs import DecoderSpec
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.denoising import denoising_loss
from dalle3_jax.stages.distillation import DECODERS
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging, tasks
from dalle3_jax.training.objectives.consistency import consistency_loss
from dalle3_jax.training.tasks import NO_PERTURBATION
from dalle3_jax.typing import Array, LossFn, Params

__all__ = ["decoder_stage", "distill_decoder_stage"]


def decoder_stage(
    context: Context, *, time_shift: float = 1.0, crop: int = 0, perturbation: tasks.Perturbation = NO_PERTURBATION
) -> Stage:
    """A decoder or a refiner as an ordinary diffusion model on the latents of a frozen VAE.

    `crop` is the side in pixels of the part that is trained on, 0: the whole.
    """
    config = context.config
    component, diffusion = distillation.trained_component(config, DECODERS), plain_config(config.model.diffusion)
    task = decoder_task(context, component, crop, perturbation)
    settings = {"steps": config.sample.steps, "clamp": config.sample.clamp, **schedule_and_prediction(diffusion)}
    decoding = DecoderSettings("diffusion", context.networks.latent(), **settings)
    loss_fn = denoising_loss(context, task, component, vars(decoding), time_shift)
    return assemble_decoder_stage(context, component, loss_fn, decoding, captions=bool(perturbation.resampled))


def distill_decoder_stage(
    context: Context,
    *,
    teacher: bool = True,
    top: float = 0.985,
    parts: tuple[int, int] = (8, 64),
    crop: int = 0,
    perturbation: tasks.Perturbation = NO_PERTURBATION,
) -> Stage:
    """The consistency model of a decoder or a refiner: from a `teacher` in config.init, or from the data alone."""
    config, networks = context.config, context.networks
    component = distillation.trained_component(config, DECODERS)
    task = decoder_task(context, component, crop, perturbation)
    diffusion = plain_config(config.model.diffusion)
    if teacher:
        diffusion = vars(distillation.teacher_release(networks, component).decoders[component])
    settings = {"steps": config.sample.decoder_steps, "clamp": config.sample.clamp, "top": top}
    settings |= {"temperature": config.sample.temperature, **schedule_and_prediction(diffusion)}
    decoding = DecoderSettings("consistency", networks.latent(), **settings)
    loss_fn = consistency_loss(
        task,
        component,
        schedule=schedules.build_schedule(decoding.schedule),
        predict=decoding.prediction,
        top=top,
        parts=parts,
        steps=config.train.steps,
        teacher=teacher,
    )
    frozen = {"teacher": networks.loaded[component]} if teacher else {}
    captions = bool(perturbation.resampled)
    return assemble_decoder_stage(context, component, loss_fn, decoding, captions=captions, frozen=frozen)


def decoder_task(context: Context, component: str, crop: int, perturbation: tasks.Perturbation) -> tasks.MakeTask:
    """The component's task, from batches of images."""
    config, networks = context.config, context.networks
    base_model = (*text_components(networks.modules), "unet") if perturbation.resampled else ()
    networks.require(component, "vae", *base_model)
    latent, module = networks.latent(), networks.modules[component]
    check_decoder_network(module, component, latent.channels, latent.factor)
    if crop % latent.factor or crop > min(config.data.size):
        raise ValueError(
            f"train.objective.crop {crop}: it must be a multiple of {latent.factor} within {tuple(config.data.size)}"
        )
    base = None
    if perturbation.resampled:
        diffusion = networks.releases["unet"].diffusion
        schedule = schedules.build_schedule(diffusion["schedule"])
        base = tasks.BaseModel(networks.encode_text, networks.unet, schedule, diffusion["prediction"])
    return tasks.latent_decoder(
        networks.encode_latents,
        functools.partial(apply_network, module),
        component,
        perturbation=perturbation,
        base=base,
        crop=crop // latent.factor,
    )


def check_decoder_network(module: Any, component: str, channels: int, factor: int) -> None:
    """Raise ValueError unless the network takes the VAE's latents and gives images, a refiner such latents again."""
    images, ratio = (channels, 1) if component == "refiner" else (3, factor)
    if not isinstance(module, DecoderUNet):
        raise ValueError(f"config.model.{component} is a {type(module).__name__}: leave `network` out")
    wanted = {"latent_channels": channels, "image_channels": images, "factor": ratio}
    wrong = [
        f"{name} is {getattr(module, name)}, not {value}"
        for name, value in wanted.items()
        if getattr(module, name) != value
    ]
    if wrong:
        raise ValueError(f"config.model.{component} does not fit the VAE's latents: {'; '.join(wrong)}")


def schedule_and_prediction(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Schedule and prediction of what a config or a release says."""
    return {key: settings[key] for key in ("schedule", "prediction")}


def assemble_decoder_stage(
    context: Context,
    component: str,
    loss_fn: LossFn,
    decoding: DecoderSettings,
    *,
    captions: bool,
    frozen: Params = MappingProxyType({}),
) -> Stage:
    """The stage of a decoder: batches of images, with captions where the base model re-samples their latents.

    A preview compares held-out pictures, the VAE's and its own; the release is the network with what it decodes.
    """
    config, networks, latent = context.config, context.networks, decoding.latent
    vae, module = networks.modules["vae"], networks.modules[component]
    assert isinstance(module, DecoderUNet)  # check_decoder_network has seen to it
    spec = DecoderSpec.from_decoding(module, decoding)
    decode = jax.jit(lambda params, latents: apply_network(vae, params, latent.denormalise(latents), method="decode"))

    def sample(params: Params, latents: Array) -> Array:
        seeds = np.arange(len(latents), dtype=np.uint32)
        sampled = programs.sample_decoder(params, latents, seeds, decoder=spec)
        return decode(networks.loaded["vae"], sampled) if component == "refiner" else sampled

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        images = next(inputs.image_batches(config, config.sample.count, "held_out"))
        latents = latent.normalise(programs.encode_images(networks.loaded["vae"], images, vae=vae))
        copies, samples = decode(networks.loaded["vae"], latents), sample(ema[component], latents)
        rows = [images, *map(jax.device_get, (copies, samples))]
        logging.save_image_rows(path, rows)
        truth, copied, sampled = map(to_pixels, rows)
        return {"psnr": float(psnr(sampled, truth).mean()), "vae_psnr": float(psnr(copied, truth).mean())}

    def release(ema: Params, step: int) -> Release:
        return Release(
            {component: module},
            {component: ema[component]},
            latent,
            decoders={component: decoding},
            training=training_metadata(config, step),
        )

    data = functools.partial(inputs.batches, context, captions=captions)
    return Stage(loss_fn=loss_fn, data=data, preview=preview, release=release, frozen=frozen)
