"""Measures of an ablated model: errors of the denoiser, how prompts are followed, the UNet's time."""

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dalle3_jax.data.batches import open_source
from dalle3_jax.data.caption_versions import main_version, usable_captions
from dalle3_jax.data.scenes import World, world_of
from dalle3_jax.data.settings import are_fields, is_whole
from dalle3_jax.data.sources import read_good_records
from dalle3_jax.data.transforms import normalise_pixels
from dalle3_jax.evaluation.prompts import Prompt
from dalle3_jax.evaluation.score import ocr_for, score_model
from dalle3_jax.evaluation.suites import sample_prompts
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.unet_call import apply_unet
from dalle3_jax.pipeline import Pipeline, programs
from dalle3_jax.pipeline.denoisers import denoiser
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.reading.scene_reader import Reader
from dalle3_jax.stages.inputs import data_section
from dalle3_jax.typing import Array, Float, Params

__all__ = [
    "HeldOutBatch",
    "denoising_errors",
    "held_out_batch",
    "measure_errors",
    "prompt_shares",
    "unet_seconds",
    "world_prompts",
]


def is_time(value: Any) -> bool:
    """Whether it lies between the image and the noise."""
    return isinstance(value, float) and 0.0 < value < 1.0


def nonempty_list_of(suits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Whether it is a list of such values, and not an empty one."""
    return lambda values: isinstance(values, tuple | list) and len(values) > 0 and all(map(suits, values))


POSITIVE = functools.partial(is_whole, least=1)
WHOLE, WHOLES = (POSITIVE, "a whole number above 0"), (nonempty_list_of(POSITIVE), "whole numbers above 0")
TIMES = (nonempty_list_of(is_time), "numbers between 0 and 1")
SCORERS = (are_fields, "the captioner's stage by version of captions, as {'alt': 'captioner'}")
MEASURES = {
    "error": {"times": TIMES, "records": WHOLE, "points": WHOLE},
    "prompts": {"count": WHOLE},
    "captions": {"prompts": SCORERS, "count": WHOLE, "points": WHOLE},
    "unet_time": {"lengths": WHOLES, "batch": WHOLE, "rounds": WHOLE},
}


def measure_errors(asked: Mapping[str, Any]) -> list[str]:
    """Error messages for a study's {measure: settings}."""
    errors = [] if asked else [f"nothing to measure: measure takes {', '.join(MEASURES)}"]
    for name, settings in asked.items():
        wants = MEASURES.get(name, {})
        if not wants:
            errors.append(f"unknown measure.{name}: use {', '.join(MEASURES)}")
        elif not isinstance(settings, Mapping) or set(settings) != set(wants):
            errors.append(f"measure.{name} is {settings!r}: it takes {', '.join(wants)}")
        else:
            wrong = {key: remedy for key, (suits, remedy) in wants.items() if not suits(settings[key])}
            errors += [f"measure.{name}.{key} is {settings[key]!r}: give {remedy}" for key, remedy in wrong.items()]
    return errors


class HeldOutBatch(NamedTuple):
    """Records that no run trains on: their latents as the UNet sees them, the noise they get, their captions."""

    x0: Float[Array, "b h w c"]
    eps: Float[Array, "b h w c"]
    captions: list[str]


def held_out_batch(pipeline: Pipeline, config: ConfigDict, records: int) -> HeldOutBatch:
    """The first `records` held-out ones of the config's data, with the caption version that it shows most."""
    source = open_source(data_section(config, split="held_out"))
    version = main_version(usable_captions(source, dict(config.data.captions)))
    rows = read_good_records(source, records, version)
    images = normalise_pixels(np.stack([pixels for _, pixels in rows]))
    x0 = pipeline.codec.encode(images)
    eps = jax.random.normal(jax.random.key(0), x0.shape, x0.dtype)
    return HeldOutBatch(x0, eps, [record.captions[version] for record, _ in rows])


def denoising_errors(pipeline: Pipeline, rows: HeldOutBatch, times: Sequence[float]) -> list[float]:
    """Mean squared error of x0 at each time, in the UNet's latents: one scale whatever the network predicts."""
    condition = pipeline.encode(rows.captions)
    return [
        float(x0_error(pipeline.params["unet"], rows.x0, rows.eps, jnp.float32(t), condition, system=pipeline.system))
        for t in times
    ]


def prompt_shares(pipeline: Pipeline, count: int, seed: int, **settings: Any) -> dict[str, float]:
    """Measure -> share of held-out prompts that were followed: all that an ablation knows of the suite."""
    data = pipeline.release.training.get("config", {}).get("data", {})
    prompts, world = world_prompts(data, count, seed)
    return score_model(
        pipeline, prompts, Reader.load(), ocr_for(prompts), world=world, seed=seed, ceilings=False, **settings
    ).shares()


def world_prompts(data: Mapping[str, Any], count: int, seed: int = 0) -> tuple[list[Prompt], World]:
    """Held-out prompts of the world that this data section trains on; ValueError where it gives no such list."""
    world = data_world(data)
    return sample_prompts(world, count, seed=seed), world


def data_world(data: Mapping[str, Any]) -> World:
    """The world that a data section names, or the part of it."""
    name, part = data.get("world", "first"), data.get("part", {})
    return world_of({"of": name, **part} if part else name)


def unet_seconds(
    pipelines: Mapping[str, Pipeline], lengths: Sequence[int], batch: int, rounds: int
) -> dict[str, dict[int, float]]:
    """Seconds of one evaluation of each UNet on captions of so many tokens; `batch` rows, halves of guided pictures.

    All are compiled first and then take turns, so that what else the machine does meets them alike; medians.
    """
    by_pipeline: dict[str, dict[int, float]] = {name: {} for name in pipelines}
    for length in lengths:
        calls = {name: unet_call(pipeline, length, batch) for name, pipeline in pipelines.items()}
        taken: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(1 + rounds):
            for name, call in calls.items():
                begun = time.perf_counter()
                jax.block_until_ready(call())
                taken[name].append(time.perf_counter() - begun)
        for name, seconds in taken.items():
            by_pipeline[name][length] = statistics.median(seconds[1:])  # the first holds the compilation
    return by_pipeline


def unet_call(pipeline: Pipeline, length: int, batch: int) -> functools.partial:
    """One evaluation of the UNet after a caption with no padding, ready to be called."""
    system, sides = pipeline.system, pipeline.defaults["size"]
    texts = [(np.zeros((batch, length), np.int32), np.ones((batch, length), bool))]
    if glyphs := pipeline.release.text.get("glyph_length"):
        texts.append((np.zeros((batch, glyphs), np.int32), np.ones((batch, glyphs), bool)))
    condition = programs.encode_prompts(pipeline.params, *texts[0], *texts[1:], system=system)
    x = jnp.zeros((batch, *(side // system.latent.factor for side in sides), system.latent.channels))
    call = jax.jit(functools.partial(apply_unet, system.unet, factor=system.latent.factor))
    return functools.partial(call, pipeline.params["unet"], x, jnp.full(batch, 0.5), condition)


@functools.partial(jax.jit, static_argnames="system")
def x0_error(
    params: Params,
    x0: Float[Array, "b h w c"],
    eps: Float[Array, "b h w c"],
    t: Float[Array, ""],
    condition: Condition,
    *,
    system: PipelineSpec,
) -> Float[Array, ""]:
    """Mean squared error of the network's estimate of x0 at time t; `params` are the UNet's."""
    denoise = denoiser({"unet": params}, condition, system=system)
    x_t = system.schedule.alpha(t) * x0 + system.schedule.sigma(t) * eps
    return jnp.mean(jnp.square(denoise(x_t, jnp.broadcast_to(t, len(x0))) - x0))
