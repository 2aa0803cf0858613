"""Sprites: the pictures of the concepts, in a style, at a size and in a tint."""

from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from dalle3_jax.data.scenes.concepts import SPRITES, Concept
from dalle3_jax.data.scenes.tints import TINTS, Tint, apply_tint, dominant_tint

__all__ = ["TINTS", "compositing_parts", "load_sprite"]

SpriteArray = UInt8[np.ndarray, "h w 4"]
Rest = UInt16[np.ndarray, "h w 1"]


def load_sprite(concept: Concept, style: str, side: int, tint: str = "") -> SpriteArray:
    """The concept's premultiplied RGBA, fitted into a square of `side` pixels and centred there; nobody may write it.

    ValueError when the concept has no such style or tint.
    """
    return _cached_sprite(concept, style, side, tint)[0]


def compositing_parts(
    concept: Concept, style: str, side: int, tint: str = ""
) -> tuple[UInt8[np.ndarray, "h w 3"], Rest]:
    """The sprite's colours and what it leaves of the background, in [0, 255]."""
    picture, rest = _cached_sprite(concept, style, side, tint)
    return picture[..., :3], rest


def _cached_sprite(concept: Concept, style: str, side: int, tint: str) -> tuple[SpriteArray, Rest]:
    """The sprite and what it leaves of the background, from the cache for its size."""
    draw = _small if side <= 64 else _large if side <= 256 else _render_sprite
    return draw(concept, style, side, tint)


def _render_sprite(concept: Concept, style: str, side: int, tint: str) -> tuple[SpriteArray, Rest]:
    """Resizes the master, centres it and tints it."""
    if style not in concept.styles or tint not in ("", *concept.tints):
        raise ValueError(
            f"{concept.name} in the style {style!r} and the tint {tint!r}: "
            f"it has the styles {concept.styles} and the tints {concept.tints}"
        )
    image = load_master(concept, style)
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    picture = np.zeros((side, side, 4), np.uint8)
    left, top = (side - width) // 2, (side - height) // 2
    resized = _to_array(image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0))
    picture[top : top + height, left : left + width] = resized
    np.minimum(picture, picture[..., 3:], out=picture)  # Lanczos overshoots; more colour than cover would overflow
    if tint:
        picture = apply_tint(picture, natural_tint(concept, style), TINTS[tint])
    picture.flags.writeable = False
    return picture, 255 - picture[..., 3:].astype(np.uint16)


# Six bytes a pixel: at most 151 MB of small sprites, 101 MB of larger ones and 134 MB of masters.
_small = lru_cache(maxsize=6144)(_render_sprite)
_large = lru_cache(maxsize=256)(_render_sprite)


@lru_cache(maxsize=2048)
def load_master(concept: Concept, style: str) -> Image.Image:
    """The sprite as it is stored, premultiplied."""
    pack = dict(concept.folders).get(style)
    folder = Path(pack) if pack else SPRITES
    encoded = (folder / style / f"{concept.file_stem}.webp").read_bytes()
    return Image.open(BytesIO(encoded), formats=["WEBP"]).convert("RGBA").convert("RGBa")


@lru_cache(maxsize=2048)
def natural_tint(concept: Concept, style: str) -> Tint:
    """The colour that rules the sprite."""
    return dominant_tint(_to_array(load_master(concept, style)))


def _to_array(image: Image.Image) -> SpriteArray:
    """The channels of a premultiplied image, of which Pillow itself makes no array."""
    return np.frombuffer(image.tobytes(), np.uint8).reshape(image.height, image.width, 4)
