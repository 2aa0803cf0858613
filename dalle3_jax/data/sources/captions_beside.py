"""Captions and JSON beside a picture in other people's datasets, read as carefully as pictures are."""

import codecs
import json
from collections.abc import Mapping
from typing import Any

from dalle3_jax.data.records import BadRecord, Record

PICTURES = (
    *("jpg", "jpeg", "jpe", "jfif", "pjpeg", "png", "apng", "webp"),
    *("gif", "bmp", "tif", "tiff", "avif", "jxl", "jp2", "heic", "heif"),
)
"""Endings of pictures, of formats that are read and of others: a record of those is bad, not without a picture."""

ENDINGS = {"picture": PICTURES, "text": ("txt", "caption"), "json": ("json",)}
"""Endings of the files that are a record, by part."""

PARTS = tuple(ENDINGS)
FIELDS: Mapping[str, str] = {
    "text": "alt",
    "caption": "alt",
    "alt": "alt",
    "short": "short",
    "descriptive": "descriptive",
}
"""Fields of a JSON object that hold captions -> the versions they are, where a config says nothing else."""

UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
UTF_32 = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
LONGEST = 100_000
"""Bytes of the longest caption: one of more is no caption, and would stop a tokenizer for seconds."""


def parse_record(
    key: str, parts: Mapping[str, bytes | None], size: tuple[int, int], fields: Mapping[str, str]
) -> Record:
    """The record that a picture is with a text, the caption "alt", and JSON; BadRecord where it cannot be used.

    `parts` are the contents of its files, None where there is none; `size` is height and width. Of the JSON `fields`
    are captions, by the versions they are, and the rest labels.
    """
    picture, text, said = (parts[part] for part in PARTS)
    if picture is None:
        raise BadRecord("missing", key, "no picture stands beside the text")
    if not picture:
        raise BadRecord("empty", key, "the picture has no bytes")
    values = {} if said is None else parse_object(said, key)
    captions = extract_captions(values, fields, key)
    if text is not None:  # one that says nothing leaves what the JSON says
        captions["alt"] = decode_text(text, key) or captions.get("alt", "")
    return Record(key, picture, *size, validate_captions(captions, key), extract_labels(values, fields))


def decode_unicode(content: bytes) -> str:
    """The text of bytes in UTF-8, or in UTF-16 or 32 where a byte order mark says so, without that mark.

    UnicodeDecodeError where they are none of these.
    """
    return content.decode(unicode_encoding(content))


def unicode_encoding(content: bytes) -> str:
    """The encoding that a byte order mark tells: that of UTF-32 begins with that of UTF-16. UTF-8 without one."""
    if content.startswith(UTF_32):
        return "utf-32"
    return "utf-16" if content.startswith(UTF_16) else "utf-8-sig"


def decode_text(content: bytes, key: str) -> str:
    """The text of a file without the blanks around it; BadRecord where it is not Unicode or too long to be read."""
    if len(content) > LONGEST:
        raise BadRecord("length", key, f"a caption of {len(content)} bytes, more than {LONGEST}")
    try:
        return decode_unicode(content).strip()
    except UnicodeDecodeError as error:
        raise BadRecord("encoding", key, f"the text is not UTF-8: {error}") from None


def parse_object(content: bytes, key: str) -> dict[str, Any]:
    """The JSON object in a line or a file; BadRecord where there is none."""
    try:
        value = json.loads(decode_unicode(content))
    except UnicodeDecodeError as error:
        raise BadRecord("encoding", key, f"the JSON is not UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadRecord("json", key, f"the JSON cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BadRecord("json", key, f"the JSON is no object, it is {str(value)[:40]!r}")
    return value


def extract_captions(row: Mapping[str, Any], fields: Mapping[str, str], key: str) -> dict[str, str]:
    """The captions of a JSON object by version: those of `fields`, and those of an object in the field `captions`.

    null is no caption, and one that says nothing leaves another field's. BadRecord where one is no text.
    """
    nested = row.get("captions") or {}
    if not isinstance(nested, dict):
        raise BadRecord("json", key, f"captions must be an object of texts by version, it is {str(nested)[:40]!r}")
    texts = [(version, row.get(field)) for field, version in fields.items()] + [*nested.items()]
    captions: dict[str, Any] = {}
    for version, text in texts:
        blank = isinstance(text, str) and not text.strip()
        if text is not None and not (blank and version in captions):
            captions[version] = text
    if wrong := [name for name, text in captions.items() if not isinstance(text, str)]:
        raise BadRecord("json", key, f"the caption {wrong[0]!r} is no text")
    return captions


def extract_labels(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """The labels of a JSON object: all that it says beside its captions."""
    return {name: value for name, value in row.items() if name not in fields and name != "captions"}


def validate_captions(captions: Mapping[str, str], key: str) -> Mapping[str, str]:
    """The captions that say something, as they are.

    BadRecord where none of them does, or where one is too long or holds half a character (a lone surrogate). A record
    without captions is not bad: pictures alone train an autoencoder.
    """
    filled = {version: text for version, text in captions.items() if text.strip()}
    if captions and not filled:
        raise BadRecord("caption", key, f"the caption {', '.join(map(repr, captions))} is empty")
    for version, text in filled.items():
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise BadRecord("encoding", key, f"the caption {version!r} is not UTF-8: {error}") from None
        if size > LONGEST:
            raise BadRecord("length", key, f"the caption {version!r} has {size} bytes, more than {LONGEST}")
    return filled
