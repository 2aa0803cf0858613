"""What stands beside a picture in other people's datasets: captions and JSON, read as carefully as pictures are."""

import json
from collections.abc import Mapping
from typing import Any

from dalle3_jax.data.records import BadRecord

FIELDS: Mapping[str, str] = {
    "text": "alt",
    "caption": "alt",
    "alt": "alt",
    "short": "short",
    "descriptive": "descriptive",
}
"""Fields of a JSON object that hold captions -> the versions they are, where a config says nothing else."""

LONGEST = 100_000
"""Bytes of the longest caption: one of more is no caption, and would stop a tokenizer for seconds."""


def decode_text(content: bytes, key: str) -> str:
    """The text of a file; BadRecord where it is not UTF-8 or too long to be read at all."""
    if len(content) > LONGEST:
        raise BadRecord("length", key, f"a caption of {len(content)} bytes, more than {LONGEST}")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadRecord("encoding", key, f"the text is not UTF-8: {error}") from None


def parse_object(content: bytes, key: str) -> dict[str, Any]:
    """The JSON object in a line or a file; BadRecord where there is none."""
    try:
        value = json.loads(content.decode())
    except UnicodeDecodeError as error:
        raise BadRecord("encoding", key, f"the JSON is not UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise BadRecord("json", key, f"the JSON cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BadRecord("json", key, f"the JSON is no object, it is {str(value)[:40]!r}")
    return value


def extract_captions(row: Mapping[str, Any], fields: Mapping[str, str], key: str) -> dict[str, str]:
    """The captions of a JSON object by version: those of `fields`, and those of an object in the field `captions`.

    null is no caption. BadRecord where one is no text.
    """
    nested = row.get("captions") or {}
    if not isinstance(nested, dict):
        raise BadRecord("json", key, f"captions must be an object of texts by version, it is {str(nested)[:40]!r}")
    found = {version: row[field] for field, version in fields.items() if row.get(field) is not None} | nested
    if wrong := [name for name, text in found.items() if not isinstance(text, str)]:
        raise BadRecord("json", key, f"the caption {wrong[0]!r} is no text")
    return found


def extract_labels(row: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """What a JSON object says beside its captions."""
    return {name: value for name, value in row.items() if name not in fields and name != "captions"}


def validate_captions(captions: Mapping[str, str], key: str) -> Mapping[str, str]:
    """The captions as they are; BadRecord where one is empty, too long, or holds half a character (a lone surrogate).

    A record without captions is not bad: pictures alone train an autoencoder.
    """
    for version, text in captions.items():
        if not text.strip():
            raise BadRecord("caption", key, f"the caption {version!r} is empty")
        try:
            size = len(text.encode())
        except UnicodeEncodeError as error:
            raise BadRecord("encoding", key, f"the caption {version!r} is not UTF-8: {error}") from None
        if size > LONGEST:
            raise BadRecord("length", key, f"the caption {version!r} has {size} bytes, more than {LONGEST}")
    return captions
