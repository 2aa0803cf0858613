"""Consistency models (arXiv 2303.01469): one network for all times that gives the end of a sample's path at once.

A consistency model is a Denoise; `samplers.SAMPLERS["consistency"]` samples with it. Here is what its training needs.
"""

import math

import jax
import jax.numpy as jnp

from dalle3_jax.typing import Array, Float, Int, Key

__all__ = [
    "adjacent_times",
    "check_consistency_times",
    "consistency_times",
    "discretisation",
    "pseudo_huber",
]

Images = Float[Array, "b h w c"]
Rows = Float[Array, " b"]


def consistency_times(top: float, steps: int) -> tuple[float, ...]:
    """The times at which `steps` steps evaluate the model: from `top` down, evenly spaced, without the end at 0."""
    if steps < 1:
        raise ValueError(f"{steps} consistency steps: at least 1 is needed")
    return tuple(top * (steps - i) / steps for i in range(steps))


def check_consistency_times(times: tuple[float, ...], top: float) -> None:
    """Raise ValueError unless the times fall from `top`, where the model was trained that x is noise, to above 0."""
    if not times or not math.isclose(times[0], top, abs_tol=1e-6):
        raise ValueError(f"a schedule of times {times} does not start at the top, {top}: there alone x is only noise")
    if any(a <= b for a, b in zip(times, (*times[1:], 0.0), strict=True)):
        raise ValueError(f"a schedule of times {times} must fall at every step and stay above 0")


def discretisation(step: Int[Array, ""], steps: int, first: int, last: int) -> Int[Array, ""]:
    """The number of parts of [0, top] at a training step: `first`, doubled at even intervals up to `last`.

    arXiv 2310.14189 section 3.4. With few parts neighbours are far apart and the target near the data; with many the
    solver's error vanishes.
    """
    doublings = max(math.log2(last / first), 0.0)
    interval = max(steps / (math.floor(doublings) + 1), 1.0)
    return jnp.minimum(first * 2 ** jnp.floor(step / interval).astype(jnp.int32), last)


def adjacent_times(key: Key, count: int, parts: Int[Array, ""], top: float) -> tuple[Rows, Rows]:
    """Times t and s < t of `count` images, next to each other among `parts` even parts of [0, top]."""
    # One in each of `count` even strata.
    uniform = (jnp.arange(count) + jax.random.uniform(key, (count,), jnp.float32)) / count
    index = jnp.minimum(jnp.floor(uniform * parts), parts - 1)
    return top * (index + 1) / parts, top * index / parts


def pseudo_huber(a: Images, b: Images, c: float = 0.00054) -> Rows:
    """sqrt(d^2 + c^2) - c of each image's root mean squared difference d (arXiv 2310.14189 section 3.3).

    Near the L2 norm, so that images far off do not rule the batch, and smooth at 0.
    """
    squared = jnp.mean(jnp.square((a - b).astype(jnp.float32)), axis=(1, 2, 3))
    return jnp.sqrt(squared + c**2) - c
