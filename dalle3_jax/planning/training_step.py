"""The program of a config's training step on devices that need not be here: networks, state and batch as shapes."""

import importlib.resources
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.releases import Latent, Release
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.models.build import build_models
from dalle3_jax.models.image_prompt import ImagePrompt, fit_image_prompt
from dalle3_jax.models.layout_head import HALVES
from dalle3_jax.planning import costs, estimate, hlo
from dalle3_jax.planning.chips import Topology
from dalle3_jax.planning.flops import jaxpr_flops
from dalle3_jax.planning.plan_report import BIG_BYTES, Plan, counted_memory, plan_findings, roofline_seconds
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.stages.train import make_optimizer
from dalle3_jax.training import sharding
from dalle3_jax.training.state import TrainState, state_shardings, with_shardings
from dalle3_jax.training.step import Step, compile_step, make_step
from dalle3_jax.typing import LossFn, Params

__all__ = [
    "TrainingProgram",
    "abstract_batch",
    "abstract_networks",
    "build_config_networks",
    "plan_training",
    "topology_devices",
    "training_program",
    "unscaled_latent",
    "without_shardings",
]

SEE_IMAGES = ("inpaint", "image_prompt")
"""The stages whose batches hold images, whatever is cached."""
PLANNED = ("vae", "text", "layout", "drawing", "base", "decoder", "refiner", "upscaler", *SEE_IMAGES)
"""The stages whose batches are known here; a distilling stage depends on what its teacher's release says as well."""


class TrainingProgram(NamedTuple):
    """A step, compiled on call and as it is, and the shapes, with their shardings, that it is called with."""

    step: Any
    raw_step: Step
    loss_fn: LossFn
    state: TrainState
    frozen: Params
    batch: Mapping[str, Any]


def training_program(
    config: ConfigDict, mesh: Mesh | AbstractMesh, bucket: tuple[int, int], inputs: str
) -> TrainingProgram:
    """The training step of the config's stage; ValueError where the config does not say all that it depends on."""
    if config.train.stage not in PLANNED:
        raise ValueError(f"the stage {config.train.stage} cannot be planned: those that can are {', '.join(PLANNED)}")
    if config.train.stage in SEE_IMAGES and inputs != "images":
        raise ValueError(f"--inputs={inputs}: the stage {config.train.stage} sees the images themselves")
    networks = abstract_networks(config, mesh)
    stage = build_stage(Context(config, Path("plan"), networks))
    boxed = networks.boxed_params()
    adamw, _ = make_optimizer(config, boxed)
    abstract, layout = state_shardings(boxed, adamw, mesh, jax.random.key(0))
    step = make_step(stage.loss_fn, adamw, ema=config.train.ema, accumulate=config.train.accumulate)
    frozen = {name: tree for name, tree in {**networks.frozen_params, **stage.frozen}.items() if _is_used(name, inputs)}
    batch = abstract_batch(config, networks, mesh, bucket, inputs)
    compiled = compile_step(step, layout, mesh)
    return TrainingProgram(compiled, step, stage.loss_fn, with_shardings(abstract, layout), frozen, batch)


def abstract_networks(config: ConfigDict, mesh: Mesh | AbstractMesh) -> StageNetworks:
    """The networks of config.model, those that config.init names as shapes; every one needs its section.

    The tokenizer, the statistics of latents, and the schedule of a base model that the stage begins with, on which the
    costs do not depend, are stand-ins.
    """
    dtype, modules = jnp.dtype(config.train.dtype), build_config_networks(config)
    trainable = tuple(config.train.trainable)
    loaded = {}
    for name in config.init:
        kept = jnp.float32 if name in trainable else dtype
        boxed = abstract_params(modules, [name])[name]
        loaded[name] = jax.tree.map(
            lambda leaf, at, kept=kept: jax.ShapeDtypeStruct(leaf.shape, kept, sharding=at),
            nn.unbox(boxed),
            sharding.param_shardings(boxed, mesh),
        )
    tokenizer = importlib.resources.files("dalle3_jax.data.scenes") / "tokenizer.json"
    known: Any = {"tokenizer": tokenizer.read_text("utf-8"), "diffusion": plain_config(config.model.diffusion)}
    releases = {name: Release({name: modules[name]}, {}, **known) for name in config.init}
    if vae := modules.get("vae"):
        releases["vae"] = Release({"vae": vae}, {}, unscaled_latent(vae))
    return StageNetworks(modules, loaded, releases, trainable, config.train.stage == "inpaint")


def build_config_networks(config: ConfigDict) -> dict[str, nn.Module]:
    """The networks of config.model; ValueError where config.init names one that has no section there."""
    modules = build_models(plain_config(config.model), jnp.dtype(config.train.dtype))
    if missing := sorted(set(config.init) - set(modules)):
        raise ValueError(
            f"config.init names {', '.join(missing)} without sections in config.model, and neither a stage of this "
            "config nor a folder here says their fields: give them there (configs/paper_256.py does)"
        )
    if isinstance(prompt := modules.get("image_prompt"), ImagePrompt) and "image_prompt" not in config.init:
        modules["image_prompt"] = fit_image_prompt(prompt, modules)
    return modules


def unscaled_latent(vae: Any) -> Latent:
    """A VAE's latents as they are: what scales them is not part of a program's cost."""
    channels = vae.latent_channels
    return Latent(channels, vae.factor, (0.0,) * channels, (1.0,) * channels)


def topology_devices(where: Topology) -> Sequence[Any]:
    """The slice's devices, as libtpu describes them; ValueError where it is not installed or knows no such slice."""
    from jax.experimental import topologies

    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask for a TPU
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=where.name).devices
    except (RuntimeError, ImportError, NotImplementedError, jax.errors.JaxRuntimeError) as error:
        line = str(error).splitlines()[0][:200]
        if "lockfile" in line:
            raise ValueError("libtpu is at work in another process, and in one at a time: wait for that") from None
        raise ValueError(
            f"libtpu cannot describe {where.name} ({line}): pip install 'dalle3_jax[plan]', or use --estimate"
        ) from None


def without_shardings(tree: Any) -> Any:
    """The shapes without their shardings."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def abstract_batch(
    config: ConfigDict, networks: StageNetworks, mesh: Mesh | AbstractMesh, bucket: tuple[int, int], inputs: str
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a global batch of one bucket."""
    rows, length = config.train.batch_size, config.data.text_length
    height, width = (config.data.crop or side for side in bucket)
    text, vae = networks.modules.get("text_encoder"), networks.modules.get("vae")
    if vae is None and inputs != "images":
        raise ValueError(f"--inputs={inputs}: this stage has no VAE, so its batches hold images")
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
    labels = config.train.stage in ("layout", "drawing")
    if labels or {"layout_memory", "layout_encoder"} <= networks.modules.keys():
        grid = networks.modules["layout_head" if text is not None else "layout_encoder"].grid
        cells = (math.prod(grid),), jnp.int32
        shapes |= {"cells": cells, "tints": cells, "patches": cells, "background": ((), jnp.int32)}
        shapes["letters"] = (*cells[0], HALVES), jnp.int32
        if labels and vae is not None and inputs != "images":
            raise ValueError(f"--inputs={inputs}: this stage learns from labels and images together")
    if inputs == "images" if vae is not None else not labels:
        shapes["images"] = (height, width, 3), jnp.float32
    elif vae is not None:
        shapes["latents"] = (height // vae.factor, width // vae.factor, vae.latent_channels), jnp.float32
    if factor := config.data.degradation.get("factor", 0):
        shapes["low_images"] = (height // factor, width // factor, 3), jnp.float32
    if text is not None:
        shapes |= {"mask": ((length,), jnp.bool_), "sizes": ((6,), jnp.float32)}
        if inputs == "features":
            shapes["features"] = (length, text.width), jnp.dtype(config.train.dtype)
        else:
            shapes["ids"] = (length,), jnp.int32
    if text is not None and (glyphs := config.data.get("glyph_length", 0)):
        shapes |= {"glyph_ids": ((glyphs,), jnp.int32), "glyph_mask": ((glyphs,), jnp.bool_)}
    place = sharding.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct((rows, *shape), kind, sharding=place) for name, (shape, kind) in shapes.items()}


def _is_used(name: str, inputs: str) -> bool:
    """Whether batches of this kind leave the network something to do."""
    return not ((name == "vae" and inputs != "images") or (name == "text_encoder" and inputs == "features"))


def plan_training(
    config: ConfigDict, name: str, where: Topology, bucket: tuple[int, int], inputs: str, mode: str
) -> Plan:
    """The plan of the config's training step; `mode` is full, quick or estimate."""
    config = config.copy_and_resolve_references()
    sizes = sharding.mesh_shape(plain_config(config.mesh), where.chips)
    mesh = (
        sharding.make_mesh(plain_config(config.mesh), topology_devices(where))
        if mode == "full"
        else sharding.abstract_mesh(sizes)
    )
    sharding.check_batch(mesh, config.train.batch_size, config.train.accumulate)
    program = training_program(config, mesh, bucket, inputs)
    memory = {
        "parameters": estimate.shard_bytes(program.state.params),
        "moving average": estimate.shard_bytes(program.state.ema),
        "moments": estimate.shard_bytes(program.state.opt_state),
        "frozen networks": estimate.shard_bytes(program.frozen),
        "batch": estimate.shard_bytes(program.batch),
    }
    measured, more, left_out, took = MEASURES[mode](program, mesh, where, config)
    memory |= more
    capacity = int(where.chip.memory)
    whole = estimate.replicated_arrays({"state": program.state, "frozen": program.frozen}, BIG_BYTES)
    counts = {
        part: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for part, tree in {**program.state.params, **program.frozen}.items()
    }
    return Plan(
        how=mode,
        what="training step",
        config=name,
        topology=where.name,
        mesh={axis: int(length) for axis, length in mesh.shape.items()},
        bucket=bucket,
        batch=config.train.batch_size,
        inputs=inputs,
        parameters=counts,
        memory=memory,
        capacity=capacity,
        flops=measured.flops,
        model_flops=model_flops(program) / where.chips,
        bytes=measured.bytes,
        collectives=measured.collectives_by_kind(),
        seconds=roofline_seconds(measured.flops, measured.bytes, measured.collectives, where),
        findings=plan_findings(counted_memory(memory, mode), capacity, measured.collectives, measured.constants, whole),
        left_out=left_out,
        compile_seconds=took,
    )


StepCosts = tuple[costs.Costs, Mapping[str, int], Sequence[str], float]


def compile_step_costs(program: TrainingProgram, mesh: Mesh, where: Topology, config: ConfigDict) -> StepCosts:
    """Compiled for the chips."""
    began = time.monotonic()
    with jax.set_mesh(mesh):
        compiled = program.step.lower(program.state, program.frozen, program.batch).compile()
    took = time.monotonic() - began
    step_costs = costs.program_costs(hlo.parse_hlo(compiled.as_text() or ""), where.chips)
    stats = compiled.memory_analysis()
    more = {"temporaries": stats.temp_size_in_bytes, "program": stats.generated_code_size_in_bytes}
    return step_costs, more, costs.uncounted_notes(step_costs), took


def compile_cpu_costs(program: TrainingProgram, mesh: Any, where: Topology, config: ConfigDict) -> StepCosts:
    """Compiled for one CPU device on its share of the batch: products and temporaries; collectives as estimated."""
    rows = mesh.shape["data"] * sharding.fsdp_size(mesh)
    alone = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (program.state, program.frozen))
    batch = {
        name: jax.ShapeDtypeStruct((leaf.shape[0] // rows, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in program.batch.items()
    }
    began = time.monotonic()
    step = jax.jit(program.raw_step, donate_argnums=0)
    compiled = step.lower(*alone, batch).compile()
    took = time.monotonic() - began
    step_costs = costs.program_costs(hlo.parse_hlo(compiled.as_text() or ""), 1)
    tensor = mesh.shape["tensor"]
    merged = costs.Costs(
        step_costs.flops / tensor,
        step_costs.bytes / tensor,
        layout_collectives(program, mesh, config),
        step_costs.constants,
    )
    stats: Any = compiled.memory_analysis()
    more = {"temporaries": stats.temp_size_in_bytes}
    left = ["the chip's own layouts, fusions and kernels", "a chip's temporaries (without --quick they are compiled)"]
    return merged, more, [*left, "collectives are closed forms", "the program's code"], took


def estimate_step_costs(program: TrainingProgram, mesh: Any, where: Topology, config: ConfigDict) -> StepCosts:
    """Closed forms: products of the step as a TPU has it, collectives of the layout, what the backward pass is kept."""
    rows = config.train.batch_size
    state, frozen, batch = without_shardings((program.state, program.frozen, program.batch))
    known = {**frozen, "run": {"ema": state.ema, "step": state.step}}

    def loss(params: Any) -> Any:
        return program.loss_fn(params, _zeros(known), _zeros(batch), jax.random.key(0))

    with estimate.tracing_for_tpu():
        traced = jax.make_jaxpr(program.raw_step)(state, frozen, batch)
        kept = estimate.activation_bytes(loss, state.params, rows)
    shares = mesh.shape["data"] * sharding.fsdp_size(mesh)
    step_costs = costs.Costs(jaxpr_flops(traced) / where.chips, 0.0, layout_collectives(program, mesh, config), ())
    apart = (
        "temporaries but for what the backward pass is kept: gathered kernels, gradients, workspaces of convolutions"
    )
    left = [
        "HBM traffic",
        f"{apart} (base_512 on v5e-256: 1.9 GiB by estimate, 7.1 GiB compiled)",
        "the program's code",
    ]
    return step_costs, {"kept for the backward pass": kept // shares}, left, 0.0


MEASURES = {"full": compile_step_costs, "quick": compile_cpu_costs, "estimate": estimate_step_costs}


def layout_collectives(program: TrainingProgram, mesh: Any, config: ConfigDict) -> tuple[costs.Collective, ...]:
    """The collectives that the layout of parameters calls for."""
    width = jnp.dtype(config.train.dtype).itemsize
    passes = 2 * config.train.accumulate
    shape = dict(mesh.shape)
    return estimate.parameter_collectives(
        program.state.params, program.frozen, width, passes, shape, sharding.FSDP_AXES
    )


def model_flops(program: TrainingProgram) -> float:
    """FLOPs of a step over all chips if nothing were computed twice: of the loss and of its linear part.

    That part, which derivatives forwards compute, has as many products as its transpose, the backward pass.
    """
    state, frozen, batch = without_shardings((program.state, program.frozen, program.batch))

    def both(params: Any, tangents: Any, known: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            return program.loss_fn(params, known, batch, jax.random.key(0))[0]

        return jax.jvp(loss, (params,), (tangents,))

    known = {**frozen, "run": {"ema": state.ema, "step": state.step}}
    return jaxpr_flops(jax.make_jaxpr(both)(state.params, state.params, known, batch))


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)
