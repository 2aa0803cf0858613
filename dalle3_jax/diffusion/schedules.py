"""Variance-preserving noise schedules: x_t = alpha(t) x0 + sigma(t) eps, alpha^2 + sigma^2 = 1, t in [0, 1] (1: noise).

At t = 0 every schedule is clean: alpha 1, sigma 0, logsnr +inf. At t = 1 logsnr is finite, and alpha is 0 only under
`zero_terminal_snr`. Every function takes t of any shape.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dalle3_jax.typing import Array, Float

__all__ = ["Cosine", "ScaledLinear", "Schedule", "build_schedule"]

Time = Float[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Cosine:
    """alpha_bar(t) = cos^2((t + s) / (1 + s) pi / 2) / cos^2(s / (1 + s) pi / 2), arXiv 2102.09672 eq. 17.

    alpha never falls below TERMINAL_ALPHA, where a table of 1,000 steps with beta <= 0.999 ends (squaredcos_cap_v2 of
    diffusers): alpha_bar(1) = 0.001 alpha_bar(0.999) = 2.428e-9, logsnr(1) = -19.84. This touches t > 0.99996 only.
    A table of `steps` entries, of which the one numbered i stands at t = (i + 1) / steps, has networks told i; only
    whole ones, the nearest, if they are `whole`. Without a table they are told `time_scale` t: with a small scale
    their embedding of time is smooth, as continuous-time consistency needs it (arXiv 2410.11081 section 4.1).
    """

    s: float = 0.008
    shift: float = 1.0
    steps: int = 0
    whole: bool = False
    time_scale: float = 1000.0

    TERMINAL_ALPHA: ClassVar[float] = 4.928e-5
    zero_terminal_snr: ClassVar[bool] = False

    def alpha(self, t: Time) -> Time:
        """The signal's share of x_t."""
        return self._alpha_sigma(t)[0]

    def sigma(self, t: Time) -> Time:
        """The noise's share of x_t."""
        return self._alpha_sigma(t)[1]

    def logsnr(self, t: Time) -> Time:
        """log(alpha^2 / sigma^2)."""
        alpha, sigma = self._alpha_sigma(t)
        return 2 * (jnp.log(alpha) - jnp.log(sigma))

    def t_of_logsnr(self, logsnr: Time) -> Time:
        """The inverse of `logsnr`."""
        logsnr = logsnr - 2 * jnp.log(jnp.float32(self.shift))
        start = self._quarter() * self.s
        cos = jnp.cos(start) * jnp.sqrt(jax.nn.sigmoid(logsnr))
        sin = jnp.sqrt(jnp.sin(start) ** 2 + jnp.cos(start) ** 2 * jax.nn.sigmoid(-logsnr))
        return jnp.clip(jnp.atan2(sin, cos) / self._quarter() - self.s, 0, 1)

    def network_time(self, t: Time) -> Time:
        """The time that a network is told: `time_scale` t, or its place in the table."""
        return _table_index(t, self.steps, self.whole) if self.steps else self.time_scale * t

    def network_rate(self) -> float:
        """The derivative of `network_time`, between the entries of a table too."""
        return float(self.steps or self.time_scale)

    def shifted(self, factor: float) -> "Cosine":
        """The schedule with alpha / sigma multiplied by `factor` (arXiv 2301.11093 section 3.1).

        64 / 256 noises 256 px as this schedule noises 64 px.
        """
        return dataclasses.replace(self, shift=self.shift * factor)

    def _quarter(self) -> Float[Array, ""]:
        """The angle that t = 1 adds: a quarter turn less the start's."""
        return jnp.pi / 2 / (1 + jnp.asarray(self.s, jnp.float32))

    def _alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        # Sines of the way to either end keep all digits where cos(angle) and 1 - alpha^2 would cancel.
        quarter, start = self._quarter(), self._quarter() * self.s
        alpha = jnp.maximum(jnp.sin(quarter * (1 - t)) / jnp.cos(start), self.TERMINAL_ALPHA)
        sigma = jnp.sqrt(jnp.sin(quarter * t) * jnp.sin(quarter * t + 2 * start)) / jnp.cos(start)
        return _normalise_pair(self.shift * alpha, sigma)


@dataclasses.dataclass(frozen=True)
class ScaledLinear:
    """Stable Diffusion's table: sqrt(beta) is linear over `steps` steps; beta^(1 / power) in general, 1 being DDPM's.

    Entry i stands at t = (i + 1) / steps; alpha is linear between the entries. `zero_terminal_snr` rescales the table
    so that alpha(1) = 0 (arXiv 2305.08891 algorithm 1); logsnr(1) is then that of alpha_bar = 2^-24, as in diffusers,
    so that solvers in logsnr stay finite. Networks are told whole entries only, the nearest, if they are `whole`.
    """

    beta_start: float = 0.00085
    beta_end: float = 0.012
    steps: int = 1000
    zero_terminal_snr: bool = False
    shift: float = 1.0
    power: int = 2
    whole: bool = False

    def alpha(self, t: Time) -> Time:
        """The signal's share of x_t."""
        return self._alpha_sigma(t)[0]

    def sigma(self, t: Time) -> Time:
        """The noise's share of x_t."""
        return self._alpha_sigma(t)[1]

    def logsnr(self, t: Time) -> Time:
        """log(alpha^2 / sigma^2), with alpha no less than 2^-12."""
        alpha, sigma = self._alpha_sigma(t)
        return 2 * (jnp.log(jnp.maximum(alpha, 2.0**-12)) - jnp.log(sigma))

    def t_of_logsnr(self, logsnr: Time) -> Time:
        """The inverse of `logsnr`."""
        logsnr = logsnr - 2 * jnp.log(jnp.float32(self.shift))
        complement = jax.nn.sigmoid(-logsnr) / (1 + jnp.sqrt(jax.nn.sigmoid(logsnr)))
        return jnp.interp(complement, self._complements(), self._places() / self.steps)

    def network_time(self, t: Time) -> Time:
        """The table's index, 0 to steps - 1: whole at the table's points, fractional between them or the nearest."""
        return _table_index(t, self.steps, self.whole)

    def network_rate(self) -> float:
        """The derivative of `network_time` between the entries of the table."""
        return float(self.steps)

    def shifted(self, factor: float) -> "ScaledLinear":
        """The schedule with alpha / sigma multiplied by `factor` (arXiv 2301.11093 section 3.1).

        64 / 256 noises 256 px as this schedule noises 64 px.
        """
        return dataclasses.replace(self, shift=self.shift * factor)

    def _places(self) -> Float[Array, " points"]:
        return jnp.arange(self.steps + 1, dtype=jnp.float32)

    def _complements(self) -> Float[Array, " points"]:
        """1 - alpha at t = 0, 1 / steps, ..., 1: the form that keeps its digits at the clean end."""
        # Python floats: a constant of the program, the same bits wherever and however the loop around it is compiled.
        first, last = (beta ** (1 / self.power) for beta in (self.beta_start, self.beta_end))
        betas = ((first + (last - first) * i / max(self.steps - 1, 1)) ** self.power for i in range(self.steps))
        table = [-math.expm1(total / 2) for total in itertools.accumulate(math.log1p(-beta) for beta in betas)]
        if self.zero_terminal_snr:
            first, last = table[0], table[-1]
            table = [((1 - first) * entry - (1 - last) * first) / (last - first) for entry in table[:-1]] + [1.0]
        return jnp.asarray([0.0, *table], jnp.float32)

    def _alpha_sigma(self, t: Time) -> tuple[Time, Time]:
        complement = jnp.interp(self.steps * t, self._places(), self._complements())
        return _normalise_pair(self.shift * (1 - complement), jnp.sqrt(complement * (2 - complement)))


Schedule = Cosine | ScaledLinear


def build_schedule(section: Mapping[str, Any]) -> Schedule:
    """The schedule of a section: its `name`, "cosine" or "scaled_linear", and its fields; ValueError for any other."""
    schedules = {"cosine": Cosine, "scaled_linear": ScaledLinear}
    fields = {key: value for key, value in section.items() if key != "name"}
    if (name := section.get("name")) not in schedules:
        raise ValueError(f"unknown schedule {name!r}: choose one of {', '.join(schedules)}")
    known = [field.name for field in dataclasses.fields(schedules[name])]
    if unknown := sorted(set(fields) - set(known)):
        raise ValueError(f"schedule {name!r} has no field {', '.join(unknown)}: it has {', '.join(known)}")
    return schedules[name](**fields)


def _table_index(t: Time, steps: int, whole: bool) -> Time:
    """Which entry of a table of `steps` stands at t, a fraction between two of them unless it must be whole."""
    index = steps * t - 1
    nearest = jnp.round(index)
    # t = (i + 1) / steps is rounded; the network shall see i itself.
    return jnp.maximum(jnp.where((jnp.abs(index - nearest) < 1e-3) | whole, nearest, index), 0)


def _normalise_pair(alpha: Time, sigma: Time) -> tuple[Time, Time]:
    norm = jnp.hypot(alpha, sigma)
    return alpha / norm, sigma / norm
