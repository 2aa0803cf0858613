"""The cost of sampling with a config's networks on chips that need not be at hand: text, the sampling loop, decoding.

The programs are those of `dalle3_jax.pipeline.programs`, laid out as `sample` has them: every chip holds all
networks and makes its own images.
"""

import functools
import inspect
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.diffusion import samplers, schedules
from dalle3_jax.diffusion.spacing import sampling_times
from dalle3_jax.models.glyph import text_components
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.denoisers import GuidanceRows
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.planning import costs, estimate, hlo
from dalle3_jax.planning.chips import Topology
from dalle3_jax.planning.flops import jaxpr_flops
from dalle3_jax.planning.plan_report import Plan, counted_memory, plan_findings, roofline_seconds
from dalle3_jax.planning.training_step import (
    build_config_networks,
    topology_devices,
    unscaled_latent,
    without_shardings,
)
from dalle3_jax.stages.config import plain_config

__all__ = ["SamplingProgram", "plan_sampling", "sampling_programs"]


class SamplingProgram(NamedTuple):
    """One program and the shapes that it is called with, the networks' parameters first."""

    function: Any
    arguments: tuple[Any, ...]


class ProgramCosts(NamedTuple):
    """Costs of a program, the bytes that it takes beside its arguments and for its code, seconds of compiling it."""

    costs: costs.Costs
    temporaries: int = 0
    code: int = 0
    took: float = 0.0


LEFT_OUT = {
    "full": (),
    "quick": (
        "the chip's own layouts, fusions and kernels",
        "its temporaries (without --quick they are compiled)",
        "collectives",
        "the program's code",
    ),
    "estimate": ("HBM traffic", "temporaries", "collectives", "the program's code"),
}


def plan_sampling(
    config: ConfigDict, name: str, where: Topology, bucket: tuple[int, int], images: int, mode: str
) -> Plan:
    """The plan of so many images made at once, by the config's sampler; `mode` is full, quick or estimate.

    Raises ValueError where the images do not divide over the chips or a network is missing.
    """
    if images < 1 or images % where.chips:
        raise ValueError(f"--images={images} does not divide over {where.chips} chips: use a multiple of {where.chips}")
    devices = np.asarray(topology_devices(where)) if mode == "full" else None
    axes = (AxisType.Auto,)
    mesh = AbstractMesh((where.chips,), ("data",), axis_types=axes) if devices is None else Mesh(devices, ("data",))
    parts = sampling_programs(config, bucket, images, mesh)
    if isinstance(mesh, Mesh):
        part_costs = {part: compile_program_costs(program, mesh, images) for part, program in parts.items()}
    elif mode == "quick":
        one = AbstractMesh((1,), ("data",), axis_types=axes)
        alone = sampling_programs(config, bucket, images // where.chips, one)
        part_costs = {part: compile_program_costs(program, None, images) for part, program in alone.items()}
    else:
        with estimate.tracing_for_tpu():
            part_costs = {part: trace_program_costs(program, where.chips) for part, program in parts.items()}
    params = {name: tree for part in parts.values() for name, tree in part.arguments[0].items()}
    batch = max(estimate.shard_bytes(part.arguments[1:]) for part in parts.values())
    memory = {"networks": estimate.shard_bytes(params), "batch": batch}
    if mode != "estimate":
        memory["temporaries"] = max(one.temporaries for one in part_costs.values())
    if mode == "full":
        memory["programs"] = sum(one.code for one in part_costs.values())
    total = _sum_costs([one.costs for one in part_costs.values()])
    capacity = int(where.chip.memory)
    return Plan(
        how=mode,
        what=f"sampling in {config.sample.steps} steps of {config.sample.sampler}",
        config=name,
        topology=where.name,
        mesh=dict(mesh.shape),
        bucket=bucket,
        batch=images,
        inputs="prompts",
        parameters={part: sum(leaf.size for leaf in jax.tree.leaves(tree)) for part, tree in params.items()},
        memory=memory,
        capacity=capacity,
        flops=total.flops,
        model_flops=sum(trace_program_costs(part, where.chips).costs.flops for part in parts.values()),
        bytes=total.bytes,
        collectives=total.collectives_by_kind(),
        seconds=roofline_seconds(total.flops, total.bytes, total.collectives, where),
        findings=plan_findings(counted_memory(memory, mode), capacity, total.collectives, total.constants, {}),
        left_out=("decoders other than the VAE's", *LEFT_OUT[mode], *costs.uncounted_notes(total)),
        compile_seconds=sum(one.took for one in part_costs.values()),
        parts={part: one.costs.flops for part, one in part_costs.items()},
    )


def sampling_programs(
    config: ConfigDict, bucket: tuple[int, int], images: int, mesh: Mesh | AbstractMesh
) -> dict[str, SamplingProgram]:
    """The programs that make a batch of images, by what they do."""
    dtype, modules = jnp.dtype(config.train.dtype), build_config_networks(config)
    if missing := [name for name in ("text_encoder", "unet", "vae") if name not in modules]:
        raise ValueError(f"sampling needs {', '.join(missing)}: plan a stage that has their sections in config.model")
    names = (*text_components(modules), "unet", "vae")
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))
    latent = unscaled_latent(modules["vae"])
    used: dict[str, Any] = {name: modules[name] for name in names}
    system = PipelineSpec(
        **used,
        schedule=schedules.build_schedule(plain_config(config.model.diffusion.schedule)),
        prediction=config.model.diffusion.prediction,
        latent=latent,
    )
    if system.needs_mask:
        raise ValueError("an inpainting UNet is shown a mask, which a plan of sampling has not: plan its training")
    boxed = nn.unbox(abstract_params(modules, names))
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=whole), boxed)

    def split(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=rows if leaf.ndim else whole), tree
        )

    def text(length: int) -> tuple[Any, Any]:
        return tuple(split(jax.ShapeDtypeStruct((images, length), kind)) for kind in (jnp.int32, jnp.bool_))

    texts = text(config.data.text_length)
    texts += (text(config.data.glyph_length),) if "glyph_encoder" in names else ()
    encode = functools.partial(programs.encode_prompts, system=system)
    condition = split(jax.eval_shape(encode, params, *texts))
    height, width = (side // latent.factor for side in bucket)
    seeds = jax.ShapeDtypeStruct((images,), jnp.uint32), jax.ShapeDtypeStruct((), jnp.float32)
    past = samplers.past_outputs(samplers.SAMPLERS[config.sample.sampler])
    start = functools.partial(programs.start, shape=(height, width, latent.channels), past=past)
    state, keys = split(jax.eval_shape(start, *seeds))
    guide = GuidanceRows(*[split(jax.ShapeDtypeStruct((images,), jnp.float32))] * 4)
    guided = config.sample.guidance_scale != 1
    against = (condition, guide) if guided else (None, None)
    loop = functools.partial(_loop, config.sample.steps, system=system, sampler=config.sample.sampler)
    text_params = {name: params[name] for name in text_components(modules)}
    return {
        "text": SamplingProgram(encode, (text_params, *texts)),
        "loop": SamplingProgram(loop, ({"unet": params["unet"]}, condition, *against, state, keys)),
        "decoding": SamplingProgram(
            functools.partial(programs.decode_latents, system=system), ({"vae": params["vae"]}, state.x)
        ),
    }


def compile_program_costs(part: SamplingProgram, mesh: Mesh | None, images: int) -> ProgramCosts:
    """Measured as compiled for the mesh's devices; for this machine's one, of a device's own images, without one."""
    arguments = part.arguments if mesh else without_shardings(part.arguments)
    began = time.monotonic()
    with programs.batch_over_mesh(mesh, images):
        program = jax.jit(part.function).lower(*arguments).compile()
    took = time.monotonic() - began
    program_costs = costs.program_costs(hlo.parse_hlo(program.as_text() or ""), mesh.size if mesh else 1)
    stats: Any = program.memory_analysis()
    held = stats.temp_size_in_bytes + stats.output_size_in_bytes
    return ProgramCosts(program_costs, held, stats.generated_code_size_in_bytes, took)


def trace_program_costs(part: SamplingProgram, chips: int) -> ProgramCosts:
    """FLOPs of a chip's share of the traced program."""
    jaxpr = jax.make_jaxpr(part.function)(*without_shardings(part.arguments))
    return ProgramCosts(costs.Costs(jaxpr_flops(jaxpr) / chips, 0.0, (), ()))


def _loop(
    steps: int, params: Any, condition: Any, null: Any, guide: Any, state: Any, keys: Any, *, system: Any, sampler: str
) -> Any:
    """Keys and values of the text, and the whole loop; its first step is no argument, so that its length is known."""
    project, advance = inspect.unwrap(programs.project_rows), inspect.unwrap(programs.advance)
    rows, times = project(params, condition, null, system=system), sampling_times(system.schedule, steps)
    return advance(params, rows, guide, state, keys, times, 0, steps, system=system, sampler=sampler)


def _sum_costs(terms: Sequence[costs.Costs]) -> costs.Costs:
    """Of programs that run one after another."""
    return costs.Costs(
        sum(one.flops for one in terms),
        sum(one.bytes for one in terms),
        tuple(one for part in terms for one in part.collectives),
        tuple(one for part in terms for one in part.constants),
        tuple(one for part in terms for one in part.unknown),
    )
