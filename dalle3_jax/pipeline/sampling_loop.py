"""The sampling loop of a batch of requests: from their seeds and conditions to latents."""

from collections.abc import Callable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh

from dalle3_jax.diffusion import spacing as spacings
from dalle3_jax.diffusion.samplers import SAMPLERS, past_outputs
from dalle3_jax.models.condition import Condition
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import Request
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Float, Params

__all__ = ["StepProgress", "run_sampling_loop"]

StepProgress = Callable[[int, Float[Array, "b h w c"]], None]
"""(steps of this batch done, the present estimate of its clean latents)."""


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
    """Latents of requests of one size and sampling, a row each, in one call of the program or about ten."""
    height, width = (side // system.latent.factor for side in requests[0].size)
    sampling = requests[0].sampling
    system = system.with_spacing(sampling.spacing)
    steps, sampler = sampling.steps, sampling.sampler
    std = np.float32(spacings.initial_noise_std(system.schedule, steps, system.spacing, sampler))
    seeds = shard_rows(np.asarray([request.seed for request in requests], np.uint32), mesh)
    shape, past = (height, width, system.latent.channels), past_outputs(SAMPLERS[sampler])
    state, keys = programs.start(seeds, std, shape=shape, past=past)
    guides = [request.guidance for request in requests]
    rows = np.asarray([(guide.scale, *guide.interval, guide.rescale) for guide in guides], np.float32)
    # A UNet that takes the scale itself has no null pass.
    guided = condition, None if system.unet.guidance_width else null, programs.GuidanceRows(*rows.T)
    inputs = shard_rows(guided if any(guide.scale != 1 for guide in guides) else (condition, None, None), mesh)
    count = programs.steps_per_chunk(steps) if progress else steps
    for first in range(0, steps, count):
        with programs.batch_over_mesh(mesh, len(requests)):
            state = programs.advance(
                params,
                *inputs,
                state,
                keys,
                np.int32(first),
                system=system,
                sampler=sampler,
                steps=steps,
                count=count,
            )
        if progress:
            progress(first + count, jax.block_until_ready(state.x0))
    return state.x
