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
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import Guidance, Request
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Bool, Float, Params

__all__ = ["StepProgress", "guided_steps", "run_sampling_loop", "split_loop"]

StepProgress = Callable[[int, Float[Array, "b h w c"]], None]
"""(steps of this batch done, the present estimate of its clean latents)."""


class Piece(NamedTuple):
    """Steps of the loop that run as one call: which is the first, how many, and whether any image is guided there."""

    first: int
    count: int
    guided: bool


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

    The null condition is evaluated only in steps in which a request is guided; another program runs the others.
    """
    height, width = (side // system.latent.factor for side in requests[0].size)
    sampling = requests[0].sampling
    system = system.with_spacing(sampling.spacing)
    steps, sampler = sampling.steps, sampling.sampler
    std = np.float32(spacings.initial_noise_std(system.schedule, steps, system.spacing, sampler))
    seeds = shard_rows(np.asarray([request.seed for request in requests], np.uint32), mesh)
    shape, past = (height, width, system.latent.channels), past_outputs(SAMPLERS[sampler])
    state, keys = programs.start(seeds, std, shape=shape, past=past)
    guides = [request.guidance for request in requests]
    values = np.asarray([(guide.scale, *guide.interval, guide.rescale) for guide in guides], np.float32)
    condition, null, guide = shard_rows((condition, null, programs.GuidanceRows(*values.T)), mesh)

    @functools.cache
    def projected(guided: bool) -> ProjectedCondition:
        return programs.project_rows(params, condition, null if guided else None, system=system)

    times = np.asarray(spacings.sampling_times(system.schedule, steps, system.spacing, sampler))
    guided = guided_steps(times, guides, evaluates_between(sampler))
    for piece in split_loop(guided, programs.steps_per_chunk(steps) if progress else steps):
        with programs.batch_over_mesh(mesh, len(requests)):
            state = programs.advance(
                params,
                projected(piece.guided),
                guide if piece.guided else None,
                state,
                keys,
                np.int32(piece.first),
                np.int32(piece.count),
                system=system,
                sampler=sampler,
                steps=steps,
            )
        if progress:
            progress(piece.first + piece.count, jax.block_until_ready(state.x0))
    return state.x


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


def split_loop(guided: Bool[np.ndarray, " steps"], most: int) -> Iterator[Piece]:
    """Pieces of at most `most` steps, cut at its multiples and where guidance begins or ends."""
    for (_, acts), group in itertools.groupby(enumerate(guided), lambda step: (step[0] // most, bool(step[1]))):
        indices = [index for index, _ in group]
        yield Piece(indices[0], len(indices), acts)
