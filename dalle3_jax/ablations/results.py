"""Records of the measured runs of an ablation: the measures, all that decided them, and the machine."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from dalle3_jax.ablations.study import Study, stage_folder_name
from dalle3_jax.checkpoints.release_record import read_record
from dalle3_jax.loading.locate import find_release
from dalle3_jax.pipeline.album import slug
from dalle3_jax.reading import scene_reader
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.networks import resolve_checkpoint
from dalle3_jax.stages.objective import upgrade_config
from dalle3_jax.stages.table import STAGES
from dalle3_jax.training import logging

__all__ = ["check_results", "machine_info", "missing_runs", "result_path", "run_settings", "write_result"]


def result_path(workdir: Path, variant: str, seed: int) -> Path:
    """The path where the measures of one run are kept."""
    return workdir / "results" / f"{slug(variant)}-{seed}.json"


def write_result(file: Path, measured: Mapping[str, Any], settings_used: Mapping[str, Any]) -> None:
    """Writes what was measured with these settings, on this machine."""
    logging.write_json(file, {**measured, "machine": machine_info(), "settings": settings_used})


def machine_info() -> dict[str, Any]:
    """The device that computes, and how many cores of the host this process may use."""
    return {"device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0))}


def run_settings(study: Study, workdir: Path, variant: str, seed: int) -> dict[str, Any]:
    """All that decides a run's result, as JSON gives it back: configs, overrides, measures, digests of releases."""
    configs = [*study.shared, study.runs[variant][seed]] if study.runs else []
    given = {where for config in configs for where in config.init.values()} - {
        stage_folder_name(c) for c in study.shared
    }
    folders = {where: find_release(resolve_checkpoint(workdir, where)) for where in sorted(given)}
    folders |= {} if study.runs else {study.release: find_release(study.release)}
    settings = {
        "configs": plain_config(configs),
        "overrides": study.settings[variant],
        "measure": {name: value for name, value in study.measure.items() if name != "unet_time"},
        "releases": {where: read_record(folder)["sha256"] for where, folder in folders.items()},
        "reader": read_record(scene_reader.SHIPPED)["sha256"] if {"prompts", "captions"} & {*study.measure} else "",
    }
    return json.loads(json.dumps(settings).replace(f'"{workdir}/', '"'))  # a workdir may be moved


def read_settings(file: Path) -> dict[str, Any]:
    """The settings that a result was made with; the keys of older configs where they stand now."""
    settings = json.loads(file.read_text())["settings"]
    return settings | {"configs": [upgrade_config(config, STAGES) for config in settings.get("configs", ())]}


def missing_runs(study: Study, workdir: Path) -> list[str]:
    """The runs that have no result yet."""
    pairs = ((variant, seed) for variant in study.settings for seed in study.seeds)
    return [f"{variant}, seed {seed}" for variant, seed in pairs if not result_path(workdir, variant, seed).exists()]


def check_results(study: Study, workdir: Path) -> None:
    """ValueError naming the results in this workdir that were made with other settings or releases."""
    other = [
        str(file)
        for variant in study.settings
        for seed in study.seeds
        if (file := result_path(workdir, variant, seed)).exists()
        and read_settings(file) != run_settings(study, workdir, variant, seed)
    ]
    if other:
        what = "made with other settings, or with another release or reader"
        raise ValueError(f"{what}: {', '.join(other)}; remove them, or use another --workdir")
