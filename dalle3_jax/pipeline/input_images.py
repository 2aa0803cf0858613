"""Images from elsewhere as pixels in RGB of 8 bits, turned as EXIF says, and refused before they cost anything."""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from dalle3_jax.data.image_files import FORMATS, flatten_image, is_animated, read_upright, round_grey, turn_upright
from dalle3_jax.files import local_path
from dalle3_jax.pipeline.image_formats import read_metadata_text

__all__ = ["MOST_PIXELS", "InputImage", "open_input_image", "open_input_mask", "read_input_image"]

MOST_PIXELS = 2**24
"""Pixels of the largest image that is read: 4096 x 4096."""

Pixels = UInt8[np.ndarray, "h w 3"]
MaskPixels = UInt8[np.ndarray, "h w"]


@dataclass(frozen=True)
class InputImage:
    """An image, or a mask, that a request begins with: known by the SHA-256 of its pixels, to which alone it is equal.

    A file's pixels are read again when they are needed, so that many requests fit into memory. The input of a request
    that was read from a picture's metadata is `size` (0, 0) and has no pixels: they are elsewhere.
    """

    sha256: str
    size: tuple[int, int] = field(default=(0, 0), compare=False)
    extrema: tuple[int, int] = field(default=(0, 0), compare=False)
    name: str = field(default="", compare=False)
    metadata: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    read: Callable[[], np.ndarray] | None = field(default=None, compare=False, repr=False)

    def __repr__(self) -> str:
        return repr(self.name) if self.name else f"of SHA-256 {self.sha256[:16]}"

    @property
    def pixels(self) -> np.ndarray:
        """uint8 (h w 3), of a mask (h w); ValueError where they are not at hand, or have changed since."""
        if self.read is None:
            raise ValueError(f"the image {self!r} is not at hand")
        pixels = self.read()
        if _digest(pixels) != self.sha256:
            raise ValueError(f"{self.name} has changed since it was first read")
        return pixels


def open_input_image(source: Any) -> InputImage:
    """The image of a path, an image of Pillow, pixels of uint8 (h w 3), or a generated image; an InputImage as it is.

    Raises ValueError as `read_input_image` does, and for anything else.
    """
    return _open_input(source, _rgb_pixels)


def open_input_mask(source: Any) -> InputImage:
    """The mask, from whatever an image may come from: 255 where the image is edited, 0 where it stays.

    Where the source has transparent pixels, those are edited; otherwise white ones are. What lies between is edited in
    part.
    """
    return _open_input(source, _mask_pixels)


def read_input_image(path: str | Path) -> Pixels:
    """The pixels of an image file; transparency is laid over white, 16 bits are rounded to 8.

    Raises ValueError that names the file for one that cannot be opened or is damaged, of another format, animated, or
    of more than MOST_PIXELS pixels.
    """
    return _read_file(path, _rgb_pixels)[0]


def _open_input(source: Any, convert: Callable[[Image.Image], np.ndarray]) -> InputImage:
    if isinstance(source, InputImage):
        return source
    if isinstance(source, str | Path):
        path = local_path(source)
        pixels, metadata = _read_file(path, convert)
        return _describe(pixels, str(source), metadata, lambda: _read_file(path, convert)[0])
    metadata = getattr(source, "metadata", {})  # of a generated image
    image = getattr(source, "image", source)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,), (4,)):
            raise ValueError(f"an array of {image.dtype} {image.shape} is no image: give uint8 of (h, w, 3)")
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise ValueError(f"a {type(source).__name__} is no image: give a path, an image of Pillow, or uint8 (h, w, 3)")
    try:
        _check_header(image, "the image")
        metadata = metadata or _read_metadata(image)
        pixels = convert(turn_upright(image))
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot read the image: {error}") from None
    return _describe(pixels, "", metadata, lambda: pixels)


def _describe(pixels: np.ndarray, name: str, metadata: Mapping[str, Any], read: Callable[[], np.ndarray]) -> InputImage:
    height, width = pixels.shape[:2]
    return InputImage(_digest(pixels), (height, width), (int(pixels.min()), int(pixels.max())), name, metadata, read)


def _digest(pixels: np.ndarray) -> str:
    """SHA-256 of the shape and the pixels: a copy in another lossless format is the same image."""
    return hashlib.sha256(f"{pixels.shape} ".encode() + pixels.tobytes()).hexdigest()


def _read_file(path: str | Path, convert: Callable[[Image.Image], np.ndarray]) -> tuple[np.ndarray, Mapping[str, Any]]:
    """The pixels of a file, and what it says of how it was made."""
    metadata: Mapping[str, Any] = {}

    def check(opened: Image.Image) -> None:
        nonlocal metadata
        _check_header(opened, path)
        metadata = _read_metadata(opened)

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF, and of many pixels: the limit here is lower
            return convert(read_upright(Path(path), check)), metadata
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is no image: use {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path}: {error}; at most {MOST_PIXELS:,} pixels are read") from None
    except (OSError, SyntaxError) as error:
        raise ValueError(f"cannot read {path}: {error}") from None


def _read_metadata(image: Image.Image) -> Mapping[str, Any]:
    """The metadata of an opened image, on how it was made; nothing where that is damaged or not there."""
    try:
        made = json.loads(read_metadata_text(image) or "{}")
    except (ValueError, RecursionError):
        return {}
    return made if isinstance(made, dict) else {}


def _check_header(opened: Image.Image, path: str | Path) -> None:
    if opened.width * opened.height > MOST_PIXELS:
        size = f"{opened.width} x {opened.height} pixels"
        raise ValueError(f"{path} has {size}: at most {MOST_PIXELS:,} are read; shrink it, or cut it into parts")
    if is_animated(opened):
        raise ValueError(f"{path} is animated: save one of its frames as an image of its own")


def _rgb_pixels(image: Image.Image) -> Pixels:
    return np.array(flatten_image(image))


def _mask_pixels(image: Image.Image) -> MaskPixels:
    if image.mode.startswith("I"):
        return round_grey(image)
    if image.has_transparency_data:
        alpha = np.array(image.convert("RGBA").getchannel("A"))
        if alpha.min() < 255:
            return 255 - alpha
    return np.array(image.convert("RGB").convert("L"))
