"""Aspect-ratio buckets: which of the sizes that batches have suits a picture, and a picture brought to that size."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

__all__ = ["Size", "nearest_bucket", "nearest_buckets", "resize_and_crop"]

Size = tuple[int, int]
"""Height and width in pixels."""


def nearest_bucket(height: int, width: int, buckets: Sequence[Size]) -> int:
    """The bucket nearest in aspect ratio, by the logarithm; of equally near ones the largest."""
    return int(nearest_buckets(np.array([[height, width]]), buckets)[0])


def nearest_buckets(sizes: Int[np.ndarray, "n 2"], buckets: Sequence[Size]) -> UInt8[np.ndarray, " n"]:
    """`nearest_bucket` for every row of heights and widths, a million of them in a second."""
    order = sorted(range(len(buckets)), key=lambda i: -buckets[i][0] * buckets[i][1])
    shapes = np.array([math.log(buckets[i][0] / buckets[i][1]) for i in order])
    nearest = np.empty(len(sizes), np.uint8)
    for first in range(0, len(sizes), 2**20):
        part = np.asarray(sizes[first : first + 2**20], np.float64)
        distance = np.abs(np.log(part[:, :1] / part[:, 1:]) - shapes)
        nearest[first : first + 2**20] = np.array(order)[np.round(distance, 9).argmin(axis=1)]
    return nearest


def resize_and_crop(
    pixels: UInt8[np.ndarray, "h w 3"], bucket: Size, down: float = 0.5, across: float = 0.5
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], int, int]:
    """The picture scaled to cover the bucket and cropped to it, and the crop's top and left in the scaled picture.

    `down` and `across` in [0, 1] say where between the borders the crop lies; a half is the middle. Small pictures are
    enlarged: the network is told of their size. Lanczos, with antialiasing.
    """
    height, width = pixels.shape[:2]
    if (height, width) == bucket:
        return pixels, 0, 0
    scale = max(bucket[0] / height, bucket[1] / width)
    scaled = max(round(height * scale), bucket[0]), max(round(width * scale), bucket[1])
    top, left = (
        min(int(at * (side - want + 1)), side - want)
        for at, side, want in zip((down, across), scaled, bucket, strict=True)
    )
    image = Image.fromarray(pixels).resize(scaled[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.array(image.crop((left, top, left + bucket[1], top + bucket[0]))), top, left
