"""Say what a training step or sampling costs on TPUs that are not here: memory, FLOPs, collectives, time.

  dalle3-jax plan --config configs/base_512.py:base --topology v5e:16x16             # compiled for the chips: minutes
  dalle3-jax plan --config configs/base_512.py:base --topology v5p-128 --estimate    # not compiled: seconds
  dalle3-jax plan --config configs/base_512.py:base --topology v5e-256 --what sample --images 512
  dalle3-jax plan --config configs/paper_256.py:base --topology v5e-256 --bucket 256x256 --out docs/plans/paper_256_v5e

The program is compiled by libtpu, on any machine (pip install 'dalle3_jax[plan]'), and its own text is read: bodies of
loops count as often as they run. --quick compiles it for the CPU, on one device's share of a batch; --estimate compiles
nothing. Both say what they leave out. Times are rooflines: what the chips' peaks allow, not what they will do.
Settings of the config follow as train takes them: --config.train.batch_size=1024.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from dalle3_jax.pipeline.jobs import parse_size
from dalle3_jax.planning import costs, estimate, hlo
from dalle3_jax.planning.chips import Topology, topology
from dalle3_jax.planning.flops import flops
from dalle3_jax.planning.report import BIG, Plan, findings, markdown, seconds
from dalle3_jax.planning.sampling import plan_sampling
from dalle3_jax.planning.training_step import INPUTS, Program, devices_of, training, unplaced
from dalle3_jax.stages.config import load, plain
from dalle3_jax.training import sharding
from dalle3_jax.training.logging import write_whole

__all__ = ["main", "plan"]


SAMPLED = 2
"""Images that a chip samples at once: `sample` makes eight on a host of four chips."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="dalle3-jax plan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--config", required=True, metavar="FILE:STAGE")
    made.add_argument("--topology", required=True, metavar="CHIP:GRID", help="v5e:16x16, v5p:4x4x4, v5e-256, v5p-128")
    made.add_argument("--bucket", metavar="WIDTHxHEIGHT", help="size of the images (default: the largest bucket)")
    made.add_argument("--what", choices=("train", "sample"), default="train", help="a step of training (default)")
    made.add_argument("--inputs", choices=INPUTS, help="what batches of training hold (default: images)")
    made.add_argument("--images", type=int, metavar="N", help="images that sampling makes at once (default: 2 a chip)")
    how = made.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="compile for the CPU instead: a minute or two")
    how.add_argument("--estimate", action="store_true", help="compile nothing: seconds")
    made.add_argument("--json", metavar="FILE", help="write all figures here, - for the terminal instead of the table")
    made.add_argument("--out", metavar="PREFIX", help="write PREFIX.md and PREFIX.json")
    return made


def main(argv: list[str]) -> int:
    """The command; errors are one line."""
    arguments, rest = parser().parse_known_args(argv)
    jax.config.update("jax_platforms", "cpu")
    try:
        where = topology(arguments.topology)
        loaded = load([f"--config={arguments.config}", "--workdir=plan", *rest])
        assert loaded is not None
        config = loaded[0]
        buckets = config.data.buckets or (config.data.size,)
        largest = max(map(tuple, buckets), key=lambda size: size[0] * size[1])
        bucket = parse_size(arguments.bucket) if arguments.bucket else largest
        how = "quick" if arguments.quick else "estimate" if arguments.estimate else "full"
        if (arguments.inputs if arguments.what == "sample" else arguments.images) is not None:
            raise ValueError("--inputs is for --what train, --images for --what sample")
        asked, sampled = (config, arguments.config, where, bucket), SAMPLED * where.chips
        if arguments.what == "sample":
            found = plan_sampling(*asked, sampled if arguments.images is None else arguments.images, how)
        else:
            found = plan(*asked, arguments.inputs or "images", how)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        sys.stdout.write(found.to_json()) if arguments.json == "-" else _write(arguments.json, found.to_json())
    if arguments.out:
        _write(f"{arguments.out}.json", found.to_json())
        _write(f"{arguments.out}.md", markdown(found, where))
    if arguments.json != "-":
        print(markdown(found, where), end="")
    return 0


def plan(config: ConfigDict, name: str, where: Topology, bucket: tuple[int, int], inputs: str, how: str) -> Plan:
    """The plan of the config's training step; `how` is full, quick or estimate."""
    config = config.copy_and_resolve_references()
    sizes = sharding.mesh_shape(plain(config.mesh), where.chips)
    mesh = sharding.make_mesh(plain(config.mesh), devices_of(where)) if how == "full" else sharding.abstract_mesh(sizes)
    sharding.check_batch(mesh, config.train.batch_size, config.train.accumulate)
    program = training(config, mesh, bucket, inputs)
    memory = {
        "parameters": estimate.shard_bytes(program.state.params),
        "moving average": estimate.shard_bytes(program.state.ema),
        "moments": estimate.shard_bytes(program.state.opt_state),
        "frozen networks": estimate.shard_bytes(program.frozen),
        "batch": estimate.shard_bytes(program.batch),
    }
    measured, more, left_out, took = MEASURES[how](program, mesh, where, config)
    memory |= more
    capacity = int(where.chip.memory)
    whole = estimate.held({"state": program.state, "frozen": program.frozen}, BIG)
    counts = {
        part: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for part, tree in {**program.state.params, **program.frozen}.items()
    }
    return Plan(
        how=how,
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
        collectives=measured.by_kind(),
        seconds=seconds(measured.flops, measured.bytes, measured.collectives, where),
        findings=findings(memory, capacity, measured.collectives, measured.constants, whole),
        left_out=left_out,
        compile_seconds=took,
    )


Measured = tuple[costs.Costs, Mapping[str, int], Sequence[str], float]


def full(program: Program, mesh: Mesh, where: Topology, config: ConfigDict) -> Measured:
    """Compiled for the chips."""
    began = time.monotonic()
    with jax.set_mesh(mesh):
        compiled = program.step.lower(program.state, program.frozen, program.batch).compile()
    took = time.monotonic() - began
    found = costs.measure(hlo.parse(compiled.as_text() or ""), where.chips)
    stats = compiled.memory_analysis()
    more = {"temporaries": stats.temp_size_in_bytes, "program": stats.generated_code_size_in_bytes}
    return found, more, costs.uncounted(found), took


def quick(program: Program, mesh: Any, where: Topology, config: ConfigDict) -> Measured:
    """Compiled for one CPU device on its share of the batch: products and temporaries; collectives as estimated."""
    rows = mesh.shape["data"] * sharding.fsdp_of(mesh)
    alone = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (program.state, program.frozen))
    batch = {
        name: jax.ShapeDtypeStruct((leaf.shape[0] // rows, *leaf.shape[1:]), leaf.dtype)
        for name, leaf in program.batch.items()
    }
    began = time.monotonic()
    step = jax.jit(program.plain, donate_argnums=0)
    compiled = step.lower(*alone, batch).compile()
    took = time.monotonic() - began
    found = costs.measure(hlo.parse(compiled.as_text() or ""), 1)
    tensor = mesh.shape["tensor"]
    merged = costs.Costs(found.flops / tensor, found.bytes / tensor, layout(program, mesh, config), found.constants)
    stats: Any = compiled.memory_analysis()
    more = {"temporaries": stats.temp_size_in_bytes}
    left = ["the chip's own layouts, fusions and kernels (compiled for a CPU, its temporaries hold gradients whole)"]
    return merged, more, [*left, "collectives are closed forms", "the program's code"], took


def estimated(program: Program, mesh: Any, where: Topology, config: ConfigDict) -> Measured:
    """Closed forms: products of the traced step, collectives of the layout, what the backward pass is kept."""
    traced = jax.make_jaxpr(program.plain)(*unplaced((program.state, program.frozen, program.batch)))
    rows = config.train.batch_size
    state, frozen, batch = unplaced((program.state, program.frozen, program.batch))
    known = {**frozen, "run": {"ema": state.ema, "step": state.step}}

    def loss(params: Any) -> Any:
        return program.loss_fn(params, _zeros(known), _zeros(batch), jax.random.key(0))

    kept = estimate.saved(loss, state.params, rows)
    shares = mesh.shape["data"] * sharding.fsdp_of(mesh)
    found = costs.Costs(flops(traced) / where.chips, 0.0, layout(program, mesh, config), ())
    left = ["HBM traffic", "temporaries but for what the backward pass is kept", "the program's code"]
    return found, {"kept for the backward pass": kept // shares}, left, 0.0


MEASURES = {"full": full, "quick": quick, "estimate": estimated}


def layout(program: Program, mesh: Any, config: ConfigDict) -> tuple[costs.Collective, ...]:
    """The collectives that the layout of parameters calls for."""
    width = jnp.dtype(config.train.dtype).itemsize
    passes = 2 * config.train.accumulate
    shape = dict(mesh.shape)
    return estimate.gathers(program.state.params, program.frozen, width, passes, shape, sharding.SHARDED)


def model_flops(program: Program) -> float:
    """FLOPs of a step over all chips if nothing were computed twice: of the loss and of its linear part.

    That part, which derivatives forwards compute, has as many products as its transpose, the backward pass.
    """
    state, frozen, batch = unplaced((program.state, program.frozen, program.batch))

    def both(params: Any, tangents: Any, known: Any, batch: Any) -> Any:
        def loss(params: Any) -> Any:
            return program.loss_fn(params, known, batch, jax.random.key(0))[0]

        return jax.jvp(loss, (params,), (tangents,))

    known = {**frozen, "run": {"ema": state.ema, "step": state.step}}
    return flops(jax.make_jaxpr(both)(state.params, state.params, known, batch))


def _zeros(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), tree)


def _write(path: str, text: str) -> None:
    write_whole(Path(path), text.encode())
