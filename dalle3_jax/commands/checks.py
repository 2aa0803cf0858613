"""What is wrong with a config, all at once and before anything is computed: every line names the key and the remedy."""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.commands.config import plain
from dalle3_jax.data.settings import settings_of
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.diffusion.losses import WEIGHTINGS
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.models.build import COMPONENTS, build_models

__all__ = ["check"]

KINDS = ("linear", "mlp", "transformer", "resampler")
Rule = tuple[Callable[[Any], bool], str]


def number(least: float = -math.inf, most: float = math.inf, *, open_end: bool = False) -> Callable[[Any], bool]:
    """Whether it is a number within bounds, the lower one left out where `open_end`."""

    def suits(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        return least < value <= most if open_end else least <= value <= most

    return suits


def whole(least: int) -> Callable[[Any], bool]:
    """Whether it is a whole number of at least `least`."""
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= least


def among(*known: Any) -> Callable[[Any], bool]:
    """Whether it is one of these."""
    return lambda value: value in known


COUNT: Rule = (whole(1), "it must be a whole number of at least 1")
NOT_NEGATIVE: Rule = (number(0.0), "it must be a number of at least 0")
SHARE: Rule = (number(0.0, 1.0), "it must lie in [0, 1]")
BELOW_ONE: Rule = (lambda value: number(0.0)(value) and value < 1, "it must lie in [0, 1), 1 excluded")
RULES: Mapping[str, Rule] = {
    **{f"train.{key}": COUNT for key in ("steps", "batch_size", "accumulate", "log_every", "save_every", "keep")},
    "train.max_skipped": COUNT,
    "train.dtype": (among("float32", "bfloat16"), "use float32 or bfloat16"),
    "train.release_dtype": (
        among("float16", "bfloat16", "float32", "int8"),
        "use float16, bfloat16, float32 or int8",
    ),
    "train.name": (lambda value: isinstance(value, str) and "/" not in value, "it must be a plain folder name"),
    "train.learning_rate": (number(0.0, open_end=True), "it must be a number above 0"),
    "train.warmup": NOT_NEGATIVE,
    "train.constant": SHARE,
    **{f"train.{key}": BELOW_ONE for key in ("b1", "b2", "ema")},
    "train.weight_decay": NOT_NEGATIVE,
    "train.clip": (number(0.0, open_end=True), "it must be a number above 0"),
    "train.time_shift": (number(0.0, open_end=True), "it must be a number above 0"),
    "train.kl_weight": NOT_NEGATIVE,
    "train.gradient_weight": NOT_NEGATIVE,
    "train.save_minutes": (number(0.0, open_end=True), "it must be a number above 0"),
    "train.hang_minutes": NOT_NEGATIVE,
    "train.crop": (whole(0), "it must be a whole number, 0 for none"),
    "mesh.slices": COUNT,
    "sample.every": (whole(0), "it must be a whole number, 0 for none"),
    **{f"sample.{key}": COUNT for key in ("count", "steps", "decoder_steps", "suite_count")},
    "sample.sampler": (among(*SAMPLERS), f"use {', '.join(SAMPLERS)}"),
    "sample.guidance_scale": NOT_NEGATIVE,
    "sample.temperature": NOT_NEGATIVE,
}


def check(config: ConfigDict, stages: Collection[str]) -> None:
    """Raise one ValueError with everything that no run could use."""
    found = [problem for part in (values, data, networks, diffusion) for problem in part(config)]
    if config.train.stage not in stages:
        found.insert(0, f"train.stage is {config.train.stage!r}: use {', '.join(stages)}")
    if found:
        raise ValueError("; ".join(f"config.{problem}" for problem in found))


def values(config: ConfigDict) -> Iterator[str]:
    """Single values out of their range."""
    for key, (suits, remedy) in RULES.items():
        value: Any = config
        for name in key.split("."):
            value = value[name]
        if not suits(value):
            yield f"{key} is {value!r}: {remedy}"
    for component, rate in config.train.rates.items():
        if not number(0.0)(rate):
            yield f"train.rates.{component} is {rate!r}: it must be a number of at least 0"
    if unknown := sorted(set(config.train.rates) - set(config.train.trainable)):
        yield f"train.rates names {', '.join(unknown)}, which train.trainable {tuple(config.train.trainable)} lacks"
    if not config.train.trainable:
        yield f"train.trainable is empty: name what learns, of {', '.join(COMPONENTS)}"
    if unknown := sorted(set(config.train.trainable) - set(config.model) - set(config.init)):
        yield f"train.trainable names {', '.join(unknown)}: give them sections in config.model or config.init"


def data(config: ConfigDict) -> Iterator[str]:
    """What the pipeline refuses."""
    if not config.data.source:
        yield "data.source is empty: give scenes, or a folder of tars, of TFDS or with a metadata.jsonl"
    section = {key: value for key, value in plain(config.data).items() if key != "tokenizer"}
    try:
        settings_of(section)
    except ValueError as error:
        yield str(error)


def networks(config: ConfigDict) -> Iterator[str]:
    """Fields that no network has, and widths that do not divide."""
    sections = plain(config.model)
    known = {*COMPONENTS, "diffusion"}
    if unknown := sorted(set(sections) - known):
        yield f"model has {', '.join(unknown)}: it may have {', '.join(sorted(known))}"
    if unknown := sorted(set(config.init) - set(COMPONENTS)):
        yield f"init has {', '.join(unknown)}: it may have {', '.join(COMPONENTS)}"
    if (kind := sections.get("xfnet", {}).get("kind", KINDS[0])) not in KINDS:
        yield f"model.xfnet.kind is {kind!r}: use {', '.join(KINDS)}"
        return
    try:
        modules = build_models({name: fields for name, fields in sections.items() if name in COMPONENTS})
    except (ValueError, TypeError) as error:
        yield f"model: {error}"
        return
    if unet := modules.get("unet"):
        for place, level in enumerate(unet.levels):
            for field, parts in (("heads", level.heads), ("groups", unet.groups)):
                if level.channels % parts:
                    yield f"model.unet level {place} has {level.channels} channels, no multiple of its {parts} {field}"
        if not unet.levels:
            yield "model.unet.levels is empty: give at least one level"
    if (xfnet := modules.get("xfnet")) and xfnet.width % xfnet.heads:
        yield f"model.xfnet.width is {xfnet.width}: it must be a multiple of its {xfnet.heads} heads"


def diffusion(config: ConfigDict) -> Iterator[str]:
    """A schedule, a prediction or a weighting that there is not, or that do not go together."""
    section = plain(config.model.diffusion)
    try:
        schedule = schedules.build(**section["schedule"])
        prediction.check(schedule, section["prediction"])
    except (ValueError, TypeError, KeyError) as error:
        yield f"model.diffusion: {error}"
    if section["weighting"] not in WEIGHTINGS:
        yield f"model.diffusion.weighting is {section['weighting']!r}: use {', '.join(WEIGHTINGS)}"
