"""Pictures between file and batch: numpy and Pillow only."""

import warnings
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP")


def decode(image: bytes | np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a record's image; ValueError where the bytes are no picture that we read."""
    if not isinstance(image, bytes):
        return image
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return np.array(Image.open(BytesIO(image), formats=FORMATS).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable {', '.join(FORMATS)} picture: {error}") from error


def encode(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The pixels as PNG, which loses nothing."""
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def crop(pixels: UInt8[np.ndarray, "h w 3"], top: int, left: int, side: int) -> UInt8[np.ndarray, "s s 3"]:
    """The square of `side` pixels whose top left corner is given."""
    return pixels[top : top + side, left : left + side]


def unit(pixels: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Pixels as float32 in [-1, 1]."""
    return pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1.0)
