"""The size that is made for one that is asked for: of those that the release has, the one of nearest shape."""

import math
from collections.abc import Sequence

from dalle3_jax.pipeline.setting_values import parse_size
from dalle3_jax.serving.errors import ApiError

__all__ = ["nearest_bucket", "read_size"]

Size = tuple[int, int]
"""Height and width in pixels."""


def nearest_bucket(size: Size, buckets: Sequence[Size]) -> Size:
    """The bucket whose shape is nearest by the logarithm of its ratio, and then the one of the nearest area."""
    height, width = size

    def distance(bucket: Size) -> tuple[float, float]:
        ratio = bucket[1] * height / (bucket[0] * width)
        return round(abs(math.log(ratio)), 6), abs(math.log(bucket[0] * bucket[1] / (height * width)))

    return min(buckets, key=distance)


def read_size(text: str) -> Size:
    """(height, width) of WIDTHxHEIGHT; ApiError for anything else."""
    try:
        height, width = parse_size(text)
    except ValueError as error:
        raise ApiError(400, f"size: {error}, or auto", param="size", code="invalid_value") from None
    if min(height, width) < 1:
        raise ApiError(400, f"size: {text} has no pixels", param="size", code="invalid_value")
    return height, width
