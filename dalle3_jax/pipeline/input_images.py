"""Images from elsewhere as pixels in RGB of 8 bits, turned as EXIF says, and refused before they cost anything."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle3_jax.data.image_files import FORMATS, decode_pixels, is_animated

__all__ = ["MOST_PIXELS", "read_input_image"]

MOST_PIXELS = 2**24
"""Pixels of the largest image that is read: 4096 x 4096."""


def read_input_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file; transparency is laid over white, 16 bits are rounded to 8.

    Raises ValueError that names the file for one that cannot be opened or is damaged, of another format, animated, or
    of more than MOST_PIXELS pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, and of many pixels: the limit here is lower
            return decode_pixels(Path(path), check_input_image)
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is no image: use {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}; at most {MOST_PIXELS:,} pixels are read") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def check_input_image(opened: Image.Image) -> None:
    """ValueError for an image of too many pixels or of several frames, before any pixel is decoded."""
    if opened.width * opened.height > MOST_PIXELS:
        size = f"{opened.width} x {opened.height} pixels"
        raise ValueError(f"it has {size}: at most {MOST_PIXELS:,} are read; shrink it, or cut it into parts")
    if is_animated(opened):
        raise ValueError("it is animated: save one of its frames as an image of its own")
