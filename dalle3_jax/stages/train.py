"""Training of one stage of a config, top to bottom: set-up, restoring, the loop, previews, the release."""

import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.release_record import is_release
from dalle3_jax.checkpoints.releases import save_release
from dalle3_jax.checkpoints.training import Checkpointer, finished_steps
from dalle3_jax.runtime import processes as hosts
from dalle3_jax.runtime.distributed import enable_compilation_cache, lock_folder
from dalle3_jax.runtime.exit_codes import EXIT_SAVED
from dalle3_jax.runtime.signals import stop_requests
from dalle3_jax.runtime.versions import versions
from dalle3_jax.runtime.watchdog import Watchdog
from dalle3_jax.stages import inputs
from dalle3_jax.stages.config import check_unchanged, plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.first_host import on_first_host
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.stage import Stage
from dalle3_jax.stages.table import build_stage
from dalle3_jax.training import logging, optimizer, sharding
from dalle3_jax.training.progress import Progress
from dalle3_jax.training.state import TrainState, create_state, state_shardings, with_shardings
from dalle3_jax.training.step import Step, compile_step, make_step
from dalle3_jax.typing import Array, Params

__all__ = ["make_optimizer", "train_stage"]


class Run(NamedTuple):
    """The parts of a run that stay the same from step to step."""

    context: Context
    folder: Path
    mesh: Mesh
    stage: Stage
    frozen: Params
    schedule: optax.Schedule
    step_fn: Any  # jax.jit of a Step
    checkpointer: Checkpointer
    data_position: Mapping[str, Any] | None  # of the data iterator, when restored

    @property
    def config(self) -> ConfigDict:
        """The config of the stage."""
        return self.context.config


def train_stage(config: ConfigDict, workdir: Path) -> int:
    """Train the stage config.train.stage in workdir to its last step; returns the exit code.

    The config is one that `check_stage_config` has passed.
    """
    mesh = sharding.make_mesh(plain_config(config.mesh))
    sharding.check_batch(mesh, config.train.batch_size, config.train.accumulate)
    enable_compilation_cache()

    folder = workdir / (config.train.name or config.train.stage)
    with jax.set_mesh(mesh), lock_folder(folder):
        hosts.check_agreement(folder, plain_config(config))
        context = Context(config, workdir, load_stage_networks(config, workdir, mesh))
        record_run(context, folder)
        stage = build_stage(context)
        run, state, first = prepare_run(context, folder, mesh, stage)
        with contextlib.closing(run.checkpointer):
            state, stopped = train_loop(run, state, first)
        hosts.barrier("all is saved")  # before any process ends: a launcher may kill the others for it
        if stopped:
            print(f"stopped: saved at step {int(state.step)}; the same command goes on", file=sys.stderr)
            return EXIT_SAVED
        if hosts.from_first_process(first < config.train.steps or not is_release(folder / "release")):
            on_first_host(context, stage, state.ema, functools.partial(write_release, config, folder / "release"))
        if jax.process_index() == 0:
            print(f"done: release in {folder / 'release'}")
    return 0


def write_release(config: ConfigDict, folder: Path, stage: Stage, ema: Params) -> None:
    """Write what the stage leaves behind."""
    save_release(folder, stage.release(ema, config.train.steps), config.train.release_dtype)


def record_run(context: Context, folder: Path) -> None:
    """Refuse a config or data that this folder's run cannot go on with; write it and the versions beside its steps."""
    record = plain_config(context.config)
    record["source"] = inputs.captioned_source(context.config).fingerprint
    record["init_digests"] = {name: release.digest for name, release in context.networks.releases.items()}
    if finished_steps(folder / "checkpoints"):
        check_unchanged(folder / "config.json", record)
    if jax.process_index() == 0:
        logging.write_json(folder / "config.json", record)
        logging.write_json(folder / "versions.json", versions())


def prepare_run(context: Context, folder: Path, mesh: Mesh, stage: Stage) -> tuple[Run, TrainState, int]:
    """The run, its state (new, or restored and the data's position with it), and the steps already taken."""
    c, networks = context.config.train, context.networks
    boxed, key = networks.boxed_params(), jax.random.key(c.seed)
    adamw, schedule = make_optimizer(context.config, boxed)
    abstract, layout = state_shardings(boxed, adamw, mesh, key)
    step = make_step(stage.loss_fn, adamw, ema=c.ema, accumulate=c.accumulate)
    step_fn = compile_step(step, layout, mesh)
    checkpointer = Checkpointer(folder / "checkpoints", c.keep)
    restored = checkpointer.restore(with_shardings(abstract, layout))
    position = None if restored is None else restored.data
    frozen = {**networks.frozen_params, **stage.frozen}
    run = Run(context, folder, mesh, stage, frozen, schedule, step_fn, checkpointer, position)
    if restored is not None:
        return run, restored.state, restored.step
    init_key, run_key = jax.random.split(key)
    loaded = {name: params for name, params in networks.loaded.items() if name in networks.trainable}
    fresh = {name: shardings for name, shardings in layout.params.items() if name not in loaded}
    params = loaded | jax.jit(networks.init, out_shardings=fresh)(init_key)
    state = jax.jit(lambda params, key: create_state(params, adamw, key), out_shardings=layout)(params, run_key)
    return run, state, 0


def train_loop(run: Run, state: TrainState, first: int) -> tuple[TrainState, bool]:
    """Steps until the last one or a signal; returns the state and whether a signal stopped it."""
    c, sample, data, saved_at = run.config.train, run.config.sample, run.stage.data(), time.monotonic()
    if run.data_position is not None:
        data.set_state(run.data_position)
    writer = logging.MetricsWriter(run.folder, first, c.wandb, plain_config(run.config))
    every = {name: c[name] for name in ("steps", "batch_size", "log_every", "max_skipped")}
    bar = Progress(writer, run.schedule, first=first, data=data, **every)
    watch = Watchdog(60 * c.hang_minutes, f"process {jax.process_index()}")
    programs: dict[Any, Step] = {}
    with report_bad_records(data), contextlib.closing(bar), contextlib.closing(watch), stop_requests() as stop:
        if sample.every and first == 0:
            write_preview(run, state, 0, writer, add_preview_remedy)
        if c.compile_first:
            for example in inputs.with_progress(iter(data.examples), len(data.examples), "compiling buckets"):
                compiled_step(run, state, sharding.put_batch(example(), run.mesh), watch, programs)
        for step in range(first + 1, c.steps + 1):
            batch = sharding.put_batch(next(data), run.mesh)
            state, metrics = compiled_step(run, state, batch, watch, programs)(state, run.frozen, batch)
            bar.update(step, metrics)
            watch.beat(step - 1)
            last, stopping = step == c.steps, stop(step)
            if last or stopping or is_save_due(run.config, step, saved_at):
                run.checkpointer.save(step, state, data.get_state())
                saved_at = time.monotonic()
            if stopping and not last:
                return state, True
            if sample.every and (last or step % sample.every == 0):
                with watch.pause():
                    save = functools.partial(save_after_error, run, state, step, data)
                    write_preview(run, state, step, writer, save)
        bar.flush()
    return state, False


@contextlib.contextmanager
def report_bad_records(data: Any) -> Iterator[None]:
    """Say at the end how many records this process could not use and why, the first of each reason named."""
    yield
    if said := data.describe_bad():
        print(f"records that could not be used: {said}", file=sys.stderr)


def compiled_step(
    run: Run, state: TrainState, batch: Mapping[str, Array], watch: Watchdog, programs: dict[Any, Step]
) -> Step:
    """The step compiled for batches of these shapes, kept in `programs`; the watchdog times no host's compiler."""
    shapes = tuple((name, value.shape) for name, value in sorted(batch.items()))
    if shapes not in programs:
        with watch.pause():
            programs[shapes] = run.step_fn.lower(state, run.frozen, batch).compile()
            hosts.barrier("compiled")
    return programs[shapes]


def is_save_due(config: ConfigDict, step: int, saved_at: float) -> bool:
    """Whether to save again. Several hosts go by the first one's clock, which they ask when they log."""
    c = config.train
    if step % c.save_every == 0 or (jax.process_count() > 1 and step % c.log_every):
        return step % c.save_every == 0
    return hosts.from_first_process(time.monotonic() - saved_at > 60 * c.save_minutes)


def write_preview(
    run: Run,
    state: TrainState,
    step: int,
    writer: logging.MetricsWriter,
    handle: Callable[[Exception], Exception],
) -> None:
    """Draw what was learnt, and write the figures of it; `handle` as `on_first_host` says."""
    path = run.folder / "samples" / f"{step:08d}.png"

    def draw(stage: Stage, ema: Params) -> None:
        if figures := stage.preview(ema, path, step):
            writer.write(step, {f"held_out/{name}": value for name, value in figures.items()})

    on_first_host(run.context, run.stage, state.ema, draw, handle)


def add_preview_remedy(error: Exception) -> Exception:
    """The error of the preview before the first step, which comes now and not hours later, and says what it is of."""
    error.add_note("so no preview can be made: mend config.sample, or do without by --config.sample.every=0")
    return error


def save_after_error(run: Run, state: TrainState, step: int, data: Any, error: Exception) -> Exception:
    """The error of a later preview, which is a failure whatever its kind and says whether its step was saved here."""
    if isinstance(error, ValueError):
        error = OSError(f"the preview of step {step} failed: {error}")
    try:
        run.checkpointer.save(step, state, data.get_state())
        run.checkpointer.wait()
        error.add_note(f"step {step} is saved, the same command goes on from there")
    except Exception as unsaved:
        error.add_note(f"step {step} is not saved: {unsaved}")
    return error


def make_optimizer(config: ConfigDict, boxed: Any) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimiser for the parameters that learn, and its learning rate after so many updates."""
    c = config.train
    schedule = optimizer.learning_rate(c.learning_rate, c.steps, c.warmup, c.constant)
    if unknown := sorted(set(c.rates) - set(c.trainable)):
        raise ValueError(f"train.rates names {', '.join(unknown)}, which train.trainable {tuple(c.trainable)} lacks")
    adamw = optimizer.adamw(
        schedule,
        b1=c.b1,
        b2=c.b2,
        weight_decay=c.weight_decay,
        clip=c.clip,
        mask=optimizer.decay_mask(boxed),
        rates=dict(c.rates),
    )
    return adamw, schedule
