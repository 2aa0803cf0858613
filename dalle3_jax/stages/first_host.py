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


def on_first_host(
    context: Context,
    stage: Stage,
    ema: Params,
    use: Callable[[Stage, Params], T],
    handle: Callable[[Exception], Exception] = lambda error: error,
) -> T | None:
    """`use(stage, ema)`; of several processes the first alone calls it, and the others wait and get None.

    All of them give their parts of the parameters; the first lays them over its own devices, and builds a stage of
    what lies there. All processes must call this at the same step. What fails in the first one's work is an error on
    all of them, elsewhere one that refers to its log: all call `handle` with it, together, and raise what that returns.
    What fails before, as they gather, is raised on the process where it fails, and not handled.
    """
    loaded, average = processes.gather_params(context.networks.loaded), processes.gather_params(ema)
    result, error = None, None
    if jax.process_index() == 0:
        try:
            alone = jax.process_count() == 1
            result = use(stage, ema) if alone else use_on_own_devices(context, loaded, average, use)
        except Exception as caught:
            error = caught
    processes.barrier("the first host has done its work")
    if error := share_error(error):
        raise handle(error)
    return result


def use_on_own_devices(context: Context, loaded: Params, ema: Params, use: Callable[[Stage, Params], T]) -> T:
    """`use` of a stage and parameters, given in memory, that lie on this process's devices alone."""
    networks, mesh = context.networks, sharding.make_mesh({"fsdp": -1}, jax.local_devices())
    with jax.set_mesh(mesh):
        own = replace(networks, loaded=place_params(loaded, networks, mesh))
        return use(build_stage(replace(context, networks=own)), place_params(ema, networks, mesh))


def share_error(error: Exception | None) -> Exception | None:
    """The first process's error there; on the others one that ends them with the same code; None where it has none."""
    failed = processes.from_first_process(error is not None)
    kind = ValueError if processes.from_first_process(isinstance(error, ValueError)) else OSError
    return error or (kind("process 0 failed at what it does alone: its log says why") if failed else None)


def place_params(params: Params, networks: StageNetworks, mesh: Mesh) -> Params:
    """Parameters in memory, on the devices of the mesh as the networks' axes say."""
    return jax.device_put(params, sharding.param_shardings(abstract_params(networks.modules, params.keys()), mesh))
