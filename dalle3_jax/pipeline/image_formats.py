"""Generated images as PNG, WebP or JPEG files, all with the same metadata: text chunks of a PNG, EXIF of the others."""

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

__all__ = [
    "FORMATS",
    "METADATA_CHUNK",
    "MOST_EXIF",
    "encode_image",
    "encode_png",
    "open_generated",
    "read_metadata_text",
]

METADATA_CHUNK = "dalle3_jax"
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="SOURCE_TYPE"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)
FORMATS = {"png": "PNG", "webp": "WEBP", "jpeg": "JPEG"}
SUFFIXES = {".png": "png", ".webp": "webp", ".jpeg": "jpeg", ".jpg": "jpeg"}
QUALITY = 95
DESCRIPTION, SOFTWARE, EXIF, COMMENT = 0x010E, 0x0131, 0x8769, 0x9286
MOST_EXIF = 65_000
"""Bytes; a JPEG holds no more."""


def encode_image(
    image: Image.Image,
    texts: Mapping[str, str],
    suffix: str,
    quality: int = QUALITY,
    source_type: str = SOURCE_TYPE,
) -> bytes:
    """The file of an image in the format that a suffix names; `texts` are those of a PNG's chunks.

    `quality` is that of a JPEG or WebP, 0 to 100.

    EXIF holds A1111's parameters as the user's comment, where stable-diffusion-webui puts them, and ours as the
    description. Raises ValueError for another suffix, and for a JPEG whose texts have no room.
    """
    form = SUFFIXES.get(suffix.lower())
    if form is None:
        raise ValueError(f"no images are written as {suffix!r}: use {', '.join(SUFFIXES)}")
    if form == "png":
        return encode_png(image, texts, source_type)
    exif = Image.Exif()
    exif[DESCRIPTION] = json.dumps({METADATA_CHUNK: json.loads(texts[METADATA_CHUNK])})
    exif[SOFTWARE] = "dalle3_jax"
    exif.get_ifd(EXIF)[COMMENT] = b"UNICODE\0" + texts["parameters"].encode("utf-16-be")
    content = exif.tobytes()
    if form == "jpeg" and len(content) > MOST_EXIF:
        raise ValueError(f"the prompt is too long for a JPEG, whose metadata end at {MOST_EXIF} bytes: use png or webp")
    file = BytesIO()
    xmp = XMP.replace("SOURCE_TYPE", source_type).encode()
    image.save(file, FORMATS[form], quality=quality, exif=content, xmp=xmp)
    return file.getvalue()


def encode_png(image: Image.Image, texts: Mapping[str, str] | None = None, source_type: str = SOURCE_TYPE) -> bytes:
    """A PNG file with text chunks, and the XMP that tells any reader that the picture was generated, or enhanced."""
    info = PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text)
    info.add_itxt("XML:com.adobe.xmp", XMP.replace("SOURCE_TYPE", source_type))
    file = BytesIO()
    image.save(file, "PNG", pnginfo=info)
    return file.getvalue()


def open_generated(path: str | Path) -> Image.Image:
    """The image file, which may be of any format that images are written in."""
    return Image.open(path, formats=list(FORMATS.values()))


def read_metadata_text(image: Image.Image) -> str | None:
    """The JSON of how an opened image was made; None where it does not say so."""
    if image.format == "PNG":
        # Texts after the pixels are in .text alone, which reads the pixels too.
        return image.info.get(METADATA_CHUNK) or getattr(image, "text", {}).get(METADATA_CHUNK)
    text = image.getexif().get(DESCRIPTION)
    try:
        return json.dumps(json.loads(text)[METADATA_CHUNK]) if isinstance(text, str) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
