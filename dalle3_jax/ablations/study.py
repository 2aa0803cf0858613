"""An ablation file, read and checked whole before anything is trained.

A study is `get_config()` of a file in configs/ablations: plain values only (docs/ablations.md lists the fields).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from dalle3_jax.ablations import measures
from dalle3_jax.checkpoints.release_record import read_record
from dalle3_jax.data.settings import resolve_settings
from dalle3_jax.diffusion import prediction, schedules
from dalle3_jax.diffusion.samplers import SAMPLERS
from dalle3_jax.diffusion.spacing import SPACINGS
from dalle3_jax.loading.locate import find_release
from dalle3_jax.models.build import build_models
from dalle3_jax.pipeline.album import slug
from dalle3_jax.pipeline.request import make_request, request_errors
from dalle3_jax.pipeline.setting_values import Capabilities
from dalle3_jax.stages.config import check_stage_config, plain_config
from dalle3_jax.stages.config_files import read_config_file
from dalle3_jax.stages.inputs import data_section
from dalle3_jax.stages.networks import resolve_checkpoint
from dalle3_jax.stages.table import STAGES

__all__ = ["SHIPPED", "Study", "captions_folder", "load_study", "stage_folder_name"]

FIELDS = {
    "title": "",
    "base": (),
    "release": "",
    "variants": {},
    "seeds": (0,),
    "measure": {},
    "axes": (),
    "captions": {},
    "groups": {},
    "budget": "",
}
CURVES = ("error", "captions")
"""The measures that are taken at several points of a training."""
SHIPPED = "demo"
"""What `init` and `release` call the model that ships in the package."""


@dataclass(frozen=True)
class Study:
    """A study: the stages that all runs share, and what differs; `runs` and `settings` are by variant."""

    name: str
    title: str
    shared: tuple[ConfigDict, ...]
    runs: dict[str, dict[int, ConfigDict]]  # the training of each seed; empty where a finished release is measured
    release: str
    settings: dict[str, dict[str, Any]]  # the overrides
    seeds: tuple[int, ...]
    measure: dict[str, dict[str, Any]]
    axes: tuple[str, ...]
    captions: dict[str, str]  # version that a captioner writes -> the shared stage of that captioner
    groups: dict[str, tuple[str, ...]]  # of the figure: title -> the variants that are compared; none: all together
    budget: str


def load_study(path: Path, workdir: Path) -> Study:
    """The study in a file; one ValueError with everything that would keep its runs from being made."""
    given = read_config_file(path)
    if errors := field_errors(given):
        raise ValueError(f"{path}: {'; '.join(errors)}")
    fields = {**FIELDS, **given}
    shared = tuple(stage_config(path, spec) for spec in fields["base"][:-1])
    runs: dict[str, dict[int, ConfigDict]] = {}
    for variant, values in fields["variants"].items() if fields["base"] else ():
        runs[variant] = {}
        for seed in fields["seeds"]:
            config, wrong = with_overrides(stage_config(path, fields["base"][-1]), variant, values)
            config.train.seed = seed  # of new parameters, data order and noise: variants are compared in pairs
            config.data.sidecars = tuple(str(captions_folder(workdir, version)) for version in fields["captions"])
            prepare_points(config, fields["measure"])
            runs[variant][seed] = config
            errors += wrong
    last = [run[fields["seeds"][0]] for run in runs.values()]
    for config in (*shared, *last):
        errors += stage_errors(config, workdir, [stage_folder_name(config) for config in shared])
    count = fields["measure"].get("prompts", {}).get("count")
    if count and not any(errors):  # a data section with mistakes has no world to ask
        errors += [
            error_message(lambda data=config.data: measures.world_prompts(plain_config(data), count)) for config in last
        ]
    if wrong := {config.train.stage for config in last} - {"base"}:
        errors.append(f"base ends with stage {wrong.pop()!r}: only one that draws, base, can be measured")
    errors += caption_errors(fields, shared)
    errors += [] if runs else release_errors(fields)
    if errors := list(filter(None, errors)):
        raise ValueError(f"{path}: {'; '.join(dict.fromkeys(errors))}")
    return Study(
        name=path.stem,
        shared=shared,
        runs=runs,
        settings=fields["variants"],
        **{
            key: fields[key] for key in ("title", "release", "seeds", "measure", "axes", "captions", "groups", "budget")
        },
    )


def stage_config(path: Path, spec: str) -> ConfigDict:
    """The config that "FILE.py:STAGE" names, FILE as seen from here or from a folder above the ablation's file."""
    file, _, name = spec.partition(":")
    places = [Path(file), *(parent / file for parent in path.resolve().parents)]
    return read_config_file(next((place for place in places if place.is_file()), places[0]), name or "base")


def field_errors(fields: ConfigDict) -> list[str]:
    """Error messages for the fields themselves."""
    errors = [f"unknown field {name!r}: the fields are {', '.join(FIELDS)}" for name in set(fields) - set(FIELDS)]
    if not fields.get("variants"):
        errors.append("no variants: name at least one")
    names = [slug(name) for name in fields.get("variants", {})]
    if len(set(names)) < len(names):
        errors.append(f"variants with names too much alike: {', '.join(names)}")
    seeds = fields.get("seeds", FIELDS["seeds"])
    if not seeds or len(set(seeds)) < len(seeds):
        errors.append(f"seeds {seeds}: at least one is needed, each once")
    if bool(fields.get("base")) == bool(fields.get("release")):
        errors.append("either base (what is trained) or release (what is only measured) must be given")
    measure = fields.get("measure", {})
    if fields.get("release") and set(measure) - {"prompts"}:
        errors.append("a finished release can be measured by prompts only")
    return errors + measures.measure_errors(measure)


def with_overrides(config: ConfigDict, variant: str, values: Mapping[str, Any]) -> tuple[ConfigDict, list[str]]:
    """The config with a variant's values {dotted key: value}, and what could not be set."""
    errors = []
    for key, value in values.items():
        *parents, leaf = key.split(".")
        try:
            section = config
            for parent in parents:
                section = section[parent]
            section[leaf] = value
        except (KeyError, AttributeError):
            errors.append(f"variant {variant!r}: unknown key {key!r}")
        except (TypeError, ValueError) as error:
            errors.append(f"variant {variant!r}: {key} cannot be {value!r} ({error})")
    return config, errors


def prepare_points(config: ConfigDict, measure: Mapping[str, Mapping[str, Any]]) -> None:
    """Checkpoints where curves are to be measured, and no previews."""
    config.sample.every = 0
    if points := [measure[name]["points"] for name in CURVES if name in measure]:
        config.train.keep = config.train.steps  # all of them
        config.train.save_every = max(1, -(-config.train.steps // max(points)))
        config.train.save_minutes = 1e9


def stage_folder_name(config: ConfigDict) -> str:
    """The name of a stage's folder in a workdir."""
    return config.train.name or config.train.stage


def captions_folder(workdir: Path, version: str) -> Path:
    """The folder where a study keeps the captions that its captioners write."""
    return workdir / "captions" / version


def caption_errors(fields: Mapping[str, Any], shared: Sequence[ConfigDict]) -> list[str]:
    """Captioners that are named and not trained, groups of unknown variants, two measures with other points."""
    captioners = [stage_folder_name(config) for config in shared if config.train.stage == "captioner"]
    scorers = fields["measure"].get("captions", {}).get("prompts", {})
    named = [*fields["captions"].values(), *scorers.values()]
    errors = [
        f"base has no captioner {name!r}: name its stage before the last" for name in named if name not in captioners
    ]
    grouped = [variant for names in fields["groups"].values() for variant in names]
    errors += [f"groups name {name!r}, which is no variant" for name in grouped if name not in fields["variants"]]
    if len({fields["measure"][name]["points"] for name in CURVES if name in fields["measure"]}) > 1:
        errors.append(f"the measures {' and '.join(CURVES)} want different points: give them the same")
    return errors


def stage_errors(config: ConfigDict, workdir: Path, earlier: list[str]) -> list[str]:
    """Error messages for a stage that cannot be trained once the stages in `earlier` are."""

    def diffusion() -> None:
        section = plain_config(config.model.diffusion)
        prediction.check_prediction(schedules.build_schedule(section["schedule"]), section["prediction"])

    checks: list[Callable[[], Any]] = [
        lambda: check_stage_config(config, STAGES),
        lambda: build_models(plain_config(config.model)),
        lambda: resolve_settings(data_section(config)),
        diffusion,
    ]
    given = [where for where in config.init.values() if where not in (SHIPPED, *earlier)]
    checks += [lambda where=where: find_release(resolve_checkpoint(workdir, where)) for where in given]
    return [message for message in map(error_message, checks) if message]


def error_message(action: Callable[[], Any]) -> str:
    """The message of the ValueError that an action raises, or nothing."""
    try:
        action()
    except ValueError as error:
        return str(error)
    return ""


def release_errors(fields: Mapping[str, Any]) -> list[str]:
    """Error messages for a finished release that cannot be measured with each variant's settings."""

    def prompts() -> None:
        trained = read_record(find_release(fields["release"]))["training"].get("config", {})
        measures.world_prompts(trained.get("data", {}), fields["measure"]["prompts"]["count"])

    errors = [error_message(prompts)]
    for variant, values in fields["variants"].items():
        wrong = [error_message(lambda values=values: check_sampling_settings(values))]
        wrong += [f"it has no {axis}, which axes names" for axis in fields["axes"] if axis not in values]
        errors += [f"variant {variant!r}: {message}" for message in wrong if message]
    return errors


def check_sampling_settings(values: Mapping[str, Any]) -> None:
    """ValueError for sampling settings that are none, or that no picture can be made with; seeds are the study's."""
    if "seed" in values:
        raise ValueError("seed is set by the study's seeds")
    request = make_request("", {"size": (128, 128), **values})
    if errors := request_errors(request, Capabilities(tuple(SAMPLERS), SPACINGS)):
        raise ValueError("; ".join(errors))
