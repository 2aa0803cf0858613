"""The program of a config's training step on devices that need not be here: networks, state and batch as shapes."""

import importlib.resources
import os
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
from dalle3_jax.commands.steps import updates
from dalle3_jax.models.build import build_models
from dalle3_jax.planning.chips import Topology
from dalle3_jax.stages.config import plain
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.table import STAGES
from dalle3_jax.training import sharding
from dalle3_jax.training.state import TrainState, state_shardings, with_shardings
from dalle3_jax.training.step import Step, compile_step, make_step
from dalle3_jax.typing import LossFn, Params

__all__ = [
    "INPUTS",
    "Program",
    "abstract_batch",
    "abstract_system",
    "devices_of",
    "networks",
    "plain_latent",
    "training",
    "unplaced",
]

INPUTS = ("images", "latents", "features")
"""What batches hold: pictures and token ids, cached latents and token ids, cached latents and text features."""


class Program(NamedTuple):
    """A step, compiled on call and as it is, and the shapes, with their shardings, that it is called with."""

    step: Any
    plain: Step
    loss_fn: LossFn
    state: TrainState
    frozen: Params
    batch: Mapping[str, Any]


def training(config: ConfigDict, mesh: Mesh | AbstractMesh, bucket: tuple[int, int], inputs: str) -> Program:
    """The training step of the config's stage; ValueError where the config does not say all that it depends on."""
    system = abstract_system(config, mesh)
    stage = STAGES[config.train.stage](config, Path("plan"), system)
    boxed = system.boxed()
    adamw, _ = updates(config, boxed)
    abstract, layout = state_shardings(boxed, adamw, mesh, jax.random.key(0))
    step = make_step(stage.loss_fn, adamw, ema=config.train.ema, accumulate=config.train.accumulate)
    frozen = {name: tree for name, tree in {**system.frozen, **stage.frozen}.items() if _used(name, inputs)}
    batch = abstract_batch(config, system, mesh, bucket, inputs)
    compiled = compile_step(step, layout, mesh)
    return Program(compiled, step, stage.loss_fn, with_shardings(abstract, layout), frozen, batch)


def abstract_system(config: ConfigDict, mesh: Mesh | AbstractMesh) -> System:
    """The networks of config.model, those that config.init names as shapes; every one needs its section.

    The tokenizer and the statistics of latents, which the program does not depend on, are stand-ins.
    """
    dtype, modules = jnp.dtype(config.train.dtype), networks(config)
    trainable = tuple(config.train.trainable)
    loaded = {}
    for name in config.init:
        kept = jnp.float32 if name in trainable else dtype
        boxed = abstract_params(modules, [name])[name]
        loaded[name] = jax.tree.map(
            lambda leaf, at, kept=kept: jax.ShapeDtypeStruct(leaf.shape, kept, sharding=at),
            nn.unbox(boxed),
            sharding.shardings(boxed, mesh),
        )
    tokenizer = importlib.resources.files("dalle3_jax.data.scenes") / "tokenizer.json"
    releases = {
        name: Release({name: modules[name]}, {}, tokenizer=tokenizer.read_text("utf-8")) for name in config.init
    }
    if vae := modules.get("vae"):
        releases["vae"] = Release({"vae": vae}, {}, plain_latent(vae))
    return System(modules, loaded, releases, trainable)


def networks(config: ConfigDict) -> dict[str, nn.Module]:
    """The networks of config.model; ValueError where config.init names one that has no section there."""
    modules = build_models(plain(config.model), jnp.dtype(config.train.dtype))
    if missing := sorted(set(config.init) - set(modules)):
        raise ValueError(
            f"config.init names {', '.join(missing)} without sections in config.model: a plan opens no weights, "
            "so give the networks' fields there (configs/paper_256.py does)"
        )
    return modules


def plain_latent(vae: Any) -> Latent:
    """A VAE's latents as they are: what scales them is not part of a program's cost."""
    channels = vae.latent_channels
    return Latent(channels, vae.factor, (0.0,) * channels, (1.0,) * channels)


def devices_of(where: Topology) -> Sequence[Any]:
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


def unplaced(tree: Any) -> Any:
    """The shapes without their shardings."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def abstract_batch(
    config: ConfigDict, system: System, mesh: Mesh | AbstractMesh, bucket: tuple[int, int], inputs: str
) -> dict[str, jax.ShapeDtypeStruct]:
    """The shapes of a global batch of one bucket."""
    rows, length = config.train.batch_size, config.data.text_length
    height, width = (config.data.crop or side for side in bucket)
    text, vae = system.modules.get("text_encoder"), system.modules["vae"]
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {}
    if inputs == "images":
        shapes["images"] = (height, width, 3), jnp.float32
    else:
        shapes["latents"] = (height // vae.factor, width // vae.factor, vae.latent_channels), jnp.float32
    if text is not None:
        shapes |= {"mask": ((length,), jnp.bool_), "sizes": ((6,), jnp.float32)}
        if inputs == "features":
            shapes["features"] = (length, text.width), jnp.dtype(config.train.dtype)
        else:
            shapes["ids"] = (length,), jnp.int32
    place = sharding.batch_sharding(mesh)
    return {name: jax.ShapeDtypeStruct((rows, *shape), kind, sharding=place) for name, (shape, kind) in shapes.items()}


def _used(name: str, inputs: str) -> bool:
    """Whether batches of this kind leave the network something to do."""
    return not ((name == "vae" and inputs != "images") or (name == "text_encoder" and inputs == "features"))
