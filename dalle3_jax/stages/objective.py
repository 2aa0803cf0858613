"""The section train.objective of a config: the keywords of the function that builds its stage."""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.stages.value_checks import (
    ABOVE_ZERO,
    BELOW_ONE,
    COUNT,
    NOT_NEGATIVE,
    SHARE,
    ValueCheck,
    integer_from,
    number_between,
    one_of,
)

__all__ = [
    "moved_key_error",
    "objective_errors",
    "objective_keywords",
    "objective_parameters",
    "read_run_config",
    "upgrade_config",
]

MOVED = {f"train.{key}": f"train.objective.{key}" for key in ("kl_weight", "gradient_weight", "time_shift")}
MOVED |= {f"train.{key}": f"train.objective.{key}" for key in ("crop", "perturbation")}
MOVED |= {"train.consistency": "train.objective", "train.captioning": "train.objective"}
"""Keys and sections of older configs -> where they stand now."""


def is_growing_pair(value: Any) -> bool:
    """Whether it is two whole numbers from 1 up, the second no smaller."""
    return (
        isinstance(value, tuple | list)
        and len(value) == 2
        and integer_from(1)(value[0])
        and integer_from(value[0])(value[1])
    )


def is_range(value: Any) -> bool:
    """Whether it is two numbers from 0 up, the second no smaller."""
    pair = isinstance(value, tuple | list) and len(value) == 2
    return pair and number_between(0.0)(value[0]) and number_between(value[0])(value[1])


OBJECTIVE_RULES: Mapping[str, ValueCheck] = {
    **{key: NOT_NEGATIVE for key in ("kl_weight", "gradient_weight", "contrastive", "caption", "guidance_scale")},
    "scale": (one_of("deviation", "pixels"), 'use "deviation" or "pixels"'),
    "time_shift": ABOVE_ZERO,
    "crop": (integer_from(0), "it must be a whole number, 0 for none"),
    "perturbation.noise": NOT_NEGATIVE,
    "perturbation.resampled": SHARE,
    "perturbation.strength": SHARE,
    "perturbation.steps": COUNT,
    "teacher": (one_of(True, False), "use True or False"),
    "most_noise": BELOW_ONE,
    "whole": SHARE,
    "blurred": SHARE,
    "image_dropout": SHARE,
    "top": (number_between(0.0, 1.0, open_end=True), "it must lie in (0, 1], 0 excluded"),
    "guidance_scales": (is_range, "give two numbers from 0 up, the second no smaller"),
    "mean": (number_between(), "it must be a number"),
    "std": ABOVE_ZERO,
    "warmup": (integer_from(0), "it must be a whole number, 0 for none"),
    "parts": (is_growing_pair, "give two whole numbers from 1 up, the second no smaller"),
}
"""Of the values in train.objective, whichever stage has them."""


BuildStage = Callable[..., Any]
"""stage(context, *, keywords of its objective)."""


def moved_key_error(key: str) -> str:
    """The error message for a dotted key that older configs had elsewhere; "" for any other."""
    for old, new in MOVED.items():
        if key == old or key.startswith(f"{old}."):
            return f"{key} is now {new}{key[len(old) :]}: use that"
    return ""


def objective_parameters(stage: BuildStage) -> dict[str, inspect.Parameter]:
    """The keywords of a stage's objective, by name."""
    parameters = inspect.signature(stage).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def objective_keys(stage: BuildStage) -> list[str]:
    """The same as keys of train.objective; a record (a NamedTuple) is a section of its own."""
    keys = []
    for name, parameter in objective_parameters(stage).items():
        fields = getattr(parameter.annotation, "_fields", None)
        keys += [f"{name}.{field}" for field in fields] if fields else [name]
    return keys


def objective_errors(config: ConfigDict, stage: BuildStage) -> Iterator[str]:
    """Keys in train.objective that the stage does not take, values out of their range, and keys of older configs."""
    yield from filter(None, (moved_key_error(f"train.{key}") for key in config.train))
    keys, values = objective_keys(stage), {}
    for name, value in config.train.get("objective", {}).items():
        fields = value.items() if isinstance(value, Mapping | ConfigDict) else ()
        values |= {f"{name}.{field}": item for field, item in fields} if fields else {name: value}
    for key, value in values.items():
        if key not in keys:
            yield f"train.objective has {key}: stage {config.train.stage} takes {', '.join(keys) or 'nothing there'}"
        elif not OBJECTIVE_RULES[key][0](value):
            yield f"train.objective.{key} is {value!r}: {OBJECTIVE_RULES[key][1]}"


def objective_keywords(config: ConfigDict, stage: BuildStage) -> dict[str, Any]:
    """The keywords to build the stage with; ValueError naming all that it does not take."""
    if errors := list(objective_errors(config, stage)):
        raise ValueError("; ".join(f"config.{error}" for error in errors))
    parameters = objective_parameters(stage)

    def keyword(name: str, value: Any) -> Any:
        if isinstance(value, Mapping | ConfigDict):
            return parameters[name].annotation(**value)
        return tuple(value) if isinstance(value, list) else value

    return {name: keyword(name, value) for name, value in config.train.get("objective", {}).items()}


def read_run_config(file: Path, stages: Mapping[str, BuildStage]) -> ConfigDict:
    """The config in a run's config.json; of an older one, with its objective's keywords where they stand now."""
    return ConfigDict(upgrade_config(json.loads(file.read_text()), stages))


def upgrade_config(config: Mapping[str, Any], stages: Mapping[str, BuildStage]) -> dict[str, Any]:
    """A config as JSON values with `train.objective` for the keys that older ones had elsewhere."""
    train = {key: value for key, value in config["train"].items() if not moved_key_error(f"train.{key}")}
    if "objective" not in train:
        old = {key: value for key, value in config["train"].items() if key not in train}
        values = {**old, **old.get("consistency", {}), **old.get("captioning", {})}
        taken = objective_parameters(stages[train["stage"]])
        train["objective"] = {key: value for key, value in values.items() if key in taken}
    return {**config, "train": train}
