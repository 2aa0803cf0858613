"""Tints: the colours that people name, and how a sprite takes one on.

A tint turns the one hue that rules a sprite into another. What is grey, white or of another hue stays, and so do the
shades: darker stays darker, paler stays paler.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

Colours = Float[np.ndarray, "p 3"]
Share = Float[np.ndarray, " p"]


class Tint(NamedTuple):
    """A colour: its hue in degrees, its saturation and its value in [0, 1], as in HSV."""

    hue: float
    saturation: float
    value: float


TINTS = {
    "red": Tint(357.0, 0.88, 0.86),
    "orange": Tint(27.0, 0.92, 0.98),
    "yellow": Tint(51.0, 0.85, 0.99),
    "green": Tint(125.0, 0.75, 0.66),
    "blue": Tint(216.0, 0.85, 0.90),
    "purple": Tint(276.0, 0.72, 0.72),
    "pink": Tint(330.0, 0.45, 0.98),
}


def dominant_tint(picture: UInt8[np.ndarray, "h w 4"]) -> Tint:
    """The middle hue, saturation and value of what is coloured in a premultiplied picture; grey pictures have none."""
    colours = unpremultiply(picture[picture[..., 3] > 127])
    saturation, value = saturation_and_value(colours)
    coloured = (saturation > 0.25) & (value > 0.15)
    if not coloured.any():
        return Tint(0.0, 0.0, 0.5)
    x, y = chroma(colours[coloured])
    counts = np.bincount(np.degrees(np.arctan2(y, x)).round().astype(int) % 360, minlength=360)
    around = np.convolve(np.concatenate([counts[-20:], counts, counts[:20]]), np.ones(41), "valid")
    hue = float(np.argmax(around))
    near = hue_weight(colours, hue) > 0.5
    chosen = coloured & near if (coloured & near).any() else coloured
    return Tint(hue, float(np.median(saturation[chosen])), float(np.median(value[chosen])))


def apply_tint(picture: UInt8[np.ndarray, "h w 4"], natural: Tint, tint: Tint) -> UInt8[np.ndarray, "h w 4"]:
    """The premultiplied picture with `tint` where `natural`, its ruling colour, was."""
    shown = picture[..., 3] > 0
    pixels = picture[shown]
    colours = unpremultiply(pixels)
    saturation, value = saturation_and_value(colours)
    cover = hue_weight(colours, natural.hue) * np.clip((saturation - 0.08) / 0.17, 0.0, 1.0)
    saturation = np.minimum(saturation * (tint.saturation / max(natural.saturation, 0.25)), 1.0)
    top = min(1.0, tint.value / natural.value)  # a darker tint darkens its lights too, or grain would show in them
    value = np.interp(value, (0.0, natural.value, 1.0), (0.0, tint.value, top)).astype(np.float32)
    painted = value[:, None] * (1.0 - saturation[:, None] * (1.0 - pure_hue_rgb(tint.hue)))
    colours += (painted - colours) * cover[:, None]
    result = picture.copy()
    result[shown, :3] = np.rint(colours * pixels[:, 3:])
    return result


def unpremultiply(pixels: UInt8[np.ndarray, "p 4"]) -> Colours:
    """The colours in [0, 1] of premultiplied pixels that are not clear."""
    return pixels[:, :3] / pixels[:, 3:].astype(np.float32)


def saturation_and_value(colours: Colours) -> tuple[Share, Share]:
    """Saturation and value."""
    value = colours.max(1)
    return 1.0 - colours.min(1) / np.maximum(value, 1e-3), value


def chroma(colours: Colours) -> tuple[Share, Share]:
    """The place on the colour circle: its angle is the hue, near enough, and its length the chroma."""
    red, green, blue = colours.T
    return red - (green + blue) / 2, (green - blue) * np.float32(3**0.5 / 2)


def hue_weight(colours: Colours, hue: float) -> Share:
    """1 within about 40 degrees of `hue`, 0 beyond about 65."""
    x, y = chroma(colours)
    angle = np.radians(hue)
    cosine = (x * np.cos(angle) + y * np.sin(angle)) / np.maximum(np.hypot(x, y), 1e-3)
    return np.clip((cosine - 0.42) / 0.34, 0.0, 1.0)


def pure_hue_rgb(hue: float) -> Float[np.ndarray, "3"]:
    """The fully saturated colour of a hue."""
    turns = (hue / 60.0 + np.array([0.0, 4.0, 2.0])) % 6.0
    return np.clip(np.abs(turns - 3.0) - 1.0, 0.0, 1.0).astype(np.float32)
