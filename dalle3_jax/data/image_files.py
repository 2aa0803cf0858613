"""Image files as pixels, upright and without transparency, and their sizes: numpy and Pillow only."""

from collections.abc import Callable, Collection, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image

FORMATS = ("JPEG", "PNG", "WEBP")
MAGIC = (b"\xff\xd8", b"\x89PNG", b"RIFF")
WHITE = (255, 255, 255)
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientations, and what brings pictures of each upright; from 5 on height and width change places."""

PNG_PIXELS = (b"IDAT", b"fdAT")
PNG_TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")


def decode_pixels(
    file: bytes | Path, check: Callable[[Image.Image], None], background: Sequence[int] = WHITE
) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file, upright, on `background` where it is transparent; arguments are `read_upright`'s."""
    return np.array(flatten_image(read_upright(file, check), background))


def read_upright(file: bytes | Path, check: Callable[[Image.Image], None]) -> Image.Image:
    """The image of a file, decoded and turned upright, in its own mode.

    `check` gets the image before its pixels are decoded, and raises ValueError where it is not wanted. Pillow's errors
    (UnidentifiedImageError, OSError, SyntaxError, ValueError, DecompressionBombError) where it cannot be decoded.
    """
    try:
        with Image.open(BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS) as opened:
            check(opened)
            opened.load()
            return turn_upright(opened)
    except ValueError:  # texts and colour profiles of over a megabyte, which Pillow refuses with the whole file
        content = file if isinstance(file, bytes) else file.read_bytes()
        bare = drop_png_chunks(content, PNG_TEXTS)
        if len(bare) == len(content):
            raise
        return read_upright(bare, check)


def turn_upright(image: Image.Image) -> Image.Image:
    """The image turned as its metadata say, a copy that no longer depends on a file."""
    turn = ORIENTATIONS.get(read_orientation(image))
    return image.copy() if turn is None else image.transpose(turn)


def is_animated(opened: Image.Image) -> bool:
    """Whether an image file moves; of a JPEG with several images (MPO) the first is it, a preview the others."""
    return opened.format != "MPO" and getattr(opened, "is_animated", False)


def flatten_image(image: Image.Image, background: Sequence[int] = WHITE) -> Image.Image:
    """The image in RGB, on the background where it is transparent: what lies hidden there is never shown."""
    if image.mode.startswith("I"):
        return Image.fromarray(round_grey(image)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def round_grey(image: Image.Image) -> UInt8[np.ndarray, "h w"]:
    """Grey of 16 bits, rounded to 8."""
    return np.rint(np.asarray(image, np.float64) / 257).clip(0, 255).astype(np.uint8)


def read_orientation(opened: Image.Image) -> int:
    """The orientation of an image by its EXIF or XMP, 1 to 8; 1, upright, where it does not say."""
    try:
        # Not PngImageFile's own, which decodes the pixels first: what stands behind them may be read before.
        orientation = Image.Image.getexif(opened).get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged metadata raise errors of many kinds, and the picture is none the worse for them
        return 1
    return orientation if orientation in ORIENTATIONS else 1


def read_image_size(head: bytes, read_whole: Callable[[], bytes]) -> tuple[int, int] | None:
    """Height and width of a picture as it is seen, upright; None where it does not say them.

    `head` are its first bytes, enough for most; `read_whole` gives all of them, and is called where they are not.
    """
    if head.startswith(MAGIC[0]) and (size := parse_image_size(head)):  # metadata of a JPEG precede its size
        return size
    return parse_image_size(read_whole())


def parse_image_size(content: bytes) -> tuple[int, int] | None:
    """Height and width of a picture as it is seen; None where the bytes do not say them."""
    if content.startswith(MAGIC[1]):
        content = drop_png_chunks(content, (*PNG_PIXELS, b"iCCP"))
    try:
        with Image.open(BytesIO(content)) as image:
            turned = read_orientation(image) >= 5
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        bare = drop_png_chunks(content, PNG_TEXTS)
        return None if len(bare) == len(content) else parse_image_size(bare)


def drop_png_chunks(content: bytes, kinds: Collection[bytes]) -> bytes:
    """A PNG without its chunks of these kinds; anything else, and what follows the end, as it is."""
    if not content.startswith(MAGIC[1]):
        return content
    parts, start = [content[:8]], 8
    while start + 12 <= len(content):
        kind, end = content[start + 4 : start + 8], start + 12 + int.from_bytes(content[start : start + 4])
        if kind not in kinds:
            parts.append(content[start:end])
        start = end
    return b"".join([*parts, content[start:]])
