"""The stages of the upscaler: as an ordinary diffusion model, and distilled to a few steps."""

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.checkpoints.upscaler_settings import UpscalerSettings
from dalle3_jax.data.batches import make_batches
from dalle3_jax.diffusion import schedules
from dalle3_jax.evaluation.decoders.fidelity import psnr
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.upscaler import apply_upscaler, low_resolution_channels
from dalle3_jax.pipeline import upscaling
from dalle3_jax.pipeline.png import to_pixels
from dalle3_jax.stages import distillation, inputs
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.denoising import denoising_loss
from dalle3_jax.stages.latents import text_lengths
from dalle3_jax.stages.stage import Stage, training_metadata
from dalle3_jax.training import logging, tasks
from dalle3_jax.training.objectives.consistency import consistency_loss
from dalle3_jax.typing import LossFn, Params

__all__ = ["distill_upscaler_stage", "shrink_mean", "upscaler_stage"]


def upscaler_stage(context: Context, *, time_shift: float = 1.0, most_noise: float = 0.35) -> Stage:
    """The upscaler as an ordinary diffusion model: in pixels, or in the latents of a VAE where there is one.

    `most_noise` is the highest time to which low-resolution images are noised.
    """
    config = context.config
    distillation.trained_component(config, ("upscaler",))
    diffusion = plain_config(config.model.diffusion)
    sampling = {key: config.sample[key] for key in ("sampler", "guidance_scale")}
    settings = upscaler_settings(context, diffusion, most_noise, steps=config.sample.steps, **sampling)
    loss_fn = denoising_loss(context, upscaler_task(context, settings), "upscaler", vars(settings), time_shift)
    return assemble_upscaler_stage(context, loss_fn, settings)


def distill_upscaler_stage(
    context: Context,
    *,
    top: float = 0.985,
    parts: tuple[int, int] = (8, 64),
    guidance_scale: float = 1.0,
    most_noise: float = 0.35,
) -> Stage:
    """The consistency model of the upscaler in config.init: a few steps, with the teacher's guidance folded in."""
    config, networks = context.config, context.networks
    distillation.trained_component(config, ("upscaler",))
    teacher = distillation.teacher_release(networks, "upscaler").upscaler
    if teacher is None or teacher.kind != "diffusion":
        raise ValueError("config.init.upscaler holds no upscaler of kind diffusion: a teacher is one")
    sampling = {"kind": "consistency", "steps": config.sample.decoder_steps, "temperature": config.sample.temperature}
    settings = upscaler_settings(context, vars(teacher), most_noise, top=top, **sampling)
    null = inputs.tokenize_captions(config, context.tokenizer, [""])
    loss_fn = consistency_loss(
        upscaler_task(context, settings, null),
        "upscaler",
        schedule=schedules.build_schedule(settings.schedule),
        predict=settings.prediction,
        top=top,
        parts=parts,
        steps=config.train.steps,
        guidance_scale=guidance_scale,
    )
    return assemble_upscaler_stage(context, loss_fn, settings, {"teacher": networks.loaded["upscaler"]})


def upscaler_settings(
    context: Context, diffusion: Mapping[str, Any], most_noise: float, **how: Any
) -> UpscalerSettings:
    """The settings of the stage's upscaler, under a schedule and a prediction; ValueError for networks that misfit."""
    config, networks = context.config, context.networks
    networks.require(*text_components(networks.modules), "upscaler")
    latent = networks.latent() if "vae" in networks.modules else None
    release = networks.releases.get("upscaler")
    begun = {} if release is None or release.upscaler is None else vars(release.upscaler)
    factor = config.data.degradation.get("factor", 0)
    if not factor:
        raise ValueError("config.data.degradation is empty: give it the factor by which images shrink, 2 or 4")
    check_upscaler_network(networks.modules["upscaler"], factor, latent)
    check_crop(context, factor, latent)
    return UpscalerSettings(
        factor,
        schedule=diffusion["schedule"],
        prediction=diffusion["prediction"],
        noise_schedule=begun.get("noise_schedule", {"name": "cosine"}),
        most_noise=round(1000 * most_noise),
        latent=latent,
        clamp=config.sample.clamp and latent is None,
        **how,
    )


def check_upscaler_network(module: Any, factor: int, latent: Latent | None) -> None:
    """Raise ValueError unless the network takes images or latents beside what is enlarged, and a noise level."""
    if not isinstance(module, UNet):
        raise ValueError(f"config.model.upscaler is a {type(module).__name__}: leave `network` out")
    channels, cells = (latent.channels, latent.factor) if latent else (3, 1)
    wanted = {"in_channels": channels + low_resolution_channels(factor, cells), "out_channels": channels}
    wrong = [f"{name} is {getattr(module, name)}, not {n}" for name, n in wanted.items() if getattr(module, name) != n]
    if module.grid:
        wrong.append(f"grid is {module.grid}, not None: it enlarges parts of pictures")
    if module.level_entries is None:
        wrong.append("level_entries is None, not 0 (noise levels as sinusoids) or the length of a table")
    if wrong:
        space = f"latents of {cells} pixels a cell" if latent else "pixels"
        raise ValueError(f"config.model.upscaler does not enlarge {factor} times in {space}: {'; '.join(wrong)}")


def check_crop(context: Context, factor: int, latent: Latent | None) -> None:
    """Raise ValueError where a batch's images cannot be folded as the network does, or encoded."""
    config, module = context.config, context.networks.modules["upscaler"]
    multiple = max(factor, latent.factor if latent else module.patch)
    side = config.data.crop
    if side % multiple:
        raise ValueError(f"config.data.crop is {side}: this upscaler trains on multiples of {multiple} pixels")


def upscaler_task(
    context: Context, settings: UpscalerSettings, null: Mapping[str, Any] | None = None
) -> tasks.MakeTask:
    """The upscaler's task, from batches of images, their low-resolution ones and captions."""
    networks, module = context.networks, context.networks.modules["upscaler"]
    assert isinstance(module, UNet)  # check_upscaler_network has seen to it
    return tasks.upscale(
        networks.encode_text,
        functools.partial(apply_upscaler, module),
        noise_schedule=schedules.build_schedule(settings.noise_schedule),
        most_noise=settings.most_noise / 1000,
        encode_latents=networks.encode_latents if settings.latent else None,
        null=null,
    )


def assemble_upscaler_stage(
    context: Context, loss_fn: LossFn, settings: UpscalerSettings, frozen: Params = MappingProxyType({})
) -> Stage:
    """The stage of an upscaler; its release has the text side beside the network, so that it works alone.

    A preview shows held-out images, enlarged by a bicubic filter, by the upscaler, and as they are. Its figures are the
    PSNR of the two, and that of the upscaler's images, shrunk, against what they were made of (`consistency`).
    """
    config, networks = context.config, context.networks
    modules: dict[str, Any] = networks.modules
    kept = [name for name in modules if name != "upscaler"]
    spec = upscaling.UpscalerSpec.from_settings(modules["upscaler"], settings, modules.get("vae"))
    encode_text = jax.jit(networks.encode_text)

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        batch = held_out_batch(context)
        weights = {**networks.loaded, **ema}
        condition = encode_text(weights, {name: batch[name] for name in batch if "images" not in name})
        made = jax.device_get(sample_images(spec, settings, weights, batch["low_images"], condition))
        low, truth, upscaled = map(to_pixels, (batch["low_images"], batch["images"], made))
        bicubic = np.stack([enlarge_bicubic(image, settings.factor) for image in low])
        logging.save_image_rows(path, [image / np.float32(127.5) - 1 for image in (bicubic, upscaled, truth)])
        images = {"psnr": (upscaled, truth), "bicubic_psnr": (bicubic, truth)}
        images["consistency"] = shrink_mean(upscaled, settings.factor), low
        return {name: float(psnr(*pair).mean()) for name, pair in images.items()}

    def release(ema: Params, step: int) -> Release:
        return Release(
            dict(modules),
            {**{name: networks.loaded[name] for name in kept}, **ema},
            settings.latent,
            upscaler=settings,
            text=text_lengths(config),
            training=training_metadata(config, step),
            tokenizer=context.tokenizer.to_json(),
        )

    data = functools.partial(inputs.batches, context)
    return Stage(loss_fn=loss_fn, data=data, preview=preview, release=release, frozen=frozen)


def held_out_batch(context: Context) -> dict[str, np.ndarray]:
    """The first images of the split that is held out, whole, with low-resolution ones and captions."""
    config = context.config
    data = inputs.data_section(config, split="held_out", crop=None)
    glyphs = inputs.glyph_tokenizer(config)
    rows = make_batches(data, tokenize=context.tokenizer, glyphs=glyphs, batch_size=config.sample.count, seed=0)
    return next(rows)


def sample_images(
    spec: upscaling.UpscalerSpec, settings: UpscalerSettings, weights: Params, low: np.ndarray, condition: Any
) -> Float[np.ndarray, "b H W 3"]:
    """Upscaled images at the settings' own noise level, without guidance; image i has the seed i."""
    count = len(low)
    seeds, level = np.arange(count, dtype=np.uint32), np.full(count, settings.noise_level, np.float32)
    state = upscaling.start_upscaling(low, level, seeds, spec=spec)
    scale = np.ones(count, np.float32)
    end = upscaling.advance_upscaling(
        weights["upscaler"], condition, None, scale, state, np.int32(0), spec=spec, count=spec.steps
    )
    return jax.device_get(upscaling.decode_upscaled(weights.get("vae"), end.loop.x, spec=spec))


def enlarge_bicubic(pixels: UInt8[np.ndarray, "h w 3"], factor: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """An image enlarged by a bicubic filter."""
    height, width, _ = pixels.shape
    return np.array(Image.fromarray(pixels).resize((factor * width, factor * height), Image.Resampling.BICUBIC))


def shrink_mean(pixels: UInt8[np.ndarray, "b h w 3"], factor: int) -> UInt8[np.ndarray, "b h2 w2 3"]:
    """Images shrunk by means of squares of pixels."""
    b, height, width, _ = pixels.shape
    squares = pixels.reshape(b, height // factor, factor, width // factor, factor, 3)
    return np.rint(squares.mean(axis=(2, 4))).astype(np.uint8)
