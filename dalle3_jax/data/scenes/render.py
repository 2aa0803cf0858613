"""From a scene to pixels: sprites resized once per size, pasted on a background painted once per size."""

from functools import lru_cache
from importlib.resources import files
from io import BytesIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle3_jax.data.scenes.backgrounds import paint
from dalle3_jax.data.scenes.concepts import Concept
from dalle3_jax.data.scenes.scene import Scene, pixel_box
from dalle3_jax.data.scenes.world import World


@lru_cache(maxsize=4096)
def sprite(concept: Concept, side: int) -> UInt8[np.ndarray, "h w 4"]:
    """The concept's premultiplied RGBA, fitted into a square of `side` pixels and centred there."""
    encoded = (files("dalle3_jax.data.scenes") / "sprites" / f"{concept.file}.webp").read_bytes()
    image = Image.open(BytesIO(encoded), formats=["WEBP"]).convert("RGBA").convert("RGBa")
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    picture = np.zeros((side, side, 4), np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    # Pillow offers no array of its premultiplied mode: its bytes are the same four channels.
    pixels = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0).tobytes()
    picture[top : top + height, left : left + width] = np.frombuffer(pixels, np.uint8).reshape(height, width, 4)
    np.minimum(picture, picture[..., 3:], out=picture)  # Lanczos overshoots; more colour than cover would overflow
    picture.flags.writeable = False
    return picture


@lru_cache(maxsize=4096)
def paste_form(concept: Concept, side: int) -> tuple[UInt8[np.ndarray, "h w 3"], np.ndarray]:
    """The sprite's colours and what it leaves of the background, uint16 in [0, 255]."""
    picture = sprite(concept, side)
    return picture[..., :3], 255 - picture[..., 3:].astype(np.uint16)


def render(world: World, scene: Scene, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of a scene; later objects stand in front of earlier ones."""
    picture = paint(world.background(scene.background), height, width).copy()
    for placed in scene.objects:
        left, top, right, bottom = pixel_box(world, placed.cell, height, width)
        colours, rest = paste_form(world.concept(placed.concept), right - left)
        window = picture[top:bottom, left:right]
        product = window * rest + 128
        window[:] = colours + (product + (product >> 8) >> 8)  # (p + p / 256) / 256: p / 255, rounded, in 16 bits
    return picture
