"""What is kept of each measured run of an ablation: the measures, all that decided them, and the machine."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from dalle3_jax.ablations.study import Study, folder_of
from dalle3_jax.checkpoints.records import read_record
from dalle3_jax.loading.locate import find_release
from dalle3_jax.pipeline.album import slug
from dalle3_jax.reading import scene_reader
from dalle3_jax.stages.config import plain
from dalle3_jax.stages.networks import found_checkpoint
from dalle3_jax.training import logging

__all__ = ["check", "keep", "lacking", "machine", "path", "settings"]


def path(workdir: Path, variant: str, seed: int) -> Path:
    """Where the measures of one run are kept."""
    return workdir / "results" / f"{slug(variant)}-{seed}.json"


def keep(file: Path, made: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Writes what was measured with these settings, on this machine."""
    logging.write_json(file, {**made, "machine": machine(), "settings": given})


def machine() -> dict[str, Any]:
    """The device that computes, and how many cores of the host this process may use."""
    return {"device": jax.devices()[0].device_kind, "cores": len(os.sched_getaffinity(0))}


def settings(study: Study, workdir: Path, variant: str, seed: int) -> dict[str, Any]:
    """All that decides a run's result, as JSON gives it back: configs, overrides, measures, digests of releases."""
    configs = [*study.shared, study.runs[variant][seed]] if study.runs else []
    given = {where for config in configs for where in config.init.values()} - {folder_of(c) for c in study.shared}
    folders = {where: find_release(found_checkpoint(workdir, where)) for where in sorted(given)}
    folders |= {} if study.runs else {study.release: find_release(study.release)}
    found = {
        "configs": plain(configs),
        "overrides": study.settings[variant],
        "measure": {name: value for name, value in study.measure.items() if name != "unet_time"},
        "releases": {where: read_record(folder)["sha256"] for where, folder in folders.items()},
        "reader": read_record(scene_reader.SHIPPED)["sha256"] if {"prompts", "captions"} & {*study.measure} else "",
    }
    return json.loads(json.dumps(found).replace(f'"{workdir}/', '"'))  # a workdir may be moved


def lacking(study: Study, workdir: Path) -> list[str]:
    """The runs that have no result yet."""
    pairs = ((variant, seed) for variant in study.settings for seed in study.seeds)
    return [f"{variant}, seed {seed}" for variant, seed in pairs if not path(workdir, variant, seed).exists()]


def check(study: Study, workdir: Path) -> None:
    """ValueError naming the results in this workdir that were made with other settings or releases."""
    other = [
        str(file)
        for variant in study.settings
        for seed in study.seeds
        if (file := path(workdir, variant, seed)).exists()
        and json.loads(file.read_text())["settings"] != settings(study, workdir, variant, seed)
    ]
    if other:
        what = "made with other settings, or with another release or reader"
        raise ValueError(f"{what}: {', '.join(other)}; remove them, or use another --workdir")
