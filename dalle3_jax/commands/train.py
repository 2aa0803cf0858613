"""Train one stage of a config, or go on where it stopped.

    python train.py --config configs/demo.py:vae --workdir W [--config.train.steps=1000 ...]

Files go to W/STAGE/: checkpoints/, metrics.jsonl, tensorboard/, samples/, config.json, versions.json and, at the end,
release/. Run the same command again to go on. Exit codes: 0 done; 2 bad input; 1 failed; 75 stopped by SIGTERM or
SIGINT with everything saved.
"""

import contextlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import save_release
from dalle3_jax.checkpoints.training import Checkpointer, steps
from dalle3_jax.commands.config import check, check_unchanged, load, plain
from dalle3_jax.commands.runtime import enable_compilation_cache, exclusive
from dalle3_jax.commands.stages import STAGES, Stage
from dalle3_jax.commands.systems import System, load_system
from dalle3_jax.training import logging, optimizer, sharding
from dalle3_jax.training.progress import Progress
from dalle3_jax.training.signals import EXIT_SAVED, stop_requests
from dalle3_jax.training.state import TrainState, create, state_shardings, with_shardings
from dalle3_jax.training.step import Step, compile_step, make_step
from dalle3_jax.typing import Params

__all__ = ["main", "train"]


class Run(NamedTuple):
    """What stays the same from step to step."""

    config: ConfigDict
    folder: Path
    mesh: Mesh
    stage: Stage
    frozen: Params
    schedule: optax.Schedule
    step_fn: Step
    checkpointer: Checkpointer
    position: Mapping[str, Any] | None  # of the data iterator, when restored


def main(argv: list[str]) -> int:
    """The command: reads the config and trains; errors are one line."""
    try:
        loaded = load(argv)
        if loaded is None:
            print(__doc__)
            return 0
        return train(*loaded)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (FloatingPointError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def train(config: ConfigDict, workdir: Path) -> int:
    """Train the stage config.train.stage in workdir to its last step; returns the exit code."""
    check(config, STAGES)
    mesh = sharding.make_mesh(plain(config.mesh))
    sharding.check_batch(mesh, config.train.batch_size, config.train.accumulate)
    enable_compilation_cache()

    folder = workdir / config.train.stage
    with jax.set_mesh(mesh), exclusive(folder):
        system = load_system(config, workdir, mesh)
        record_run(config, folder, system)
        stage = STAGES[config.train.stage](config, workdir, system)
        run, state, first = prepare(config, folder, mesh, system, stage)
        with contextlib.closing(run.checkpointer):
            state, stopped = loop(run, state, first)
        if stopped:
            print(f"saved at step {int(state.step)}; run the same command again to go on", file=sys.stderr)
            return EXIT_SAVED
        if first < config.train.steps or not (folder / "release" / "model.json").exists():
            release = stage.release(state.ema, config.train.steps)
            if jax.process_index() == 0:
                save_release(folder / "release", release, config.train.release_dtype)
    return 0


def record_run(config: ConfigDict, folder: Path, system: System) -> None:
    """Refuse a config that this folder's run cannot go on with; write it and the versions beside the checkpoints."""
    record = plain(config)
    record["init_digests"] = {name: release.digest for name, release in system.releases.items()}
    if steps(folder / "checkpoints"):
        check_unchanged(folder / "config.json", record)
    if jax.process_index() == 0:
        logging.write_json(folder / "config.json", record)
        logging.write_json(folder / "versions.json", logging.versions())


def prepare(config: ConfigDict, folder: Path, mesh: Mesh, system: System, stage: Stage) -> tuple[Run, TrainState, int]:
    """The run, its state (new, or restored and the data's position with it), and the steps already taken."""
    c = config.train
    boxed, key = system.boxed(), jax.random.key(c.seed)
    schedule = optimizer.learning_rate(c.learning_rate, c.steps, c.warmup, c.constant)
    if unknown := sorted(set(c.rates) - set(c.trainable)):
        raise ValueError(f"train.rates names {', '.join(unknown)}, which train.trainable {tuple(c.trainable)} lacks")
    adamw = optimizer.adamw(
        schedule,
        b1=c.b1,
        b2=c.b2,
        weight_decay=c.weight_decay,
        clip=c.clip,
        mask=optimizer.decayed(boxed),
        rates=dict(c.rates),
    )
    abstract, layout = state_shardings(boxed, adamw, mesh, key)
    step = make_step(stage.loss_fn, adamw, ema=c.ema, accumulate=c.accumulate)
    step_fn = compile_step(step, layout, mesh)
    checkpointer = Checkpointer(folder / "checkpoints", c.keep)
    restored = checkpointer.restore(with_shardings(abstract, layout))
    position = None if restored is None else restored.data
    frozen = {**system.frozen, **stage.frozen}
    run = Run(config, folder, mesh, stage, frozen, schedule, step_fn, checkpointer, position)
    if restored is not None:
        return run, restored.state, restored.step
    init_key, run_key = jax.random.split(key)
    params = jax.jit(system.init, out_shardings=layout.params)(init_key)
    params |= {name: loaded for name, loaded in system.loaded.items() if name in system.trainable}
    state = jax.jit(lambda params, key: create(params, adamw, key), out_shardings=layout)(params, run_key)
    return run, state, 0


def loop(run: Run, state: TrainState, first: int) -> tuple[TrainState, bool]:
    """Steps until the last one or a signal; returns the state and whether a signal stopped it."""
    c, sample, stage = run.config.train, run.config.sample, run.stage
    data, saved_at = stage.data(), time.monotonic()
    if run.position is not None:
        data.set_state(run.position)
    writer = logging.MetricsWriter(run.folder, first, c.wandb, plain(run.config))
    every = {name: c[name] for name in ("steps", "batch_size", "log_every", "max_skipped")}
    bar = Progress(writer, run.schedule, first=first, **every)
    with contextlib.closing(bar), stop_requests() as stop:
        for step in range(first + 1, c.steps + 1):
            state, metrics = run.step_fn(state, run.frozen, sharding.put_batch(next(data), run.mesh))
            bar.update(step, metrics)
            last, stopping = step == c.steps, stop(step)
            if last or stopping or step % c.save_every == 0 or time.monotonic() - saved_at > 60 * c.save_minutes:
                run.checkpointer.save(step, state, data.get_state())
                saved_at = time.monotonic()
            if stopping and not last:
                return state, True
            if sample.every and (last or step % sample.every == 0):
                figures = stage.preview(state.ema, run.folder / "samples" / f"{step:08d}.png", step)
                if figures:
                    writer.write(step, {f"held_out/{name}": value for name, value in figures.items()})
        bar.flush()
    return state, False
