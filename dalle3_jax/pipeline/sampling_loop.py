"""The sampling loop of a batch of requests: from their seeds and conditions to latents."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from dalle3_jax.diffusion.samplers import SAMPLERS, SamplerState, evaluates_between, past_outputs
from dalle3_jax.diffusion.spacing import Spacing, initial_noise_std, pad_times
from dalle3_jax.models.condition import Condition, ProjectedCondition
from dalle3_jax.pipeline import programs
from dalle3_jax.pipeline.denoisers import GuidanceRows, KnownRows
from dalle3_jax.pipeline.edit_settings import begin_step
from dalle3_jax.pipeline.image_prompts import ImageRows, add_image_rows
from dalle3_jax.pipeline.mesh_rows import shard_rows
from dalle3_jax.pipeline.request import Guidance, Request
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.typing import Array, Bool, Float, Params

__all__ = [
    "EditInputs",
    "StepProgress",
    "gated_steps",
    "guided_steps",
    "plan_pieces",
    "run_sampling_loop",
    "split_loop",
]

StepProgress = Callable[[int, Float[Array, "b h w c"]], None]
"""(steps of this batch done, the present estimate of its clean latents)."""


class EditInputs(NamedTuple):
    """Inputs of a loop in place of noise: latents of images, and where there is a mask, that of their cells.

    `beside` are the latents that an inpainting UNet is shown: of the images without what is in the mask. With a
    `source`, the condition of what the images show, their noise is found by inversion instead of drawn.
    """

    latents: Float[Array, "b h w c"]
    mask: Float[Array, "b h w 1"] | None = None
    beside: Float[Array, "b h w c"] | None = None
    source: Condition | None = None


class Piece(NamedTuple):
    """Steps of the loop that run as one call: which is the first, how many, whether any image is guided there, and
    whether what the text adds is frozen."""

    first: int
    steps: int
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
    edit: EditInputs | None = None,
    image: ImageRows | None = None,
) -> Float[Array, "b h w c"]:
    """Latents of requests of one size and sampling, a row each, in one call of the program or about ten.

    Programs are compiled for shapes and samplers, not for numbers of steps: a call is given the loop's times.

    The null condition is evaluated only in steps in which a request is guided; another program runs the others. A UNet
    that reads the guidance scale never evaluates it. Requests that begin with images begin at one step, and are given
    them as `edit`; those with image prompts all have one, of the rows `image`.
    """
    sampling = requests[0].sampling
    steps, begin = sampling.steps, begin_step(requests[0].edit, sampling.steps)
    most = programs.steps_per_chunk(steps - begin) if progress else steps
    times, pieces = plan_pieces(system, requests, most, begin)
    spacing = system.with_spacing(sampling.spacing).spacing
    std = np.float32(initial_noise_std(system.schedule, steps, spacing, sampling.sampler))
    system = dataclasses.replace(system, spacing=Spacing())  # programs are given times, however they are spaced
    unet = {"unet": params["unet"]}  # programs are given what they read alone: each array is a part of what is kept
    state, keys, known = _start(unet, requests, times, std, edit, system, mesh)
    guide = guidance_rows([request.guidance for request in requests])
    condition, null, guide, image = shard_rows((condition, null, guide, image), mesh)

    @functools.cache
    def rows_of(guided: bool) -> ProjectedCondition:
        rows = programs.project_rows(unet, condition, null if guided else None, system=system)
        if image is None or system.image_prompt is None:
            return rows
        return add_image_rows(params["image_prompt"], rows, image, prompt=system.image_prompt)

    @functools.cache
    def frozen(guided: bool) -> ProjectedCondition:
        return programs.freeze_text(unet, rows_of(guided), state.x, times[piece.first], known, system=system)

    padded = pad_times(times)
    reads_scale = system.unet.guidance_width > 0
    ever_guided = not reads_scale and any(request.guidance.scale != 1 for request in requests)
    for piece in pieces:
        with programs.batch_over_mesh(mesh, len(requests)):
            state = programs.advance(
                unet,
                frozen(ever_guided) if piece.gated else rows_of(piece.guided),
                guide if piece.guided or reads_scale else None,
                state,
                keys,
                padded,
                np.int32(piece.first),
                np.int32(piece.steps),
                np.int32(begin),
                known,
                system=system,
                sampler=sampling.sampler,
                deep_cache=sampling.deep_cache,
            )
        if progress:
            progress(piece.first - begin + piece.steps, jax.block_until_ready(state.x0))
    if known is None or known.beside is not None:
        return state.x
    # A loop that ends above t = 0 leaves noise; what stays has none.
    return known.mask * state.x + (1 - known.mask) * known.latents


def _start(
    params: Params,
    requests: Sequence[Request],
    times: Float[np.ndarray, " points"],
    std: np.float32,
    edit: EditInputs | None,
    system: PipelineSpec,
    mesh: Mesh | None,
) -> tuple[SamplerState, Array, KnownRows | None]:
    """The state at the first step, the keys of the loop, and what stays as it is."""
    past = past_outputs(SAMPLERS[requests[0].sampling.sampler])
    seeds = shard_rows(np.asarray([request.seed for request in requests], np.uint32), mesh)
    if edit is None:
        height, width = (side // system.latent.factor for side in requests[0].size)
        state, keys = programs.start(seeds, std, shape=(height, width, system.latent.channels), past=past)
        return state, keys, None
    begin = begin_step(requests[0].edit, len(times) - 1)
    if edit.source is not None:
        source, rest = shard_rows(edit.source, mesh), times[begin:]
        padded, count = pad_times(rest[::-1])[::-1], np.int32(len(rest) - 1)
        with programs.batch_over_mesh(mesh, len(requests)):
            state, keys = programs.start_inverted(
                params, source, seeds, edit.latents, padded, count, system=system, past=past
            )
        return state, keys, None
    state, keys, noise = programs.start_late(
        seeds, std, edit.latents, times[begin], np.int32(begin), system=system, past=past
    )
    known = None if edit.mask is None else KnownRows(edit.latents, edit.mask, noise, edit.beside)
    return state, keys, known


def plan_pieces(
    system: PipelineSpec, requests: Sequence[Request], most: int, begin: int = 0
) -> tuple[Float[np.ndarray, " points"], list[Piece]]:
    """The times of the loop of requests of one sampling, and its pieces of about `most` steps from step `begin` on."""
    sampling, guides = requests[0].sampling, [request.guidance for request in requests]
    times = system.loop_times(sampling)
    # A UNet that reads the guidance scale has no null pass.
    guides = [] if system.unet.guidance_width else guides
    guided = guided_steps(times[begin:], guides, evaluates_between(sampling.sampler))
    gated = gated_steps(times[begin:], sampling.text_gate)
    pieces = split_loop(guided, most, gated, sampling.deep_cache)
    return times, [piece._replace(first=begin + piece.first) for piece in pieces]


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
    columns: list[Any] = [[guide.scale for guide in guides], *zip(*(guide.interval for guide in guides), strict=True)]
    columns.append([guide.rescale for guide in guides])
    if any(guide.is_projected for guide in guides):
        columns += [[guide.parallel for guide in guides], [guide.norm for guide in guides]]
    rows: list[Any] = [np.asarray(column, np.float32) for column in columns]
    return GuidanceRows(*rows)


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
