"""The runs of an ablation: trained, measured, and brought together as a table and a plot."""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from dalle3_jax.ablations import caption_curves, measures, results
from dalle3_jax.ablations import study as studies
from dalle3_jax.ablations.caption_study import CaptionPrompts, write_captions
from dalle3_jax.ablations.study import CURVES, SHIPPED, Study, stage_folder_name
from dalle3_jax.ablations.summary import RunResult, ablation_figure, ablation_markdown
from dalle3_jax.checkpoints.training import finished_steps, verify_step
from dalle3_jax.evaluation import plots
from dalle3_jax.files import write_whole
from dalle3_jax.loading.locate import DEMO
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.album import slug
from dalle3_jax.runtime.distributed import enable_compilation_cache, lock_folder
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.config_files import find_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.stages.train import prepare_run, train_stage
from dalle3_jax.training import sharding


def run_ablation(config: str, workdir: Path, out: str | None = None) -> int:
    """Trains and measures what is not yet, and writes the report into the workdir and `out`; returns the exit code."""
    if not plots.has_matplotlib():
        raise ValueError('the plot at the end needs matplotlib: pip install "dalle3_jax[eval]"')
    study = studies.load_study(find_config(config, "ablations"), workdir)
    results.check_results(study, workdir)
    enable_compilation_cache()
    if code := run_study(study, workdir):
        return code
    if lacking := results.missing_runs(study, workdir):
        print(f"other processes are still at {', '.join(lacking)}; the last one to end writes the table")
        return 0
    return write_ablation_report(study, workdir, [workdir, *map(Path, filter(None, [out]))])


def run_study(study: Study, workdir: Path) -> int:
    """Trains and measures what results/ lacks; returns the exit code of a training that ended early, else 0."""
    (workdir / "latents").mkdir(parents=True, exist_ok=True)
    with lock_folder(workdir / "shared"):
        replace_symlink(workdir / SHIPPED, DEMO)
        for config in study.shared:
            if code := train_stage(config, workdir):
                return code
        for version, captioner in study.captions.items():
            config = next(iter(next(iter(study.runs.values())).values()))
            write_captions(config, workdir / captioner, version, studies.captions_folder(workdir, version))
    for seed in study.seeds:
        for variant in study.settings:
            if code := run_variant(study, workdir, variant, seed):
                return code
    return 0


def run_variant(study: Study, workdir: Path, variant: str, seed: int) -> int:
    """Trains and measures one run, unless that is done or another process is at it."""
    file, folder = results.result_path(workdir, variant, seed), workdir / "runs" / slug(variant) / str(seed)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(lock_folder(folder))
        except ValueError as error:
            print(f"{study.name}: {variant}, seed {seed} is left to another process ({error})", file=sys.stderr)
            return 0
        if file.exists():
            return 0
        prepare_run_folder(study, workdir, variant, seed)
        given = results.run_settings(study, workdir, variant, seed)
        print(f"{study.name}: {variant}, seed {seed}", file=sys.stderr)
        if study.runs and (code := train_stage(study.runs[variant][seed], folder)):
            return code
        if study.runs:
            made = measure_run(study, workdir, variant, seed, folder)
        else:
            made = measure_release(study, variant, seed)
        results.write_result(file, made, given)
    return 0


def prepare_run_folder(study: Study, workdir: Path, variant: str, seed: int) -> Path:
    """The workdir of one run, where the shared stages and latents appear as if they were its own."""
    folder = workdir / "runs" / slug(variant) / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SHIPPED, "latents", *map(stage_folder_name, study.shared)):
        replace_symlink(folder / name, Path("../../..") / name)
    return folder


def replace_symlink(path: Path, target: Path) -> None:
    """A symbolic link, made anew: the package may have moved since."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def measure_run(study: Study, workdir: Path, variant: str, seed: int, folder: Path) -> dict[str, Any]:
    """Errors and followed captions at the saved steps, prompts on the release, and the seconds of the training."""
    config, asked = study.runs[variant][seed], study.measure
    values: dict[str, Any] = {
        "curve": {},
        "rates": {},
        "seconds": training_seconds(folder / config.train.stage, config),
    }
    if {*CURVES} & {*asked}:
        values |= measure_curves(study, config, workdir, folder)
    if "prompts" in asked:
        pipeline = Pipeline.load(folder / config.train.stage / "release")
        values["rates"] = measures.prompt_shares(pipeline, seed=0, **asked["prompts"])
    return values


def measure_release(study: Study, variant: str, seed: int) -> dict[str, Any]:
    """Prompts on the finished release with a variant's settings; the seed is that of prompts and pictures."""
    pipeline = Pipeline.load(study.release)
    rates = measures.prompt_shares(pipeline, seed=seed, **study.measure["prompts"], **study.settings[variant])
    return {"curve": {}, "rates": rates, "seconds": 0.0}


def measure_curves(study: Study, config: ConfigDict, workdir: Path, folder: Path) -> dict[str, Any]:
    """Measure -> step -> what is measured of the averaged weights of each saved step."""
    values: dict[str, Any] = {"curve": {}}
    error, captions, rows = study.measure.get("error"), study.measure.get("captions"), None
    asked: Any = captions and CaptionPrompts.of(plain_config(config.data), workdir, **captions)
    if asked:
        values |= {"captions": {}, "ceilings": asked.ceilings(tuple(config.data.size))}
    for step, pipeline in saved_pipelines(config, folder):
        if error:
            rows = rows or measures.held_out_batch(pipeline, config, error["records"])
            values["curve"][str(step)] = measures.denoising_errors(pipeline, rows, error["times"])
        if asked:
            values["captions"][str(step)] = asked.score(pipeline)
    return values


def saved_pipelines(config: ConfigDict, workdir: Path) -> Iterator[tuple[int, Pipeline]]:
    """The pipeline of the averaged weights at each point of a training."""
    folder = workdir / config.train.stage
    mesh = sharding.make_mesh(plain_config(config.mesh))
    with jax.set_mesh(mesh), ocp.StandardCheckpointer() as orbax:
        context = Context(config, workdir, load_stage_networks(config, workdir, mesh))
        stage = build_stage(context)
        run, state, _ = prepare_run(context, folder, mesh, stage)
        run.checkpointer.close()
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
        every = config.train.save_every  # a run that was stopped has saved elsewhere too
        for step in (
            one for one in finished_steps(folder / "checkpoints") if one % every == 0 or one == config.train.steps
        ):
            place = folder / "checkpoints" / f"{step:08d}"
            if wrong := verify_step(place):
                raise ValueError(f"{place}: {'; '.join(wrong)}: remove {folder}, and it is trained again")
            yield step, Pipeline(stage.release(orbax.restore(place.absolute() / "state", shapes).ema, step))


def training_seconds(folder: Path, config: ConfigDict) -> float:
    """The seconds that the steps of a run took, compilation and stops left out."""
    total, before = 0.0, 0
    for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
        if "images_per_second" not in line:  # figures of a preview
            continue
        if line["images_per_second"]:  # 0 where nothing but the compilation was timed
            total += (line["step"] - before) * config.train.batch_size / line["images_per_second"]
        before = line["step"]
    return total


def write_ablation_report(study: Study, workdir: Path, folders: Sequence[Path]) -> int:
    """Writes table and plot of all results into every folder, and prints the table."""
    unet = unet_seconds_by_variant(study, workdir) if "unet_time" in study.measure else {}
    results.check_results(
        study, workdir
    )  # a release that was replaced meanwhile is none that the others were made with
    run_results, machines = [], []
    for variant in study.settings:
        for seed in study.seeds:
            made = json.loads(results.result_path(workdir, variant, seed).read_text())
            errors = by_step(made["curve"])
            unets, captions = unet.get(variant, {}), by_step(made.get("captions", {}))
            measured = errors, made["rates"], made["seconds"], unets, captions, made.get("ceilings", {})
            run_results.append(RunResult(variant, seed, *measured))
            machines.append(made["machine"])
    times = tuple(study.measure.get("error", {}).get("times", ()))
    places = {name: tuple(values[axis] for axis in study.axes) for name, values in study.settings.items()}
    given = budget_text(study, machines)
    table = ablation_markdown(study.title, given, run_results, times)
    if "captions" in study.measure:
        plot = caption_curves.caption_curves_figure(study.title, given, run_results, study.groups)
    else:
        plot = ablation_figure(study.title, given, run_results, times, study.axes, places)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{study.name}.md", table.encode())
        write_whole(folder / f"{study.name}.png", plot)
    print(f"{table}\nwrote {', '.join(f'{folder}/{study.name}.md and .png' for folder in folders)}")
    return 0


def by_step(curve: Mapping[str, Any]) -> dict[int, Any]:
    """Measures along a training by step, in order; JSON has the steps as texts, in another order."""
    return dict(sorted((int(step), values) for step, values in curve.items()))


def unet_seconds_by_variant(study: Study, workdir: Path) -> dict[str, dict[int, float]]:
    """Variant -> caption length -> seconds of one evaluation of its UNet; kept like the other results."""
    file, asked, seed = workdir / "results" / "unet_time.json", study.measure["unet_time"], study.seeds[0]
    runs = {name: results.run_settings(study, workdir, name, seed) for name in study.runs}
    given = json.loads(json.dumps({"runs": runs, **asked}))
    made: Mapping[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if made.get("settings") != given:
        pipelines = {
            name: Pipeline.load(prepare_run_folder(study, workdir, name, seed) / seeds[seed].train.stage / "release")
            for name, seeds in study.runs.items()
        }
        results.write_result(file, {"seconds": measures.unet_seconds(pipelines, **asked)}, given)
        made = json.loads(file.read_text())
    return {name: {int(length): value for length, value in row.items()} for name, row in made["seconds"].items()}


def budget_text(study: Study, machines: Sequence[Mapping[str, Any]]) -> str:
    """The steps and images of a run, and the machines, in words."""
    names = [
        f"{one['cores']} CPU core{'s' * (one['cores'] > 1)}" if one["device"] == "cpu" else one["device"]
        for one in machines
    ]
    where = " or ".join(dict.fromkeys(names))
    if study.runs:
        c = next(iter(next(iter(study.runs.values())).values())).train
        amount = f"{c.steps:,} steps of {c.batch_size} pictures ({c.steps * c.batch_size:,}) a run"
    else:
        amount = f"{study.measure['prompts']['count']} prompts a point"
    return f"{amount}, on {where}. {study.budget}".strip(" .") + "."
