"""Layers of a painted background, from which the table in backgrounds.py is made.

A layer is a function (canvas, x, y) -> canvas on float colours in [0, 1]. Coordinates are fractions of the frame: x and
y run over [0, 1] from the top left corner, so a beach is a beach in every aspect ratio.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Canvas = Float[np.ndarray, "h w 3"]
Grid = Float[np.ndarray, "h w"]
Layer = Callable[[Canvas, Grid, Grid], Canvas]
Stops = tuple[tuple[float, str], ...]
Spots = tuple[tuple[float, float, float], ...]


def parse_colour(code: str) -> Float[np.ndarray, "3"]:
    """RGB in [0, 1] of "rrggbb"."""
    return np.frombuffer(bytes.fromhex(code), np.uint8) / 255.0


def ramp(position: Grid, stops: Stops) -> Canvas:
    """The colours of `stops` (place, colour), smooth between them."""
    places = [place for place, _ in stops]
    return np.stack(
        [np.interp(position, places, channel) for channel in np.stack([parse_colour(c) for _, c in stops], 1)], -1
    )


def blend(canvas: Canvas, paint: Canvas, cover: Grid) -> Canvas:
    """`paint` on top of `canvas` where `cover` is 1."""
    return canvas + (paint - canvas) * cover[..., None]


def smoothstep(distance: Grid, softness: float) -> Grid:
    """0 where `distance` is below zero and 1 above `softness`, smooth between."""
    rise = np.clip(distance / softness, 0.0, 1.0)
    return rise * rise * (3.0 - 2.0 * rise)


def gradient(canvas: Canvas, x: Grid, y: Grid, stops: Stops) -> Canvas:
    """The whole frame, from top to bottom."""
    return ramp(y, stops)


def ground(
    canvas: Canvas,
    x: Grid,
    y: Grid,
    stops: Stops,
    waves: Spots = (),
    softness: float = 0.012,
) -> Canvas:
    """Everything below a line at the first stop, bent by `waves` (height, periods across the frame, phase)."""
    bend = np.zeros_like(x)
    for height, periods, phase in waves:
        bend += height * np.sin(2.0 * np.pi * (periods * x + phase))
    return blend(canvas, ramp(y + bend, stops), smoothstep(y + bend - stops[0][0], softness))


def disc(
    canvas: Canvas,
    x: Grid,
    y: Grid,
    at: tuple[float, float],
    radius: float,
    code: str,
    softness: float = 0.01,
    strength: float = 1.0,
) -> Canvas:
    """A round spot, or a glow when it is as soft as it is wide; round in every aspect ratio."""
    aspect = x.shape[1] / x.shape[0]
    distance = np.hypot((x - at[0]) * max(aspect, 1.0), (y - at[1]) * max(1.0 / aspect, 1.0))
    return blend(
        canvas, np.broadcast_to(parse_colour(code), canvas.shape), strength * smoothstep(radius - distance, softness)
    )


def discs(
    canvas: Canvas,
    x: Grid,
    y: Grid,
    spots: Spots,
    code: str,
    softness: float = 0.01,
    strength: float = 1.0,
) -> Canvas:
    """Several round spots (x, y, radius) of one colour."""
    for left, top, radius in spots:
        canvas = disc(canvas, x, y, (left, top), radius, code, softness, strength)
    return canvas


def planks(canvas: Canvas, x: Grid, y: Grid, count: int, shades: tuple[str, ...], gap: str) -> Canvas:
    """Boards from left to right, in `shades` in turn, with dark gaps between them."""
    row = np.minimum((y * count).astype(int), count - 1)
    within = y * count - row
    boards = np.stack([parse_colour(code) for code in shades])[row % len(shades)]
    boards = boards * (1.0 - 0.05 * np.sin(2.0 * np.pi * (1.5 * x + 0.37 * row)))[..., None]
    edge = smoothstep(0.05 - np.minimum(within, 1.0 - within), 0.05)
    return blend(boards, np.broadcast_to(parse_colour(gap), canvas.shape), edge)


def blocks(canvas: Canvas, x: Grid, y: Grid, roofs: Spots, stops: Stops) -> Canvas:
    """Houses (left, right, top) that stand on the lower edge of the frame."""
    for left, right, top in roofs:
        cover = smoothstep(x - left, 0.01) * smoothstep(right - x, 0.01) * smoothstep(y - top, 0.01)
        canvas = blend(canvas, ramp(y, stops), cover)
    return canvas


def peaks(
    canvas: Canvas, x: Grid, y: Grid, tops: tuple[tuple[float, float], ...], base: float, width: float, code: str
) -> Canvas:
    """Triangles with their tips at `tops` (x, y) and `width` from the middle to the side on the line `base`."""
    for left, top in tops:
        slope = np.abs(x - left) / width * (base - top)
        cover = smoothstep(y - top - slope, 0.012) * smoothstep(base - y, 0.01)
        canvas = blend(canvas, np.broadcast_to(parse_colour(code), canvas.shape), cover)
    return canvas


def lane(canvas: Canvas, x: Grid, y: Grid, top: float, near: float, far: float, code: str, dashes: int = 0) -> Canvas:
    """A strip that runs from the lower edge, `near` wide to each side, to the line `top`, where it is `far` wide."""
    depth = np.clip((y - top) / (1.0 - top), 0.0, 1.0)
    cover = smoothstep(far + (near - far) * depth - np.abs(x - 0.5), 0.01) * (y >= top)
    if dashes:
        cover = cover * (np.sin(2.0 * np.pi * dashes * depth**0.6) > 0.0)
    return blend(canvas, np.broadcast_to(parse_colour(code), canvas.shape), cover)


def tiled_floor(
    canvas: Canvas, x: Grid, y: Grid, top: float, across: int, down: int, shades: tuple[str, str]
) -> Canvas:
    """A floor of tiles in two shades below the line `top`."""
    row = np.floor((y - top) / (1.0 - top) * down).astype(int)
    column = np.floor(x * across).astype(int)
    paint = np.stack([parse_colour(code) for code in shades])[(row + column) % 2]
    return blend(canvas, paint, (y >= top).astype(float))


def folds(canvas: Canvas, x: Grid, y: Grid, count: int, shades: tuple[str, str]) -> Canvas:
    """Cloth that hangs in `count` folds, from a dark to a light shade and back."""
    wave = 0.5 + 0.5 * np.sin(2.0 * np.pi * count * (x + 0.004 * np.sin(2.0 * np.pi * y)))
    dark, light = (np.broadcast_to(parse_colour(code), canvas.shape) for code in shades)
    return blend(dark, light, wave)
