"""Pictures between file and batch: numpy and Pillow only."""

import warnings
from collections.abc import Callable, Collection, Sequence
from io import BytesIO

import numpy as np
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError

from dalle3_jax.data.records import BadRecord

FORMATS = ("JPEG", "PNG", "WEBP")
MAGIC = (b"\xff\xd8", b"\x89PNG", b"RIFF")
LARGEST = 64_000_000
"""Pixels of the largest picture that is decoded: one of more is a mistake or an attack, and costs gigabytes."""

LONGEST = 32
"""How many times longer than wide a picture may be: scaled to cover a bucket, a strip is one colour and gigabytes."""

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
            return decode_pixels(image, key, background)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise BadRecord("bomb", key, str(error)) from None
    except UnidentifiedImageError:
        if image.startswith(MAGIC):
            raise BadRecord("truncated", key, f"the picture ends within its first {len(image)} bytes") from None
        raise BadRecord("format", key, f"the picture is no {', '.join(FORMATS)}") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord("truncated", key, f"the picture cannot be decoded: {error}") from None


def decode_pixels(image: bytes, key: str, background: Sequence[int]) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a picture file, as Pillow reads it; its errors where it cannot."""
    try:
        opened = Image.open(BytesIO(image), formats=FORMATS)
        check_image(opened, image, key)
        pixels = flatten_image(opened, background)
    except ValueError:  # texts and colour profiles of over a megabyte, which Pillow refuses with the whole file
        bare = drop_png_chunks(image, PNG_TEXTS)
        if len(bare) == len(image):
            raise
        return decode_pixels(bare, key, background)
    turn = ORIENTATIONS.get(read_orientation(opened))
    return np.array(pixels if turn is None else pixels.transpose(turn))


def check_image(opened: Image.Image, image: bytes, key: str) -> None:
    """BadRecord for pictures that would decode to something else than what they show, or to too much."""
    if opened.width * opened.height > LARGEST:
        raise BadRecord("bomb", key, f"the picture has {opened.width} x {opened.height} pixels, over {LARGEST:,}")
    if max(opened.size) > LONGEST * min(opened.size):
        raise BadRecord("shape", key, f"the picture has {opened.width} x {opened.height} pixels, a strip")
    # A JPEG with several pictures (MPO) is a photograph with its preview or its map of brightness; the first is it.
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        raise BadRecord("animated", key, "the picture moves")
    png_depth = image[24] if opened.format == "PNG" and len(image) > 24 else 8  # byte 8 of the header's content
    if png_depth == 16 or opened.mode.startswith(("I", "F")):
        raise BadRecord("depth", key, "the picture has 16 bits a channel or more")


def flatten_image(opened: Image.Image, background: Sequence[int]) -> Image.Image:
    """The picture in RGB, on the background where it is transparent: what lies hidden there is never shown."""
    if not opened.has_transparency_data:
        return opened.convert("RGB")
    canvas = Image.new("RGBA", opened.size, (*background, 255))
    return Image.alpha_composite(canvas, opened.convert("RGBA")).convert("RGB")


def read_orientation(opened: Image.Image) -> int:
    """How a picture says that it is turned, by EXIF or XMP: 1 to 8; 1, upright, where it does not say."""
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


def normalise_pixels(pixels: UInt8[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Pixels as float32 in [-1, 1]."""
    return pixels.astype(np.float32) * np.float32(1 / 127.5) - np.float32(1.0)
