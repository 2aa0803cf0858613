"""The programs of an upscaler: noise, steps of its sampling loop in overlapping windows, and images.

Every evaluation of the network is cut into windows, not the image: the noise is that of the whole, and the windows'
estimates of x0 fade into each other at every step, so that no seam has a step to grow in (MultiDiffusion, arXiv
2302.08113, with a linear blend). x0 is linear in the network's output, so that outputs are blended.
"""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from dalle3_jax.checkpoints.latents import Latent
from dalle3_jax.checkpoints.upscaler_settings import UpscalerSettings
from dalle3_jax.diffusion import consistency, guidance, prediction, samplers, schedules
from dalle3_jax.diffusion import spacing as spacings
from dalle3_jax.diffusion.spacing import pad_times
from dalle3_jax.models.condition import Condition
from dalle3_jax.models.unet import UNet
from dalle3_jax.models.unet_call import whole_image_sizes
from dalle3_jax.models.upscaler import apply_upscaler
from dalle3_jax.pipeline.programs import fold_in_purpose, image_keys
from dalle3_jax.pipeline.tiling import apply_in_tiles
from dalle3_jax.typing import Array, Float, Int, Params

__all__ = ["UpscalerSpec", "UpscalingState", "advance_upscaling", "decode_upscaled", "start_upscaling"]

UPSCALER = 16
"""What of an image's noise its upscaler's key is for, the next numbers for later passes; behind `programs.DECODER`."""

ROWS = (None, "height", None, None)
"""The logical axes of images whose rows are split."""

INITIAL, LOOP, LOW_RESOLUTION = 0, 1, 2
"""What of the upscaler's noise a key is for."""


@dataclass(frozen=True)
class UpscalerSpec:
    """The static half of an upscaler, hashable; `times` are where a consistency model is evaluated, else ()."""

    module: UNet
    factor: int
    schedule: schedules.Schedule
    prediction: str
    noise_schedule: schedules.Schedule
    sampler: str
    steps: int
    spacing: spacings.Spacing
    times: tuple[float, ...]
    clamp: bool
    temperature: float
    latent: Latent | None
    vae: nn.Module | None

    @classmethod
    def from_settings(
        cls, module: UNet, settings: UpscalerSettings, vae: nn.Module | None = None, steps: int | None = None
    ) -> "UpscalerSpec":
        """The upscaler that a release describes, at its own number of steps or at another.

        Raises ValueError for steps that cannot be spaced, and for latents without their VAE.
        """
        if settings.latent and vae is None:
            raise ValueError("this upscaler works in latents, and the VAE that decodes them is missing")
        schedule = schedules.build_schedule(settings.schedule)
        prediction.check_prediction(schedule, settings.prediction)
        steps, times, sampler, spacing = steps or settings.steps, (), settings.sampler, spacings.Spacing()
        if settings.kind == "consistency":
            own = settings.times if steps == len(settings.times) else ()
            times, sampler = own or consistency.consistency_times(settings.top, steps), "consistency"
            consistency.check_consistency_times(times, settings.top)
        else:
            spacing = spacings.build_spacing(settings.spacing)
            if errors := spacings.spacing_errors(schedule, steps, spacing, sampler):
                raise ValueError("; ".join(errors))
        return cls(
            module,
            settings.factor,
            schedule,
            settings.prediction,
            schedules.build_schedule(settings.noise_schedule),
            sampler,
            steps,
            spacing,
            times,
            settings.clamp,
            settings.temperature,
            settings.latent,
            vae,
        )

    @property
    def cell(self) -> int:
        """Pixels of the output along one cell of the coarser of the two grids, the input's and the latents'."""
        return max(self.factor, self.latent.factor if self.latent else 1)

    @property
    def multiple(self) -> int:
        """The number of which the sides of the output must be multiples."""
        return max(self.cell, self.module.patch)

    @property
    def alignment(self) -> int:
        """Pixels that the network shrinks to one: windows that begin at multiples of these shrink like the whole."""
        finest = self.latent.factor if self.latent else self.module.patch
        return max(self.cell, finest * 2 ** (len(self.module.levels) - 1))

    def halo(self, tile: int) -> int:
        """The cells at each edge of a window of so many that only serve what lies further in: an eighth, aligned."""
        step = self.alignment // self.cell
        return -(-tile // (8 * step)) * step

    def loop_times(self) -> Float[Array, " points"]:
        """The time at which each step starts, and the end."""
        if self.times:
            return jnp.asarray((*self.times, 0.0))
        return spacings.sampling_times(self.schedule, self.steps, self.spacing, self.sampler)

    def initial_std(self) -> Float[Array, ""] | float:
        """The standard deviation of the first x."""
        if self.times:
            return self.temperature * self.schedule.sigma(jnp.asarray(self.times[0]))
        return spacings.initial_noise_std(self.schedule, self.steps, self.spacing, self.sampler)

    def without_steps(self) -> "UpscalerSpec":
        """The upscaler at any number of steps: what its programs are compiled for, which are given the loop's times."""
        return replace(self, steps=0, spacing=spacings.Spacing(), times=())

    def noise_time(self, level: Float[Array, " b"]) -> Float[Array, " b"]:
        """The time of `noise_schedule` of levels in thousandths: a table's own entries where it is one."""
        steps = self.noise_schedule.steps
        return (level + 1) / steps if steps else level / 1000


@contextlib.contextmanager
def rows_over_mesh(split: bool) -> Iterator[None]:
    """Within a program, the rows of every image lie over all devices of the mesh in use, where `split` asks for it."""
    axes = jax.sharding.get_abstract_mesh().axis_names
    with nn.logical_axis_rules((("height", axes),)) if split else contextlib.nullcontext():
        yield


class UpscalingState(NamedTuple):
    """A sampling loop, the keys of its steps, the noised low-resolution images and what the network is told of them."""

    loop: samplers.SamplerState
    keys: Array
    low: Float[Array, "b h_low w_low 3"]
    noise_level: Float[Array, " b"]


def start_upscaling(
    low: Float[Any, "b h_low w_low 3"],
    level: Float[Any, " b"],
    seeds: Any,
    *,
    number: int = 0,
    spec: UpscalerSpec,
    split: bool = False,
) -> UpscalingState:
    """The state before the first step of a pass; an image's noise depends on its seed and the pass's number alone."""
    _, std = _loop_inputs(spec)
    return _start_upscaling(low, level, seeds, std, number=number, spec=spec.without_steps(), split=split)


@functools.lru_cache(64)
def _loop_inputs(spec: UpscalerSpec) -> tuple[Float[np.ndarray, " points"], np.float32]:
    """The times of a loop, padded, and the standard deviation of its first x."""
    times, std = _compute_loop_inputs(spec)
    return pad_times(np.asarray(times)), np.float32(std)


@functools.partial(jax.jit, static_argnums=0)
def _compute_loop_inputs(spec: UpscalerSpec) -> tuple[Float[Array, " points"], Float[Array, ""]]:
    return spec.loop_times(), jnp.asarray(spec.initial_std(), jnp.float32)


@functools.partial(jax.jit, static_argnames=("number", "spec", "split"))
def _start_upscaling(
    low: Float[Array, "b h_low w_low 3"],
    level: Float[Array, " b"],
    seeds: Array,
    std: Float[Array, ""],
    *,
    number: int,
    spec: UpscalerSpec,
    split: bool,
) -> UpscalingState:
    keys = fold_in_purpose(image_keys(seeds), UPSCALER + number)
    height, width = (side * spec.factor // (spec.latent.factor if spec.latent else 1) for side in low.shape[1:3])
    channels = spec.latent.channels if spec.latent else 3
    x = std * samplers.noise(fold_in_purpose(keys, INITIAL), (height, width, channels))
    t = spec.noise_time(level)
    alpha, sigma = (rows[:, None, None, None] for rows in (spec.noise_schedule.alpha(t), spec.noise_schedule.sigma(t)))
    noised = alpha * low + sigma * samplers.noise(fold_in_purpose(keys, LOW_RESOLUTION), low.shape[1:])
    noise_level = spec.noise_schedule.network_time(t)
    with rows_over_mesh(split):
        x, noised = (nn.with_logical_constraint(part, ROWS) for part in (x, noised))
    past = samplers.past_outputs(samplers.SAMPLERS[spec.sampler])
    return UpscalingState(samplers.initial_state(x, past), fold_in_purpose(keys, LOOP), noised, noise_level)


def advance_upscaling(
    params: Params,
    condition: Condition,
    null: Condition | None,
    guidance_scale: Float[Any, " b"],
    state: UpscalingState,
    first: int | Int[Any, ""],
    *,
    spec: UpscalerSpec,
    count: int,
    tile: int = 0,
    split: bool = False,
) -> UpscalingState:
    """Steps first to first + count - 1 of the loop, guided away from `null` where it is given.

    `tile` is the side of the windows in which the network is evaluated, in cells of the coarser grid; 0: the whole.
    `split` spreads the rows of every image over the devices of the mesh in use. Programs are compiled for shapes, not
    for numbers of steps.
    """
    times, _ = _loop_inputs(spec)
    inputs = params, condition, null, guidance_scale, state, times, first, np.int32(count)
    return _advance_upscaling(*inputs, spec=spec.without_steps(), tile=tile, split=split)


@functools.partial(jax.jit, static_argnames=("spec", "tile", "split"))
def _advance_upscaling(
    params: Params,
    condition: Condition,
    null: Condition | None,
    guidance_scale: Float[Array, " b"],
    state: UpscalingState,
    times: Float[Array, " points"],
    first: Int[Array, ""],
    count: Int[Array, ""],
    *,
    spec: UpscalerSpec,
    tile: int,
    split: bool,
) -> UpscalingState:
    rows, low, level = condition, state.low, state.noise_level
    if null is not None:
        rows = jax.tree.map(lambda one, other: jnp.concatenate([one, other]), condition, null)
        low, level = jnp.concatenate([low, low]), jnp.concatenate([level, level])
    height, width = (spec.factor * side for side in low.shape[1:3])
    sizes = whole_image_sizes(len(low), height, width) if spec.module.size_ids else None

    def evaluate(x_t: Array, t: Array, low: Array, level: Array) -> Array:
        return apply_upscaler(spec.module, params, x_t, t, low, level, rows, sizes)

    whole = apply_in_tiles(evaluate, tile=tile, halo=spec.halo(tile)) if tile else evaluate
    denoise = prediction.denoiser(lambda x_t, t: whole(x_t, t, low, level), spec.schedule, spec.prediction, spec.clamp)
    if null is not None:
        denoise = guidance.classifier_free(denoise, guidance_scale, spec.schedule)
    step = samplers.find_step(spec.sampler, spec.prediction)
    if spec.sampler == "consistency":
        step = functools.partial(samplers.consistency, temperature=spec.temperature)
    with rows_over_mesh(split):
        loop = samplers.advance(step, denoise, spec.schedule, state.loop, times, state.keys, first, count)
        return state._replace(loop=loop._replace(x=nn.with_logical_constraint(loop.x, ROWS)))


def decode_upscaled(
    params: Params | None, x0: Float[Array, "b h w c"], *, spec: UpscalerSpec, tile: int = 0, split: bool = False
) -> Float[Array, "b H W 3"]:
    """Images in about [-1, 1] of what the loop ends with: itself, or what the VAE makes of it.

    `tile` is the side of the VAE's windows in its own cells; 0: the whole.
    """
    if spec.latent is None or spec.vae is None or params is None:
        return x0
    return _decode_upscaled(params, x0, vae=spec.vae, latent=spec.latent, tile=tile, split=split)


@functools.partial(jax.jit, static_argnames=("vae", "latent", "tile", "split"))
def _decode_upscaled(
    params: Params, x0: Float[Array, "b h w c"], *, vae: nn.Module, latent: Latent, tile: int, split: bool
) -> Float[Array, "b H W 3"]:
    def decode(latents: Array) -> Any:
        return vae.apply({"params": params}, latents, method="decode")

    whole = apply_in_tiles(decode, tile=tile, halo=tile // 8) if tile else decode
    with rows_over_mesh(split):
        return nn.with_logical_constraint(whole(latent.denormalise(x0)), ROWS)
