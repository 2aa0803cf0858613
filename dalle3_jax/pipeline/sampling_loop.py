"""The sampling loop of a batch of requests: from their seeds and conditions to latents."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dalle3_jax.diffusion import spacing as spacings
from dalle3_jax.diffusion.samplers import SAMPLERS, SamplerState, past_outputs
from dalle3_jax.models.condition import Condition
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.edit_settings import begin_step
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import Request
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Float, Params

__all__ = ["EditInputs", "StepProgress", "run_sampling_loop"]

StepProgress = Callable[[int, Float[Array, "b h w c"]], None]
"""(steps of this batch done, the present estimate of its clean latents)."""


class EditInputs(NamedTuple):
    """What a loop begins with in place of noise: latents of images, and where there is a mask, that of their cells.

    `beside` are the latents that an inpainting UNet is shown: of the images without what is in the mask. With a
    `source`, the condition of what the images show, their noise is found by inversion instead of drawn.
    """

    latents: Float[Array, "b h w c"]
    mask: Float[Array, "b h w 1"] | None = None
    beside: Float[Array, "b h w c"] | None = None
    source: Condition | None = None


def run_sampling_loop(
    params: Params,
    condition: Condition,
    null: Condition,
    requests: Sequence[Request],
    *,
    system: PipelineSpec,
    mesh: Mesh | None = None,
    progress: StepProgress | None = None,
    edit: EditInputs | None = None,
) -> Float[Array, "b h w c"]:
    """Latents of requests of one size and sampling, a row each, in one call of the program or about ten.

    Those that begin with images begin at one step, and are given them as `edit`.
    """
    sampling = requests[0].sampling
    system = system.with_spacing(sampling.spacing)
    steps, sampler = sampling.steps, sampling.sampler
    state, keys, known = _start(params, requests, edit, system, mesh)
    guides = [request.guidance for request in requests]
    rows = np.asarray([(guide.scale, *guide.interval, guide.rescale) for guide in guides], np.float32)
    # A UNet that takes the scale itself has no null pass.
    guided = condition, None if system.unet.guidance_width else null, programs.GuidanceRows(*rows.T)
    inputs = shard_rows(guided if any(guide.scale != 1 for guide in guides) else (condition, None, None), mesh)
    begin = begin_step(requests[0].edit, steps)
    count = programs.steps_per_chunk(steps - begin) if progress else steps - begin
    for first in range(begin, steps, count):
        with programs.batch_over_mesh(mesh, len(requests)):
            state = programs.advance(
                params,
                *inputs,
                state,
                keys,
                np.int32(first),
                np.int32(count),
                np.int32(begin),
                known,
                system=system,
                sampler=sampler,
                steps=steps,
            )
        if progress:
            progress(first - begin + count, jax.block_until_ready(state.x0))
    if known is None or known.beside is not None:
        return state.x
    # A loop that ends above t = 0 leaves noise; what stays has none.
    return known.mask * state.x + (1 - known.mask) * known.latents


def _start(
    params: Params,
    requests: Sequence[Request],
    edit: EditInputs | None,
    system: PipelineSpec,
    mesh: Mesh | None,
) -> tuple[SamplerState, Array, programs.KnownRows | None]:
    """The state at the first step, the keys of the loop, and what stays as it is."""
    sampling = requests[0].sampling
    steps, sampler, past = sampling.steps, sampling.sampler, past_outputs(SAMPLERS[sampling.sampler])
    std = np.float32(spacings.initial_noise_std(system.schedule, steps, system.spacing, sampler))
    seeds = shard_rows(np.asarray([request.seed for request in requests], np.uint32), mesh)
    if edit is None:
        height, width = (side // system.latent.factor for side in requests[0].size)
        state, keys = programs.start(seeds, std, shape=(height, width, system.latent.channels), past=past)
        return state, keys, None
    begin = np.int32(begin_step(requests[0].edit, steps))
    loop: dict[str, Any] = {"system": system, "sampler": sampler, "steps": steps, "past": past}
    if edit.source is not None:
        source = shard_rows(edit.source, mesh)
        with programs.batch_over_mesh(mesh, len(requests)):
            state, keys = programs.start_inverted(params, source, seeds, edit.latents, begin, **loop)
        return state, keys, None
    state, keys, noise = programs.start_late(seeds, std, edit.latents, begin, **loop)
    known = None if edit.mask is None else programs.KnownRows(edit.latents, edit.mask, noise, edit.beside)
    return state, keys, known
