"""The stages of decoders: `decoder` and `refiner` as diffusion models, and what distils these or a base model."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax import programs
from dalle3_jax.checkpoints.latents import Decoding
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.commands import inputs
from dalle3_jax.commands.config import plain
from dalle3_jax.commands.networks import applied, checked_tokenizer, latent_batches, lengths
from dalle3_jax.commands.stage import Stage, apply, described
from dalle3_jax.commands.systems import System
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.evaluation.sheets import Cell, Line, sheet
from dalle3_jax.models.decoder import DecoderUNet
from dalle3_jax.models.glyph import text_side
from dalle3_jax.pipeline import Pipeline, to_pixels
from dalle3_jax.training import logging, objectives, problems
from dalle3_jax.typing import Array, Params

__all__ = ["decoder", "distill", "distill_base"]

COMPONENTS = ("decoder", "refiner")
TEXT_SIDE = ("text_encoder", "xfnet", "unet")


def decoder(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """A decoder or a refiner as an ordinary diffusion model on the latents of a frozen VAE."""
    component, diffusion = learnt(config, COMPONENTS), plain(config.model.diffusion)
    pose = problem_of(config, system, component)
    decoding = Decoding(
        "diffusion", system.latent(), **chosen(diffusion), steps=config.sample.steps, clamp=clamp(config)
    )
    schedule = schedules.build(**decoding.schedule)
    prediction.check(schedule, decoding.prediction)
    loss_fn = objectives.diffusion_loss(
        pose,
        component,
        schedule=schedule,
        predict=decoding.prediction,
        weighting=diffusion["weighting"],
        time_shift=config.train.time_shift,
    )
    return Stage(loss_fn, batches_of(config, system), *results(config, system, component, decoding))


def distill(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The consistency model of a decoder or a refiner: from a teacher in config.init, or from the data alone."""
    component, how = learnt(config, COMPONENTS), config.train.consistency
    pose = problem_of(config, system, component)
    said = plain(config.model.diffusion)
    if how.teacher:
        said = vars(taught(system, component).decoders[component])
    settings = {**chosen(said), "top": how.top, "steps": config.sample.decoder_steps, "clamp": clamp(config)}
    settings["temperature"] = config.sample.temperature
    decoding = Decoding("consistency", system.latent(), **settings)
    loss_fn = consistency_loss(config, pose, component, decoding.schedule, decoding.prediction)
    frozen = {"teacher": system.loaded[component]} if how.teacher else {}
    return Stage(loss_fn, batches_of(config, system), *results(config, system, component, decoding), frozen)


def distill_base(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The base model's consistency model: a few steps, with the teacher's guidance folded in (arXiv 2310.04378)."""
    system.require(*TEXT_SIDE, "vae")
    modules, latent, tokenizer = system.modules, system.latent(), checked_tokenizer(config, system)
    inputs.check_prompts(config, latent.factor)
    learnt(config, ("unet",))
    if not config.train.consistency.teacher:
        raise ValueError("train.consistency.teacher is False: a base model is distilled from one in config.init.unet")
    teacher = taught(system, "unet")
    networks = applied(modules, *text_side(modules), "unet")
    pose = problems.drawing(
        networks,
        shift=latent.shift,
        scale=latent.scale,
        sizes=bool(modules["unet"].size_ids),
        null=inputs.captions(config, tokenizer, [""]),
    )
    loss_fn = consistency_loss(config, pose, "unet", teacher.diffusion["schedule"], teacher.diffusion["prediction"])

    def release(ema: Params, step: int) -> Release:
        return Release(
            dict(modules),
            {**system.loaded, **ema},
            latent,
            diffusion=teacher.diffusion,
            text=lengths(config),
            sizes=(tuple(config.data.size),),
            sampling={"steps": config.sample.steps, "sampler": "consistency", "guidance_scale": 1.0},
            training=described(config, step),
            tokenizer=tokenizer.to_json(),
        )

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        pictures = Pipeline(release(ema, step))(list(config.sample.prompts)) if config.sample.prompts else []
        cells = [Cell(picture.image, (Line(picture.prompt),)) for picture in pictures]
        if cells:
            logging.save_image(path, sheet(cells, columns=min(len(cells), 6), title=f"step {step:,}"))
        return {}

    data = functools.partial(latent_batches, config, workdir, system, tokenizer)
    return Stage(loss_fn, data, preview, release, {"teacher": system.loaded["unet"]})


def learnt(config: ConfigDict, components: tuple[str, ...]) -> str:
    """The one component that the stage trains; ValueError where it is none of those it can, or several."""
    trainable = tuple(config.train.trainable)
    if len(trainable) != 1 or trainable[0] not in components:
        raise ValueError(f"train.trainable is {trainable}: this stage trains {' or '.join(components)} alone")
    return trainable[0]


def taught(system: System, component: str) -> Release:
    """The release of the component's teacher; ValueError where there is none or what it holds is none."""
    release = system.releases.get(component)
    if release is None:
        raise ValueError(f"there is no teacher: name its release in config.init.{component}")
    if component in COMPONENTS:
        kind = release.decoders[component].kind if component in release.decoders else "unknown"
        if kind != "diffusion":
            raise ValueError(f"config.init.{component} is of kind {kind}: a teacher is of kind diffusion")
        if found := system.latent().misfits(release.decoders[component].latent):
            raise ValueError(f"config.init.{component} was trained on other latents: {'; '.join(found)}")
    return release


def problem_of(config: ConfigDict, system: System, component: str) -> problems.Pose:
    """What the component learns, from batches of images."""
    how = problems.Perturbation(**plain(config.train.perturbation))
    system.require(component, "vae", *(TEXT_SIDE if how.resampled else ()))
    modules, latent, crop = system.modules, system.latent(), config.train.crop
    check_network(modules[component], component, latent.channels, latent.factor)
    if crop % latent.factor or crop > min(config.data.size):
        raise ValueError(
            f"train.crop {crop}: it must be a multiple of {latent.factor} within {tuple(config.data.size)}"
        )
    base = None
    if how.resampled:
        diffusion = system.releases["unet"].diffusion
        base = schedules.build(**diffusion["schedule"]), diffusion["prediction"]
    names = (component, *(text_side(modules) if how.resampled else ()), *(("unet",) if how.resampled else ()))
    return problems.decoding(
        applied(modules, *names),
        component,
        shift=latent.shift,
        scale=latent.scale,
        perturbation=how,
        base=base,
        crop=crop // latent.factor,
    )


def check_network(module: Any, component: str, channels: int, factor: int) -> None:
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


def consistency_loss(
    config: ConfigDict, pose: problems.Pose, component: str, schedule: Mapping[str, Any], predict: str
) -> Any:
    """The objective of distillation with the config's settings."""
    how = config.train.consistency
    first, last = how.parts
    if not 1 <= first <= last:
        raise ValueError(f"train.consistency.parts {tuple(how.parts)}: two numbers from 1 up, the second no smaller")
    return objectives.consistency_loss(
        pose,
        component,
        schedule=schedules.build(**schedule),
        predict=predict,
        top=how.top,
        parts=(first, last),
        steps=config.train.steps,
        teacher=how.teacher,
        guidance_scale=how.guidance_scale,
    )


def chosen(said: Mapping[str, Any]) -> dict[str, Any]:
    """Schedule and prediction of what a config or a release says."""
    return {key: said[key] for key in ("schedule", "prediction")}


def clamp(config: ConfigDict) -> bool:
    """Whether a decoder's estimates are kept within [-1, 1]."""
    return bool(config.sample.clamp)


def batches_of(config: ConfigDict, system: System) -> Callable[[], Any]:
    """Batches of images, with captions where the base model re-samples their latents."""
    tokenizer = checked_tokenizer(config, system) if config.train.perturbation.resampled else None
    return functools.partial(inputs.batches, config, tokenizer)


def results(config: ConfigDict, system: System, component: str, decoding: Decoding) -> tuple[Any, Any]:
    """(Preview, release) of a decoder: held-out pictures, the VAE's and its own; the network with what it decodes."""
    vae, module, latent = system.modules["vae"], system.modules[component], decoding.latent
    assert isinstance(module, DecoderUNet)  # check_network has seen to it
    drawer = programs.Decoder.of(module, decoding)
    encode = jax.jit(lambda params, images: latent.normalised(apply(vae, params, images, method="encode")[0]))
    decode = jax.jit(lambda params, latents: apply(vae, params, latent.restored(latents), method="decode"))

    def draw(params: Params, latents: Array) -> Array:
        drawn = programs.draw(params, latents, np.arange(len(latents), dtype=np.uint32), decoder=drawer)
        return decode(system.loaded["vae"], drawn) if component == "refiner" else drawn

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        images = next(inputs.pictures(config, config.sample.count, "held_out"))
        latents = encode(system.loaded["vae"], images)
        rows = [images, *map(jax.device_get, (decode(system.loaded["vae"], latents), draw(ema[component], latents)))]
        logging.save_rows(path, rows)
        truth, copied, drawn = (to_pixels(row).astype(np.float64) for row in rows)
        return {"psnr": psnr(drawn, truth), "vae_psnr": psnr(copied, truth)}

    def release(ema: Params, step: int) -> Release:
        said = {component: decoding}
        return Release(
            {component: module}, {component: ema[component]}, latent, decoders=said, training=described(config, step)
        )

    return preview, release


def psnr(images: np.ndarray, truth: np.ndarray) -> float:
    """The mean over pictures of 0 to 255 of their peak signal to noise ratio in dB."""
    return float(np.mean(10 * np.log10(255.0**2 / np.mean(np.square(images - truth), axis=(1, 2, 3)))))
