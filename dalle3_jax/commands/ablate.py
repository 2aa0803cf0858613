"""`dalle3-jax ablate`: trains and measures what an ablation compares, and leaves its table and plot."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.training import steps, verify
from dalle3_jax.commands import measures, studies
from dalle3_jax.commands.album import slug
from dalle3_jax.commands.config import plain
from dalle3_jax.commands.runtime import enable_compilation_cache, exclusive
from dalle3_jax.commands.sample import Parser
from dalle3_jax.commands.stages import STAGES
from dalle3_jax.commands.studies import SHIPPED, Study
from dalle3_jax.commands.systems import load_system
from dalle3_jax.commands.train import prepare, train
from dalle3_jax.evaluation.ablations import Result, figure, markdown
from dalle3_jax.pictures import write_whole
from dalle3_jax.pipeline import DEMO, Pipeline
from dalle3_jax.training import logging, sharding

EXAMPLES = """examples:
  dalle3-jax ablate configs/ablations/prediction.py --workdir runs/prediction
  dalle3-jax ablate configs/ablations/sampling.py --workdir runs/sampling --out docs/images

Run the same command again to go on: what is measured is not trained again. Exit codes: 0 done; 2 bad input; 1 failed;
75 stopped by SIGTERM or SIGINT with everything saved. W holds the stages that all runs share, runs/VARIANT/SEED/, a
JSON for each measured run in results/, and NAME.md and NAME.png."""


def main(argv: Sequence[str]) -> int:
    """Run the command; bad input gives one line and status 2 before anything is trained."""
    parser = Parser(
        "dalle3-jax ablate",
        description="Train and measure the variants of an ablation; write a table and a plot.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", help="the ablation, a file like configs/ablations/prediction.py")
    parser.add_argument("--workdir", required=True, metavar="W", help="folder of the runs")
    parser.add_argument("--out", metavar="DIR", help="folder for another copy of the table and the plot")
    arguments = parser.parse_args(argv)
    workdir = Path(arguments.workdir).absolute()
    try:
        study = studies.load(Path(arguments.config), workdir)
        with exclusive(workdir):
            check_results(study, workdir)
            enable_compilation_cache()
            code = fill(study, workdir)
            return code or publish(study, workdir, [workdir, *map(Path, filter(None, [arguments.out]))])
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, OSError) as error:
        print(f"error: {error}; the same command goes on from what is saved", file=sys.stderr)
        return 1


def fill(study: Study, workdir: Path) -> int:
    """Trains and measures what results/ lacks; returns the exit code of a training that ended early, else 0."""
    link(workdir / SHIPPED, DEMO)
    (workdir / "latents").mkdir(exist_ok=True)
    for config in study.shared:
        if code := train(config, workdir):
            return code
    for variant in study.settings:
        for seed in study.seeds:
            path = result_path(workdir, variant, seed)
            if path.exists():
                continue
            print(f"{study.name}: {variant}, seed {seed}", file=sys.stderr)
            folder = run_folder(study, workdir, variant, seed)
            if study.runs and (code := train(study.runs[variant][seed], folder)):
                return code
            made = measure_run(study, variant, seed, folder) if study.runs else measure_release(study, variant, seed)
            logging.write_json(path, made | {"settings": settings(study, variant, seed)})
    return 0


def run_folder(study: Study, workdir: Path, variant: str, seed: int) -> Path:
    """The workdir of one run, where the shared stages and latents appear as if they were its own."""
    folder = workdir / "runs" / slug(variant) / str(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (SHIPPED, "latents", *(config.train.stage for config in study.shared)):
        link(folder / name, Path("../../..") / name)
    return folder


def link(path: Path, target: Path) -> None:
    """A symbolic link, made anew: the package may have moved since."""
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def result_path(workdir: Path, variant: str, seed: int) -> Path:
    """Where the measures of one run are kept."""
    return workdir / "results" / f"{slug(variant)}-{seed}.json"


def settings(study: Study, variant: str, seed: int) -> dict[str, Any]:
    """All that decides a run's result, as JSON gives it back."""
    measured = {name: value for name, value in study.measure.items() if name != "unet_time"}
    trained = plain(study.runs[variant][seed]) if study.runs else study.release
    return json.loads(json.dumps({"run": trained, "overrides": study.settings[variant], "measure": measured}))


def check_results(study: Study, workdir: Path) -> None:
    """ValueError naming the results in this workdir that were made with other settings."""
    paths = {(variant, seed): result_path(workdir, variant, seed) for variant in study.settings for seed in study.seeds}
    other = [
        str(path)
        for (variant, seed), path in paths.items()
        if path.exists() and json.loads(path.read_text())["settings"] != settings(study, variant, seed)
    ]
    if other:
        raise ValueError(f"made with other settings: {', '.join(other)}; remove them, or use another --workdir")


def measure_run(study: Study, variant: str, seed: int, folder: Path) -> dict[str, Any]:
    """Errors at the saved steps, prompts on the release, and the seconds that the training took."""
    config, asked = study.runs[variant][seed], study.measure
    found: dict[str, Any] = {"curve": {}, "rates": {}, "seconds": seconds(folder / config.train.stage, config)}
    if "error" in asked:
        found["curve"] = curve(config, folder, **asked["error"])
    if "prompts" in asked:
        pipeline = Pipeline.load(folder / config.train.stage / "release")
        found["rates"] = measures.follow(pipeline, seed=0, **asked["prompts"])
    return found


def measure_release(study: Study, variant: str, seed: int) -> dict[str, Any]:
    """Prompts on the finished release with a variant's settings; the seed is that of prompts and pictures."""
    pipeline = Pipeline.load(study.release)
    rates = measures.follow(pipeline, seed=seed, **study.measure["prompts"], **study.settings[variant])
    return {"curve": {}, "rates": rates, "seconds": 0.0}


def curve(
    config: ConfigDict, workdir: Path, times: Sequence[float], records: int, points: int
) -> dict[str, list[float]]:
    """Step -> errors at `times`, for the averaged weights of each saved step."""
    found, rows, folder = {}, None, workdir / config.train.stage
    mesh = sharding.make_mesh(plain(config.mesh))
    with jax.set_mesh(mesh), ocp.StandardCheckpointer() as orbax:
        system = load_system(config, workdir, mesh)
        stage = STAGES[config.train.stage](config, workdir, system)
        run, state, _ = prepare(config, folder, mesh, system, stage)
        run.checkpointer.close()
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
        every = config.train.save_every  # a run that was stopped has saved elsewhere too
        for step in (one for one in steps(folder / "checkpoints") if one % every == 0 or one == config.train.steps):
            saved = folder / "checkpoints" / f"{step:08d}"
            if wrong := verify(saved):
                raise ValueError(f"{saved}: {'; '.join(wrong)}: remove {folder}, and it is trained again")
            pipeline = Pipeline(stage.release(orbax.restore(saved.absolute() / "state", shapes).ema, step))
            rows = rows or measures.held_out(pipeline, config, records)
            found[str(step)] = measures.errors(pipeline, rows, times)
    return found


def seconds(folder: Path, config: ConfigDict) -> float:
    """How long the steps of a run took, compilation and stops left out."""
    total, before = 0.0, 0
    for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()):
        if "images_per_second" not in line:  # figures of a preview
            continue
        if line["images_per_second"]:  # 0 where nothing but the compilation was timed
            total += (line["step"] - before) * config.train.batch_size / line["images_per_second"]
        before = line["step"]
    return total


def publish(study: Study, workdir: Path, folders: Sequence[Path]) -> int:
    """Writes table and plot of all results into every folder, and prints the table."""
    unet = unet_times(study, workdir) if "unet_time" in study.measure else {}
    results = []
    for variant in study.settings:
        for seed in study.seeds:
            made = json.loads(result_path(workdir, variant, seed).read_text())
            errors = {int(step): values for step, values in made["curve"].items()}
            results.append(Result(variant, seed, errors, made["rates"], made["seconds"], unet.get(variant, {})))
    times = tuple(study.measure.get("error", {}).get("times", ()))
    places = {name: tuple(values[axis] for axis in study.axes) for name, values in study.settings.items()}
    table = markdown(study.title, budget(study), results, times)
    plot = figure(study.title, budget(study), results, times, study.axes, places)
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / f"{study.name}.md", table.encode())
        write_whole(folder / f"{study.name}.png", plot)
    print(f"{table}\nwrote {', '.join(f'{folder}/{study.name}.md and .png' for folder in folders)}")
    return 0


def unet_times(study: Study, workdir: Path) -> dict[str, dict[int, float]]:
    """Variant -> caption length -> seconds of one evaluation of its UNet; kept like the other results."""
    path, asked = workdir / "results" / "unet_time.json", study.measure["unet_time"]
    key = json.loads(json.dumps({"variants": list(study.runs), **asked}))
    made: Mapping[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if made.get("settings") != key:
        seed = study.seeds[0]
        pipelines = {
            name: Pipeline.load(run_folder(study, workdir, name, seed) / seeds[seed].train.stage / "release")
            for name, seeds in study.runs.items()
        }
        seconds = measures.unet_seconds(pipelines, **asked)
        logging.write_json(path, {"settings": key, "seconds": seconds})
        made = json.loads(path.read_text())
    return {name: {int(length): value for length, value in row.items()} for name, row in made["seconds"].items()}


def budget(study: Study) -> str:
    """What each run was given, in words."""
    cores = (
        f"{len(os.sched_getaffinity(0))} CPU cores" if jax.default_backend() == "cpu" else jax.devices()[0].device_kind
    )
    if not study.runs:
        return f"{study.budget} ({study.measure['prompts']['count']} prompts a point, on {cores})".strip()
    c = next(iter(next(iter(study.runs.values())).values())).train
    amount = f"{c.steps:,} steps of {c.batch_size} pictures ({c.steps * c.batch_size:,}) a run, on {cores}"
    return f"{amount}. {study.budget}".strip(" .") + "."
