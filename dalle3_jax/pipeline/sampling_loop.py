"""The sampling loop of a batch of requests: from their seeds and conditions to latents."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dalle3_jax.diffusion import spacing as spacings
from dalle3_jax.diffusion.samplers import SAMPLERS, evaluates_between, past_outputs
from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.denoisers import GuidanceRows
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import Guidance, Request
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Bool, Float, Params

__all__ = ["StepProgress", "gated_steps", "guided_steps", "plan_pieces", "run_sampling_loop", "split_loop"]

StepProgress = Callable[[int, Float[Array, "b h w c"]], None]
"""(steps of this batch done, the present estimate of its clean latents)."""


class Piece(NamedTuple):
    """Steps of the loop that run as one call: which is the first, how many, whether any image is guided there, and
    whether what the text adds is frozen."""

    first: int
    count: int
    guided: bool
    gated: bool = False


def run_sampling_loop(
    params: Params,
    condition: Condition,
    null: Condition,
    requests: Sequence[Request],
    *,
    system: PipelineSpec,
    mesh: Mesh | None = None,
    progress: StepProgress | None = None,
) -> Float[Array, "b h w c"]:
    """Latents of requests of one size and sampling, a row each, in one call of the program or about ten.

    The null condition is evaluated only in steps in which a request is guided; another program runs the others. A UNet
    that reads the guidance scale never evaluates it.
    """
    height, width = (side // system.latent.factor for side in requests[0].size)
    sampling = requests[0].sampling
    system = system.with_spacing(sampling.spacing)
    steps, sampler = sampling.steps, sampling.sampler
    std = np.float32(spacings.initial_noise_std(system.schedule, steps, system.spacing, sampler))
    seeds = shard_rows(np.asarray([request.seed for request in requests], np.uint32), mesh)
    shape, past = (height, width, system.latent.channels), past_outputs(SAMPLERS[sampler])
    state, keys = programs.start(seeds, std, shape=shape, past=past)
    guide = guidance_rows([request.guidance for request in requests])
    condition, null, guide = shard_rows((condition, null, guide), mesh)

    @functools.cache
    def projected(guided: bool) -> ProjectedCondition:
        return programs.project_rows(params, condition, null if guided else None, system=system)

    @functools.cache
    def frozen(guided: bool) -> ProjectedCondition:
        return programs.freeze_text(params, projected(guided), state.x, times[piece.first], system=system)

    times, pieces = plan_pieces(system, requests, programs.steps_per_chunk(steps) if progress else steps)
    reads_scale = system.unet.guidance_width > 0
    ever_guided = not reads_scale and any(request.guidance.scale != 1 for request in requests)
    for piece in pieces:
        with programs.batch_over_mesh(mesh, len(requests)):
            state = programs.advance(
                params,
                frozen(ever_guided) if piece.gated else projected(piece.guided),
                guide if piece.guided or reads_scale else None,
                state,
                keys,
                np.int32(piece.first),
                np.int32(piece.count),
                system=system,
                sampler=sampler,
                steps=steps,
                deep_cache=sampling.deep_cache,
            )
        if progress:
            progress(piece.first + piece.count, jax.block_until_ready(state.x0))
    return state.x


def plan_pieces(
    system: PipelineSpec, requests: Sequence[Request], most: int
) -> tuple[Float[np.ndarray, " points"], list[Piece]]:
    """The times of the loop of requests of one sampling, and its pieces of about `most` steps."""
    sampling, guides = requests[0].sampling, [request.guidance for request in requests]
    times = np.asarray(
        spacings.sampling_times(system.schedule, sampling.steps, system.spacing, sampling.sampler), np.float32
    )
    # A UNet that reads the guidance scale has no null pass.
    guides = [] if system.unet.guidance_width else guides
    guided = guided_steps(times, guides, evaluates_between(sampling.sampler))
    gated = gated_steps(times, sampling.text_gate)
    return times, list(split_loop(guided, most, gated, sampling.deep_cache))


def guided_steps(
    times: Float[np.ndarray, " points"], guides: Sequence[Guidance], between: bool
) -> Bool[np.ndarray, " steps"]:
    """The steps in which the guidance of any image may act: at their start or, with `between`, up to their end.

    An interval counts as wider by a hair, since the program may round its times otherwise; the scale at each time is
    the program's to choose.
    """
    hair = 1e-5
    start, end = times[:-1], times[1:] if between else times[:-1]
    acts = np.zeros(len(start), bool)
    for guide in guides:
        first, last = guide.interval
        if guide.scale != 1:
            acts |= (start >= first - hair) & (end <= last + hair)
    return acts


def gated_steps(times: Float[np.ndarray, " points"], gate: float) -> Bool[np.ndarray, " steps"]:
    """The steps that begin below the time `gate`: all of them but the first at most."""
    return (times[:-1] < gate) & (np.arange(len(times) - 1) > 0)


def guidance_rows(guides: Sequence[Guidance]) -> GuidanceRows:
    """The values of every image; those of adaptive projected guidance only where one has it."""
    columns = [[guide.scale for guide in guides], *zip(*(guide.interval for guide in guides), strict=True)]
    columns.append([guide.rescale for guide in guides])
    if any(guide.projected for guide in guides):
        columns += [[guide.parallel for guide in guides], [guide.norm for guide in guides]]
    return GuidanceRows(*(np.asarray(column, np.float32) for column in columns))


def split_loop(
    guided: Bool[np.ndarray, " steps"], most: int, gated: Bool[np.ndarray, " steps"] | None = None, every: int = 1
) -> Iterator[Piece]:
    """Pieces of about `most` steps, cut where guidance begins or ends and where the text is frozen.

    Groups of `every` steps, which share features, stay whole: guided where one of them is, gated where all are. Gated
    steps are not guided.
    """
    starts = range(0, len(guided), every)
    groups = [
        (guided[start : start + every].any(), gated is not None and gated[start : start + every].all())
        for start in starts
    ]
    at_once = -(-most // every)
    kinds = [
        (number // at_once, bool(acts and not frozen), bool(frozen)) for number, (acts, frozen) in enumerate(groups)
    ]
    for (_, acts, frozen), group in itertools.groupby(enumerate(kinds), lambda group: group[1]):
        numbers = [number for number, _ in group]
        first, end = numbers[0] * every, min((numbers[-1] + 1) * every, len(guided))
        yield Piece(first, end - first, acts, frozen)
