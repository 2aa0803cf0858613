"""Low-resolution images as they are found: shrunk by one of several kernels, blurred or not, stored as JPEG or not.

A part of what Real-ESRGAN trains on (arXiv 2107.10833 section 3); noise is added on the device, where its level is
told to the network.
"""

from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFilter

from dalle3_jax.data.draws import choose, uniform

__all__ = ["DEGRADATION", "KERNELS", "degradation_errors", "degrade_image"]

KERNELS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
"""Ways to shrink an image, each widened by the factor: none aliases."""

DEGRADATION: Mapping[str, Any] = {
    "kernels": tuple(KERNELS),  # of which each image has one
    "blurred": 0.5,  # share of the images that are blurred before they are shrunk
    "blur": 0.5,  # largest standard deviation of the blur, in pixels of the low-resolution image
    "compressed": 0.5,  # share of the low-resolution images that were a JPEG
    "quality": (50, 95),  # of the JPEG, from and to
}
"""The settings beside `factor`, the whole number by which both sides shrink, with their defaults."""

FACTORS = (2, 4)


def degrade_image(
    pixels: UInt8[np.ndarray, "h w 3"], degradation: Mapping[str, Any], key: tuple
) -> UInt8[np.ndarray, "h_low w_low 3"]:
    """The low-resolution image of an image, every draw keyed by `key`; its sides must be multiples of the factor."""
    how = {**DEGRADATION, **degradation}
    factor, image = how["factor"], Image.fromarray(pixels)
    if uniform(*key, "blurred") < how["blurred"]:
        image = image.filter(ImageFilter.GaussianBlur(factor * how["blur"] * uniform(*key, "blur")))
    size = image.width // factor, image.height // factor
    image = image.resize(size, KERNELS[choose(how["kernels"], *key, "kernel")])
    if uniform(*key, "compressed") < how["compressed"]:
        first, last = how["quality"]
        stream = BytesIO()
        image.save(stream, "JPEG", quality=first + int(uniform(*key, "quality") * (last - first + 1)))
        image = Image.open(stream, formats=["JPEG"])
    return np.array(image)


def degradation_errors(degradation: Mapping[str, Any], crop: Any = 0) -> list[str]:
    """Errors of the settings for crops of this side, or (0) whole images; {} degrades nothing."""
    if not degradation:
        return []
    if unknown := sorted(set(degradation) - {"factor", *DEGRADATION}):
        return [f"it has {', '.join(unknown)}: it may have factor, {', '.join(DEGRADATION)}"]
    how = {**DEGRADATION, **degradation}
    kernels, quality = how["kernels"], how["quality"]
    errors = [] if how.get("factor") in FACTORS else [f"factor is {how.get('factor')!r}: use 2 or 4"]
    if not errors and isinstance(crop, int) and crop % how["factor"]:
        errors.append(f"a crop of {crop} pixels is no multiple of the factor {how['factor']}")
    if not isinstance(kernels, tuple | list) or not kernels or not set(kernels) <= set(KERNELS):
        errors.append(f"kernels is {kernels!r}: use some of {', '.join(KERNELS)}")
    errors += [
        f"{name} is {how[name]!r}: a share lies in [0, 1]"
        for name in ("blurred", "compressed")
        if not (_is_number(how[name]) and 0 <= how[name] <= 1)
    ]
    if not (_is_number(how["blur"]) and 0 <= how["blur"] <= 8):
        errors.append(f"blur is {how['blur']!r}: a standard deviation lies in [0, 8] pixels")
    pair = isinstance(quality, tuple | list) and len(quality) == 2 and all(type(n) is int for n in quality)
    if not pair or not 1 <= quality[0] <= quality[1] <= 100:
        errors.append(f"quality is {quality!r}: two whole numbers from 1 to 100, the second no smaller")
    return errors


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
