"""From a scene to pixels: sprites resized once per size, pasted on a background painted once per size."""

import numpy as np
from jaxtyping import UInt8

from dalle3_jax.data.scenes.backgrounds import paint_background
from dalle3_jax.data.scenes.scene import Scene, pixel_box
from dalle3_jax.data.scenes.signs import paint_words
from dalle3_jax.data.scenes.sprites import compositing_parts
from dalle3_jax.data.scenes.world import World


def render_scene(world: World, scene: Scene, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a scene; later objects stand in front of earlier ones, words in front of them all."""
    picture = paint_background(world.background(scene.background), height, width).copy()
    for placed in scene.objects:
        left, top, right, bottom = pixel_box(world, placed.cell, height, width)
        colours, rest = compositing_parts(world.concept(placed.concept), scene.style, right - left, placed.tint)
        window = picture[top:bottom, left:right]
        product = window * rest + 128
        window[:] = colours + (product + (product >> 8) >> 8)  # (p + p / 256) / 256: p / 255, rounded, in 16 bits
    return paint_words(picture, scene.words)
