"""One row of a batch: a record's picture brought to its bucket (or its latents), with one of its captions."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from dalle3_jax.data.buckets import Size, resize_and_crop
from dalle3_jax.data.caches.sidecars import CaptionedSource
from dalle3_jax.data.degradation import degrade_image
from dalle3_jax.data.draws import uniform, weighted_choice
from dalle3_jax.data.records import BadRecord, Record
from dalle3_jax.data.sources import Source
from dalle3_jax.data.transforms import crop_square, decode_image, normalise_pixels

__all__ = ["Batch", "Targets", "Tokenize", "collate_rows", "make_row", "tokenize_batch"]

AXES = ("top", "left")
Tokenize = Callable[[list[str], int], tuple[np.ndarray, np.ndarray]]
Batch = dict[str, np.ndarray]
Targets = Callable[[Record], Mapping[str, np.ndarray]]


def make_row(
    source: Source | CaptionedSource,
    index: int,
    bucket: Size,
    settings: Mapping[str, Any],
    key: tuple,
    *,
    text: bool,
    images: bool = True,
    latents: Sequence[Any] | None = None,
    targets: Targets | None = None,
) -> dict[str, Any]:
    """The row of the record at `index`, every draw keyed by `key`; BadRecord where the record cannot be used.

    Without `images` it has none, nor latents. `latents` are those of the records, cached: arrays, or mappings that hold
    `latents`, the `sizes` they were made at and, for every version of captions and "" for none, `features/VERSION` and
    `mask/VERSION`.
    """
    record = source[index]
    row: dict[str, Any] = dict(targets(record)) if targets else {}
    cached: Mapping[str, Any] = {}
    sizes = [record.height, record.width, 0, 0, record.height, record.width]
    if images and latents is None:
        pixels = decode_image(record.image, record.key, settings["background"])
        height, width = pixels.shape[:2]
        pixels, top, left = resize_and_crop(pixels, bucket, uniform(*key, "down"), uniform(*key, "across"))
        if side := settings["crop"]:
            down, across = (int(uniform(*key, name) * (n - side + 1)) for name, n in zip(AXES, bucket, strict=True))
            pixels, top, left = crop_square(pixels, down, across, side), top + down, left + across
        row["images"] = pixels
        if settings["degradation"]:
            row["low_images"] = degrade_image(pixels, settings["degradation"], key)
        sizes = [height, width, top, left, *pixels.shape[:2]]
    elif latents is not None:
        entry = latents[index]
        cached = entry if isinstance(entry, Mapping) else {"latents": entry}
        row["latents"] = cached["latents"]
        sizes = cached.get("sizes", sizes)
    if text:
        row["sizes"] = np.array(sizes, np.float32)
        version = sample_caption_version(record, settings, key)
        row["caption"] = record.captions[version] if version else ""
        if f"features/{version}" in cached:
            row |= {name: cached[f"{name}/{version}"] for name in ("features", "mask")}
    return row


def sample_caption_version(record: Record, settings: Mapping[str, Any], key: tuple) -> str:
    """One of the versions of a record's captions by the configured probabilities, or "" for none at all."""
    if uniform(*key, "dropout") < settings["dropout"]:
        return ""
    versions, weights = zip(*settings["captions"].items(), strict=True)
    version = weighted_choice(versions, weights, *key, "caption")
    if version not in record.captions:
        raise BadRecord("caption", record.key, f"no caption {version!r}, only {', '.join(sorted(record.captions))}")
    return version


def collate_rows(
    rows: Sequence[dict[str, Any]], settings: Mapping[str, Any], tokenize: Tokenize | None, glyphs: Tokenize | None
) -> Batch:
    """Rows as the arrays of a batch."""
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "caption"}
    batch |= {name: normalise_pixels(batch[name]) for name in ("images", "low_images") if name in batch}
    if "latents" in batch:
        batch["latents"] = batch["latents"].astype(np.float32)
    if tokenize is not None:
        texts = tokenize_batch([row["caption"] for row in rows], settings, tokenize, glyphs)
        batch = {**texts, **batch}
        if "features" in batch:
            del batch["ids"]  # the text encoder has read them
    return batch


def tokenize_batch(
    captions: list[str], settings: Mapping[str, Any], tokenize: Tokenize, glyphs: Tokenize | None
) -> Batch:
    """Captions as the arrays of a batch."""
    ids, mask = tokenize(captions, settings["text_length"])
    if glyphs is None:
        return {"ids": ids, "mask": mask}
    glyph_ids, glyph_mask = glyphs(captions, settings["glyph_length"])
    return {"ids": ids, "mask": mask, "glyph_ids": glyph_ids, "glyph_mask": glyph_mask}
