"""The stages of decoders and refiners: as ordinary diffusion models, and distilled to consistency models."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.latents import DecoderSettings
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.evaluation.decoders.fidelity import psnr
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.pipeline.specs import DecoderSpec
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.distillation import DECODERS
from dalle3_jax.stages.latents import checked_tokenizer, network_functions
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging, tasks
from dalle3_jax.training.objectives import diffusion as objectives
from dalle3_jax.typing import Array, Params

__all__ = ["decoder_stage", "distill_decoder_stage"]


def decoder_stage(config: ConfigDict, workdir: Path, system: StageNetworks) -> Stage:
    """A decoder or a refiner as an ordinary diffusion model on the latents of a frozen VAE."""
    component, diffusion = distillation.trained_component(config, DECODERS), plain_config(config.model.diffusion)
    pose = decoder_task(config, system, component)
    decoding = DecoderSettings(
        "diffusion",
        system.latent(),
        **schedule_and_prediction(diffusion),
        steps=config.sample.steps,
        clamp=config.sample.clamp,
    )
    schedule = schedules.build_schedule(**decoding.schedule)
    prediction.check_prediction(schedule, decoding.prediction)
    loss_fn = objectives.diffusion_loss(
        pose,
        component,
        schedule=schedule,
        predict=decoding.prediction,
        weighting=diffusion["weighting"],
        time_shift=config.train.time_shift,
    )
    return Stage(loss_fn, decoder_batches(config, system), *decoder_results(config, system, component, decoding))


def distill_decoder_stage(config: ConfigDict, workdir: Path, system: StageNetworks) -> Stage:
    """The consistency model of a decoder or a refiner: from a teacher in config.init, or from the data alone."""
    component, how = distillation.trained_component(config, DECODERS), config.train.consistency
    pose = decoder_task(config, system, component)
    diffusion = plain_config(config.model.diffusion)
    if how.teacher:
        diffusion = vars(distillation.teacher_release(system, component).decoders[component])
    settings = {"steps": config.sample.decoder_steps, "clamp": config.sample.clamp, "top": how.top}
    settings |= {"temperature": config.sample.temperature, **schedule_and_prediction(diffusion)}
    decoding = DecoderSettings("consistency", system.latent(), **settings)
    loss_fn = distillation.distillation_loss(config, pose, component, diffusion)
    frozen = {"teacher": system.loaded[component]} if how.teacher else {}
    return Stage(
        loss_fn, decoder_batches(config, system), *decoder_results(config, system, component, decoding), frozen
    )


def decoder_task(config: ConfigDict, system: StageNetworks, component: str) -> tasks.MakeTask:
    """What the component learns, from batches of images."""
    how, modules = tasks.Perturbation(**plain_config(config.train.perturbation)), system.modules
    base_model = (*text_components(modules), "unet") if how.resampled else ()
    system.require(component, "vae", *base_model)
    latent, crop = system.latent(), config.train.crop
    check_decoder_network(modules[component], component, latent.channels, latent.factor)
    if crop % latent.factor or crop > min(config.data.size):
        raise ValueError(
            f"train.crop {crop}: it must be a multiple of {latent.factor} within {tuple(config.data.size)}"
        )
    base = None
    if how.resampled:
        diffusion = system.releases["unet"].diffusion
        base = schedules.build_schedule(**diffusion["schedule"]), diffusion["prediction"]
    return tasks.latent_decoder(
        network_functions(modules, component, *base_model),
        component,
        shift=latent.shift,
        scale=latent.scale,
        perturbation=how,
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


def decoder_batches(config: ConfigDict, system: StageNetworks) -> Callable[[], Any]:
    """Batches of images, with captions where the base model re-samples their latents."""
    tokenizer = checked_tokenizer(config, system) if config.train.perturbation.resampled else None
    return functools.partial(inputs.training_batches, config, tokenizer)


def decoder_results(
    config: ConfigDict, system: StageNetworks, component: str, decoding: DecoderSettings
) -> tuple[Any, Any]:
    """(Preview, release) of a decoder: held-out pictures, the VAE's and its own; the network with what it decodes."""
    vae, module, latent = system.modules["vae"], system.modules[component], decoding.latent
    assert isinstance(module, DecoderUNet)  # check_network has seen to it
    drawer = DecoderSpec.from_decoding(module, decoding)
    decode = jax.jit(lambda params, latents: apply_network(vae, params, latent.denormalise(latents), method="decode"))

    def draw(params: Params, latents: Array) -> Array:
        drawn = programs.sample_decoder(params, latents, np.arange(len(latents), dtype=np.uint32), decoder=drawer)
        return decode(system.loaded["vae"], drawn) if component == "refiner" else drawn

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        images = next(inputs.image_batches(config, config.sample.count, "held_out"))
        latents = latent.normalise(programs.encode_images(system.loaded["vae"], images, vae=vae))
        rows = [images, *map(jax.device_get, (decode(system.loaded["vae"], latents), draw(ema[component], latents)))]
        logging.save_image_rows(path, rows)
        truth, copied, drawn = map(to_pixels, rows)
        return {"psnr": float(psnr(drawn, truth).mean()), "vae_psnr": float(psnr(copied, truth).mean())}

    def release(ema: Params, step: int) -> Release:
        said = {component: decoding}
        return Release(
            {component: module},
            {component: ema[component]},
            latent,
            decoders=said,
            training=training_metadata(config, step),
        )

    return preview, release
