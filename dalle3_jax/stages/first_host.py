"""The work of one host for all: previews and releases, from parameters that lie on every host's devices."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import jax
from jax.sharding import Mesh

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.runtime import processes
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage
from dalle3_jax.stages.table import build_stage
from dalle3_jax.training import sharding
from dalle3_jax.typing import Params

__all__ = ["on_first_host"]

T = TypeVar("T")


def on_first_host(context: Context, stage: Stage, ema: Params, use: Callable[[Stage, Params], T]) -> T | None:
    """`use(stage, ema)`; of several processes the first alone calls it, and the others wait and get None.

    All of them give their parts of the parameters; the first lays them over its own devices, and builds a stage of
    what lies there. All processes must call this at the same step. What fails on the first is raised there, and an
    OSError on the others.
    """
    if jax.process_count() == 1:
        return use(stage, ema)
    networks = context.networks
    loaded, average = processes.gather_params(networks.loaded), processes.gather_params(ema)
    result, error = None, None
    if jax.process_index() == 0:
        mesh = sharding.make_mesh({"fsdp": -1}, jax.local_devices())
        try:
            with jax.set_mesh(mesh):
                own = replace(networks, loaded=place_params(loaded, networks, mesh))
                result = use(build_stage(replace(context, networks=own)), place_params(average, networks, mesh))
        except Exception as caught:
            error = caught
    processes.barrier("the first host has done its work")
    if processes.from_first_process(error is not None):
        raise error or OSError("process 0 failed at what it does alone: its log says why")
    return result


def place_params(params: Params, networks: StageNetworks, mesh: Mesh) -> Params:
    """Parameters in memory, on the devices of the mesh as the networks' axes say."""
    return jax.device_put(params, sharding.param_shardings(abstract_params(networks.modules, params.keys()), mesh))
