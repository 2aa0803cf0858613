"""Random masks for inpainting: boxes, brush strokes, and the whole image."""

import jax
import jax.numpy as jnp

from dalle3_jax.typing import Array, Float, Key

__all__ = ["draw_boxes", "draw_strokes", "random_masks"]

BOXES = 3
"""Boxes of a mask of boxes, at most."""
BOX_SIDES = (0.1, 0.7)
"""Sides of a box, as fractions of the image's."""
STROKE_POINTS = 6
"""Corners of a brush stroke."""
STROKE_STEP = 0.25
"""Standard deviation of the way from one corner to the next, as a fraction of the image's shorter side."""
STROKE_RADII = (0.03, 0.12)
"""Half of a stroke's width, as a fraction of the shorter side."""


def random_masks(key: Key, count: int, height: int, width: int, whole: float) -> Float[Array, "b h w 1"]:
    """Masks of 0 and 1, where 1 is to be painted: the share `whole` is 1 throughout, the rest boxes or one stroke.

    Half of the rest is of each kind. Each mask has its own key, and edits at least one pixel.
    """

    def draw(key: Key) -> Float[Array, "h w 1"]:
        whole_key, kind_key, box_key, stroke_key = jax.random.split(key, 4)
        boxes = draw_boxes(box_key, height, width)
        stroke = draw_strokes(stroke_key, height, width)
        part = jnp.where(jax.random.bernoulli(kind_key), boxes, stroke)
        return jnp.where(jax.random.bernoulli(whole_key, jnp.float32(whole)), 1.0, part)[..., None]

    return jax.vmap(draw)(jax.random.split(key, count))


def draw_boxes(key: Key, height: int, width: int) -> Float[Array, "h w"]:
    """One to BOXES boxes, each wholly within the image."""
    count_key, side_key, place_key = jax.random.split(key, 3)
    sides = jax.random.uniform(side_key, (BOXES, 2), jnp.float32, *BOX_SIDES)
    places = jax.random.uniform(place_key, (BOXES, 2), jnp.float32)
    there = jnp.arange(BOXES) < jax.random.randint(count_key, (), 1, BOXES + 1)

    def inside(axis: int, length: int) -> Array:
        size = jnp.maximum(jnp.round(sides[:, axis] * length), 1)
        first = jnp.floor(places[:, axis] * (length - size + 1))
        steps = jnp.arange(length)[None] - first[:, None]
        return (steps >= 0) & (steps < size[:, None])

    boxes = inside(0, height)[:, :, None] & inside(1, width)[:, None, :] & there[:, None, None]
    return boxes.any(axis=0).astype(jnp.float32)


def draw_strokes(key: Key, height: int, width: int) -> Float[Array, "h w"]:
    """One stroke of a round brush along a random walk that begins within the image."""
    start_key, walk_key, radius_key = jax.random.split(key, 3)
    side = min(height, width)
    start = jax.random.uniform(start_key, (1, 2), jnp.float32) * jnp.asarray([height - 1, width - 1])
    steps = STROKE_STEP * side * jax.random.normal(walk_key, (STROKE_POINTS - 1, 2), jnp.float32)
    points = jnp.cumsum(jnp.concatenate([start, steps]), axis=0)
    radius = side * jax.random.uniform(radius_key, (), jnp.float32, *STROKE_RADII)
    pixels = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), axis=-1)[:, :, None]
    begin, way = points[:-1], points[1:] - points[:-1]
    along = jnp.sum((pixels - begin) * way, axis=-1) / jnp.maximum(jnp.sum(jnp.square(way), axis=-1), 1e-6)
    nearest = begin + jnp.clip(along, 0, 1)[..., None] * way
    distance = jnp.sqrt(jnp.sum(jnp.square(pixels - nearest), axis=-1)).min(axis=-1)
    return (distance <= jnp.maximum(radius, 1.0)).astype(jnp.float32)
