"""Spacings of the times at which a sampling loop evaluates the network, those of diffusers' schedulers among them.

A schedule with a table of N entries has entry i at t = (i + 1) / N; where it has none, N is 1,000.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from dalle3_jax.diffusion.schedules import Schedule
from dalle3_jax.typing import Array, Float

__all__ = ["SPACINGS", "Spacing", "build_spacing", "initial_noise_std", "pad_times", "sampling_times", "spacing_errors"]

SPACINGS = ("uniform", "trailing", "leading", "linspace", "logsnr", "karras", "skipping")

MULTISTEP = ("dpmsolver++", "dpmsolver++_sde", "unipc")
"""Samplers whose schedulers count the end, entry 0, among the evenly spaced points."""

IN_SIGMA = ("euler", "euler_ancestral", "heun")
"""Samplers whose schedulers step sigma / alpha, leave linspace's points unrounded and scale the first noise."""

ENDING_EARLY = ("ddim", "euler", "pndm", "pndm_prk")
"""Samplers that a spacing which is not `clean` ends at entry 0; the others always end clean."""

KARRAS_RHO = 7.0

POINTS = 1024
"""Loops of fewer steps than this share their programs."""


@dataclasses.dataclass(frozen=True)
class Spacing:
    """The spacing of a loop's times.

    `kind`: "uniform", even in t; "trailing", the same at whole entries of the table; "leading", multiples of a whole
    stride, plus `offset`; "linspace", even from the table's last entry to its first; "logsnr", even in logsnr;
    "karras", even in (sigma / alpha)^(1 / 7) (arXiv 2206.00364 eq. 5), between the first and last time of the kind
    `within` for the samplers IN_SIGMA, and between the table's last and first entry for the others.
    "skipping", every so many of the `original_steps` even entries that a latent consistency model was distilled on.
    `clean`: whether the loop ends at t = 0, or at the table's first entry (see ENDING_EARLY), as with diffusers'
    set_alpha_to_one=False and final_sigmas_type="sigma_min".
    """

    kind: str = "uniform"
    offset: int = 0
    clean: bool = True
    within: str = "linspace"
    original_steps: int = 50


def build_spacing(fields: Mapping[str, Any]) -> Spacing:
    """The spacing with these fields, as a release names them; ValueError if a field or a kind is unknown."""
    known = [field.name for field in dataclasses.fields(Spacing)]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"a spacing has no field {', '.join(unknown)}: it has {', '.join(known)}")
    spacing = Spacing(**fields)
    for kind, kinds in ((spacing.kind, SPACINGS), (spacing.within, ("leading", "linspace", "trailing"))):
        if kind not in kinds:
            raise ValueError(f"unknown spacing {kind!r}: choose one of {', '.join(kinds)}")
    return spacing


def spacing_errors(schedule: Schedule, steps: int, spacing: Spacing, sampler: str = "ddim") -> list[str]:
    """Error messages for `steps` steps that cannot be spaced so, each with its remedy."""
    if steps < 1:
        return [f"{steps} sampling steps: at least 1 is needed"]
    if spacing.kind == "skipping" and steps > spacing.original_steps:
        return [f"{steps} steps of skipping spacing: this model was distilled on {spacing.original_steps}, use fewer"]
    if spacing.kind not in SPACINGS:
        return [f"unknown spacing {spacing.kind!r}: choose one of {', '.join(SPACINGS)}"]
    if spacing.kind in ("uniform", "logsnr"):
        return []
    table = _table_length(schedule)
    entries = _table_entries(spacing, steps, table, sampler)
    if entries[0] < table and np.all(np.diff(entries) < 0):
        return []
    return [f"{steps} steps of {spacing.kind} spacing leave the table of {table} entries: use fewer steps"]


def sampling_times(
    schedule: Schedule, steps: int, spacing: Spacing = Spacing(), sampler: str = "ddim"
) -> Float[Array, " points"]:
    """steps + 1 times: where each step starts, and the end; ValueError as `spacing_errors` says.

    The kinds "leading", "linspace", "trailing", "karras" and "skipping" give the timesteps of diffusers' scheduler for
    `sampler`, whether or not the steps divide the table. Each step ends where the next one starts; that of diffusers'
    DDIM ends at t - N // steps, which under linspace, and under trailing where the steps do not divide N, is no time of
    its loop.
    "logsnr" spreads logsnr in [-10, logsnr(0.001)], between which an image is decided.
    """
    if errors := spacing_errors(schedule, steps, spacing, sampler):
        raise ValueError("; ".join(errors))
    table = _table_length(schedule)
    if spacing.kind == "uniform":
        times = jnp.linspace(1.0, 0.0, steps + 1, dtype=jnp.float32)
    elif spacing.kind == "logsnr":
        first, last = schedule.logsnr(jnp.asarray([1.0, 0.001], jnp.float32))
        between = schedule.t_of_logsnr(jnp.linspace(jnp.maximum(first, -10), last, steps))[1:]
        times = jnp.pad(between, 1).at[0].set(1.0)
    elif spacing.kind == "karras":
        entries = _table_entries(spacing, steps, table, sampler)
        ends = (entries[0], entries[-1]) if sampler in IN_SIGMA else (table - 1, 0)
        times = jnp.append(_karras_times(schedule, steps, *((end + 1) / table for end in ends)), 0.0)
    else:
        times = jnp.asarray([*((_table_entries(spacing, steps, table, sampler) + 1) / table), 0.0], jnp.float32)
    if spacing.clean or sampler not in ENDING_EARLY:
        return times
    return times.at[-1].set(jnp.minimum(times[-2], 1 / table))


def initial_noise_std(
    schedule: Schedule, steps: int, spacing: Spacing, sampler: str = "ddim"
) -> float | Float[Array, ""]:
    """The standard deviation of the first x: 1, or sigma of the first time for samplers IN_SIGMA from the table's last.

    diffusers' init_noise_sigma, which its Euler and Heun schedulers set so for linspace and trailing timesteps.
    """
    if sampler in IN_SIGMA and _table_kind(spacing) in ("linspace", "trailing"):
        return schedule.sigma(sampling_times(schedule, steps, spacing, sampler)[0])
    return 1.0


def pad_times(times: Float[np.ndarray, " points"]) -> Float[np.ndarray, " padded"]:
    """The times with zeros after them, up to a multiple of POINTS: loops of any length are one program."""
    return np.pad(times, (0, -len(times) % POINTS))


def _table_length(schedule: Schedule) -> int:
    return schedule.steps or 1000


def _table_kind(spacing: Spacing) -> str:
    """The kind that chooses entries of the table."""
    return spacing.within if spacing.kind == "karras" else spacing.kind


def _table_entries(spacing: Spacing, steps: int, table: int, sampler: str) -> Float[np.ndarray, " steps"]:
    """Which entries of the table are evaluated, the last first; fractions where diffusers has them."""
    kind, points = _table_kind(spacing), steps + (sampler in MULTISTEP)
    if kind == "leading":
        return table // points * np.arange(points - 1.0, -1, -1)[:steps] + spacing.offset
    if kind == "skipping":
        taken = np.floor(np.linspace(0, spacing.original_steps, steps, endpoint=False))
        return (spacing.original_steps - taken) * (table // spacing.original_steps) - 1
    if kind == "trailing":
        return np.arange(table, 0, -table / steps)[:steps].round() - 1
    # From the clean end, so that halves round as diffusers' do; a single step starts from noise all the same.
    even = np.linspace(0 if points > 1 else table - 1, table - 1, points)[::-1][:steps]
    return even if sampler in IN_SIGMA else even.round()


def _karras_times(schedule: Schedule, steps: int, first: float, last: float) -> Float[Array, " steps"]:
    """Times even in (sigma / alpha)^(1 / RHO), the ends themselves included."""
    high, low = jnp.exp(-schedule.logsnr(jnp.asarray([first, last], jnp.float32)) / (2 * KARRAS_RHO))
    between = schedule.t_of_logsnr(-2 * KARRAS_RHO * jnp.log(jnp.linspace(high, low, steps)))
    return between.at[-1].set(jnp.float32(last)).at[0].set(jnp.float32(first))
