"""The config of a run: read from a file and flags, checked before anything is computed, compared on resuming."""

import ast
import difflib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from dalle3_jax.checkpoints.release_record import DIFFUSION
from dalle3_jax.data.settings import DEFAULTS, resolve_settings
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.diffusion.weighting import WEIGHTINGS
from dalle3_jax.files import local_path
from dalle3_jax.models.build import COMPONENT_NETWORKS, build_models
from dalle3_jax.stages.config_files import find_config, read_config_file
from dalle3_jax.stages.objective import moved_key_error, objective_errors
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

__all__ = ["apply_overrides", "check_stage_config", "check_unchanged", "load_config", "plain_config"]

OPEN = ("init", "model", "data.captions", "data.fields", "data.part", "train.rates")
"""Sections with keys of the config's own."""

FIXED = ("data", "init", "init_digests", "model", "source", "train.accumulate", "train.b1", "train.b2")
FIXED += ("train.batch_size", "train.seed", "train.stage", "train.trainable")
FREE = ("data.threads", "data.prefetch", "data.max_bad")
"""What a run may go on with however it changed, though it stands within what is fixed: the batches stay the same."""

KINDS = ("linear", "mlp", "transformer", "resampler")


def load_config(argv: Sequence[str]) -> tuple[ConfigDict, Path] | None:
    """The config and the workdir that command line arguments name; None when they ask for help.

    `--config FILE[:STAGE] --workdir DIR [--config.train.steps=10 ...]`, FILE a path or the name of a config that the
    package carries. Raises ValueError naming what is wrong.
    """
    keys = (word.removeprefix("--config.").partition("=")[0] for word in argv if word.startswith("--config."))
    if errors := [error for key in keys if (error := moved_key_error(key))]:
        raise ValueError("; ".join(f"config.{error}" for error in errors))
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", None, "folder of the run; stages get subfolders", flag_values=values)
    flags.DEFINE_boolean("help", False, "show this help", short_name="h", flag_values=values)
    flags.DEFINE_string("config", None, "config file, FILE:STAGE", flag_values=values)
    overrides = [argument for argument in _join_values(argv) if argument.startswith("--config.")]
    try:
        rest = values(["train", *(argument for argument in _join_values(argv) if argument not in overrides)])[1:]
    except flags.Error as error:
        raise ValueError(" ".join(str(error).split())) from None
    if values.help:
        return None
    if rest:
        raise ValueError(f"unexpected arguments: {' '.join(rest)}")
    if missing := [f"--{name}" for name in ("config", "workdir") if not values[name].value]:
        raise ValueError(f"{' and '.join(missing)} must be given")
    file, _, stage = values.config.partition(":")
    config = read_config_file(find_config(file), *filter(None, [stage]))
    if not config.get("train", {}).get("stage"):
        raise ValueError(f"the config {values.config!r} names no train.stage")
    return apply_overrides(config, overrides), Path(local_path(values.workdir))


def _join_values(argv: Sequence[str]) -> list[str]:
    """The arguments, each `--config.KEY VALUE` as `--config.KEY=VALUE`."""
    joined, rest = [], list(argv)
    while rest:
        argument = rest.pop(0)
        separate = argument.startswith("--config.") and "=" not in argument and rest and not rest[0].startswith("--")
        joined.append(f"{argument}={rest.pop(0)}" if separate else argument)
    return joined


def apply_overrides(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """The config with the values of `--config.KEY=VALUE` arguments, each of the type that the key has.

    Sections that hold what a config names itself (init, networks, captions) take new keys; elsewhere an unknown key
    raises ValueError, as does a value of another type.
    """
    known = []
    for override in overrides:
        key, _, text = override.removeprefix("--config.").partition("=")
        if _has_key(config, key):
            known.append(override)
        elif key.startswith(tuple(f"{section}." for section in OPEN)):
            _add_key(config, key, text)
        else:
            near = difflib.get_close_matches(key, _leaves(plain_config(config)), n=1)
            raise ValueError(f"config has no key {key!r}{f': did you mean {near[0]!r}?' if near else ''}")
    values = flags.FlagValues()
    argv = ["train", *known]
    try:
        config_flags.DEFINE_config_dict("config", config, lock_config=True, flag_values=values, sys_argv=argv)
        values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    return values.config


def _has_key(config: Any, key: str) -> bool:
    first, _, rest = key.partition(".")
    name, bracket, _ = first.partition("[")
    if not isinstance(config, ConfigDict) or name not in config:
        return False
    return bool(bracket) or not rest or _has_key(config[name], rest)  # what is in a tuple is the flags' own matter


def _add_key(config: ConfigDict, key: str, text: str) -> None:
    """Set a key that is not there yet to what Python reads in the text, else to the text itself."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    *parents, leaf = key.split(".")
    section = config
    with config.unlocked():
        for parent in parents:
            if parent not in section:
                section[parent] = ConfigDict()
            section = section[parent]
        section[leaf] = value


def plain_config(value: Any) -> Any:
    """A config as JSON values."""
    if isinstance(value, ConfigDict | Mapping):
        return {key: plain_config(item) for key, item in value.items()}
    return [plain_config(item) for item in value] if isinstance(value, tuple | list) else value


def check_unchanged(path: Path, config: Mapping[str, Any]) -> None:
    """Raise ValueError when a run that began with the config in `path` cannot go on with this one, naming the keys."""
    if not path.exists():
        return
    try:
        old = _leaves(_with_data_defaults(json.loads(path.read_text())))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): restore it, or use another workdir") from None
    new = _leaves(_with_data_defaults(json.loads(json.dumps(config))))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key) and _is_fixed(key)]
    if changed:
        listed = "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in changed)
        raise ValueError(
            f"the run in {path.parent} cannot go on with a config that differs in {listed}. "
            "Use the old values, or another workdir (config.init can begin from this run's release)"
        )


def _with_data_defaults(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a run, of before a key of the data was there, with what it did without it."""
    return {**record, "data": {**plain_config(DEFAULTS), **record.get("data", {})}}


def _is_fixed(key: str) -> bool:
    return key not in FREE and any(key == prefix or key.startswith(f"{prefix}.") for prefix in FIXED)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return leaves


RULES: Mapping[str, ValueCheck] = {
    **{f"train.{key}": COUNT for key in ("steps", "batch_size", "accumulate", "log_every", "save_every", "keep")},
    "train.max_skipped": COUNT,
    "train.dtype": (one_of("float32", "bfloat16"), "use float32 or bfloat16"),
    "train.release_dtype": (
        one_of("float16", "bfloat16", "float32", "int8"),
        "use float16, bfloat16, float32 or int8",
    ),
    "train.name": (lambda value: isinstance(value, str) and "/" not in value, "it must be a plain folder name"),
    "train.learning_rate": ABOVE_ZERO,
    "train.warmup": NOT_NEGATIVE,
    "train.constant": SHARE,
    **{f"train.{key}": BELOW_ONE for key in ("b1", "b2", "ema")},
    "train.weight_decay": NOT_NEGATIVE,
    "train.clip": ABOVE_ZERO,
    "train.save_minutes": ABOVE_ZERO,
    "train.hang_minutes": NOT_NEGATIVE,
    "mesh.slices": COUNT,
    "sample.every": (integer_from(0), "it must be a whole number, 0 for none"),
    **{f"sample.{key}": COUNT for key in ("count", "steps", "decoder_steps", "suite_count")},
    "sample.sampler": (one_of(*SAMPLERS), f"use {', '.join(SAMPLERS)}"),
    "sample.guidance_scale": NOT_NEGATIVE,
    "sample.temperature": NOT_NEGATIVE,
}


def check_stage_config(config: ConfigDict, stages: Mapping[str, Callable[..., Any]]) -> None:
    """Raise one ValueError with everything that no run could use; `stages` are the functions that build them."""
    errors = [error for part in (value_errors, data_errors, network_errors, diffusion_errors) for error in part(config)]
    if config.train.stage in stages:
        errors += objective_errors(config, stages[config.train.stage])
    else:
        errors.insert(0, f"train.stage is {config.train.stage!r}: use {', '.join(stages)}")
    if errors:
        raise ValueError("; ".join(f"config.{error}" for error in errors))


def value_errors(config: ConfigDict) -> Iterator[str]:
    """Single values out of their range."""
    for key, (suits, remedy) in RULES.items():
        value: Any = config
        for name in key.split("."):
            value = value[name]
        if not suits(value):
            yield f"{key} is {value!r}: {remedy}"
    for component, rate in config.train.rates.items():
        if not number_between(0.0)(rate):
            yield f"train.rates.{component} is {rate!r}: it must be a number of at least 0"
    if unknown := sorted(set(config.train.rates) - set(config.train.trainable)):
        yield f"train.rates names {', '.join(unknown)}, which train.trainable {tuple(config.train.trainable)} lacks"
    if not config.train.trainable:
        yield f"train.trainable is empty: name what learns, of {', '.join(COMPONENT_NETWORKS)}"
    if unknown := sorted(set(config.train.trainable) - set(config.model) - set(config.init)):
        yield f"train.trainable names {', '.join(unknown)}: give them sections in config.model or config.init"


def data_errors(config: ConfigDict) -> Iterator[str]:
    """Error messages for what the pipeline refuses."""
    if not config.data.source:
        yield "data.source is empty: give scenes, or a folder of tars, of pictures, of TFDS or with a metadata.jsonl"
    section = {key: value for key, value in plain_config(config.data).items() if key != "tokenizer"}
    try:
        resolve_settings(section)
    except ValueError as error:
        yield str(error)


def network_errors(config: ConfigDict) -> Iterator[str]:
    """Fields that no network has, and widths that do not divide."""
    sections = plain_config(config.model)
    known = {*COMPONENT_NETWORKS, "diffusion"}
    if unknown := sorted(set(sections) - known):
        yield f"model has {', '.join(unknown)}: it may have {', '.join(sorted(known))}"
    if unknown := sorted(set(config.init) - set(COMPONENT_NETWORKS)):
        yield f"init has {', '.join(unknown)}: it may have {', '.join(COMPONENT_NETWORKS)}"
    if (kind := sections.get("xfnet", {}).get("kind", KINDS[0])) not in KINDS:
        yield f"model.xfnet.kind is {kind!r}: use {', '.join(KINDS)}"
        return
    try:
        modules = build_models({name: fields for name, fields in sections.items() if name in COMPONENT_NETWORKS})
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
    for component, module in modules.items():
        if (grid := getattr(module, "grid", None)) is not None and not is_grid(grid):
            yield f"model.{component}.grid is {grid!r}: give its rows and columns, two whole numbers of at least 1"
    if (xfnet := modules.get("xfnet")) and xfnet.width % xfnet.heads:
        yield f"model.xfnet.width is {xfnet.width}: it must be a multiple of its {xfnet.heads} heads"


def is_grid(value: Any) -> bool:
    """Whether it is a number of rows and one of columns."""
    return isinstance(value, tuple) and len(value) == 2 and all(map(integer_from(1), value))


def diffusion_errors(config: ConfigDict) -> Iterator[str]:
    """Unknown keys, and a schedule, a prediction or a weighting that there is not, or that do not go together."""
    section = plain_config(config.model.diffusion)
    if unknown := section.keys() - {*DIFFUSION, "weighting"}:
        yield f"model.diffusion has {', '.join(sorted(unknown))}: it has {', '.join((*DIFFUSION, 'weighting'))}"
    try:
        schedule = schedules.build_schedule(section["schedule"])
        prediction.check_prediction(schedule, section["prediction"])
    except (ValueError, TypeError, KeyError) as error:
        yield f"model.diffusion: {error}"
    if section["weighting"] not in WEIGHTINGS:
        yield f"model.diffusion.weighting is {section['weighting']!r}: use {', '.join(WEIGHTINGS)}"
