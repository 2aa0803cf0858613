"""Images from elsewhere as pixels in RGB of 8 bits, turned as EXIF says, and refused before they cost anything."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

__all__ = ["MOST_PIXELS", "read_input_image"]

MOST_PIXELS = 2**24
"""Pixels of the largest image that is read: 4096 x 4096."""

FORMATS = ("JPEG", "PNG", "WEBP")


def read_input_image(path: str | Path) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file; transparency is laid over white, 16 bits are rounded to 8.

    Raises ValueError that names the file for one that cannot be opened or is damaged, of another format, animated, or
    of more than MOST_PIXELS pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here is lower
            opened = Image.open(path, formats=FORMATS)
        with opened:
            _check_header(opened, path)
            return _rgb_pixels(ImageOps.exif_transpose(opened))
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is no image: use {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}; at most {MOST_PIXELS:,} pixels are read") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _check_header(opened: Image.Image, path: str | Path) -> None:
    if opened.width * opened.height > MOST_PIXELS:
        size = f"{opened.width} x {opened.height} pixels"
        raise ValueError(f"{path} has {size}: at most {MOST_PIXELS:,} are read; shrink it, or cut it into parts")
    if getattr(opened, "is_animated", False):
        raise ValueError(f"{path} is animated: save one of its frames as an image of its own")


def _rgb_pixels(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    if image.mode.startswith("I"):  # grey of 16 bits
        grey = np.rint(np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))
