"""Pictures between file and batch: numpy and Pillow only."""

import warnings
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError

from dalle3_jax.data.image_files import FORMATS, MAGIC, WHITE, decode_pixels, is_animated
from dalle3_jax.data.records import BadRecord
from dalle3_jax.files import stand_in_kind

LARGEST = 64_000_000
"""Pixels of the largest picture that is decoded: one of more is a mistake or an attack, and costs gigabytes."""

LONGEST = 32
"""How many times longer than wide a picture may be: scaled to cover a bucket, a strip is one colour and gigabytes."""


def decode_image(
    image: bytes | np.ndarray, key: str = "", background: Sequence[int] = WHITE
) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a record's image, upright and laid on `background` where it is transparent.

    BadRecord with its reason where there is no picture that training can use.
    """
    if not isinstance(image, bytes):
        return image
    if not image:
        raise BadRecord("empty", key, "the picture has no bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return decode_pixels(image, lambda opened: check_image(opened, image, key), background)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadRecord("bomb", key, str(error)) from None
    except UnidentifiedImageError:
        if image.startswith(MAGIC):
            raise BadRecord("truncated", key, f"the picture ends within its first {len(image)} bytes") from None
        what = stand_in_kind(image[:64]) or f"no {', '.join(FORMATS)}"
        raise BadRecord("format", key, f"the picture is {what}") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord("truncated", key, f"the picture cannot be decoded: {error}") from None


def check_image(opened: Image.Image, image: bytes, key: str) -> None:
    """BadRecord for pictures that would decode to something else than what they show, or to too much."""
    if opened.width * opened.height > LARGEST:
        raise BadRecord("bomb", key, f"the picture has {opened.width} x {opened.height} pixels, over {LARGEST:,}")
    if max(opened.size) > LONGEST * min(opened.size):
        raise BadRecord("shape", key, f"the picture has {opened.width} x {opened.height} pixels, a strip")
    if is_animated(opened):
        raise BadRecord("animated", key, "the picture moves")
    png_depth = image[24] if opened.format == "PNG" and len(image) > 24 else 8  # byte 8 of the header's content
    if png_depth == 16 or opened.mode.startswith(("I", "F")):
        raise BadRecord("depth", key, "the picture has 16 bits a channel or more")


def image_to_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The pixels as PNG, which loses nothing."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def crop_square(pixels: UInt8[np.ndarray, "h w 3"], top: int, left: int, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """The square of `side` pixels whose top left corner is given."""
    return pixels[top : top + side, left : left + side]


def stretch_image(pixels: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The whole picture at another size, whatever its shape was."""
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def centre_square(
    pixels: UInt8[np.ndarray, "h w 3"], side: int, shorter: int | None = None
) -> UInt8[np.ndarray, "s s 3"]:
    """The square of `side` pixels in the middle of an image whose shorter side was resized to `shorter` (or `side`).

    As CLIP's processor does it: bicubic, the longer side and the place of the square rounded down.
    """
    image, shorter = Image.fromarray(pixels), shorter or side
    short = min(image.size)
    width, height = (shorter * length // short for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def normalise_pixels(pixels: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Pixels as float32 in [-1, 1]."""
    return pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1.0)
