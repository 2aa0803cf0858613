"""From a source to an endless stream of batches: deterministic, sharded by process, resumable to the batch.

    source -> order (epochs, permuted where they end) -> row (caption, crop) -> batch -> this process's batches

Every draw of a row is keyed by (seed, epoch, index), so that a batch is a pure function of its number: the state of the
iterator is that number alone, and n processes share out exactly the rows that one process would see.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grain
import numpy as np

from dalle3_jax.data.draws import uniform, weighted
from dalle3_jax.data.sources import ENDLESS, ScenesSource, Source, TFDSSource
from dalle3_jax.data.transforms import crop, decode, unit

Tokenize = Callable[[list[str], int], tuple[np.ndarray, np.ndarray]]
Batch = dict[str, np.ndarray]

DEFAULTS: Mapping[str, Any] = {
    "source": "scenes",  # or the folder of a TFDS dataset
    "world": "first",
    "split": "train",
    "size": (128, 128),  # height, width
    "crop": 0,  # side of a random crop in pixels; 0: whole pictures
    "captions": {"descriptive": 0.80, "short": 0.15, "alt": 0.05},
    "dropout": 0.1,  # how often a caption is left empty
    "tokenizer": "scenes",  # read by the command, which passes `tokenize`
    "text_length": 64,
    "latents": 0,  # how many records have their latents cached; 0 encodes as it goes
    "threads": 2,
    "prefetch": 8,  # batches
    "seed": 0,
}


def settings_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data section with its defaults; ValueError names every key that does not exist."""
    given = {key: data[key] for key in data}
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise ValueError(f"unknown data settings {unknown}: choose from {sorted(DEFAULTS)}")
    return {**DEFAULTS, **given}


def source_of(data: Mapping[str, Any]) -> Source:
    """The source that the data section names."""
    settings = settings_of(data)
    if settings["source"] != "scenes":
        return TFDSSource(settings["source"], settings["split"])
    height, width = settings["size"]
    return ScenesSource(settings["world"], settings["seed"], height, width, ENDLESS, settings["split"])


def batches(
    data: Mapping[str, Any],
    *,
    tokenize: Tokenize | None,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    latents: Sequence[np.ndarray] | None = None,
) -> grain.DatasetIterator[Batch]:
    """An endless iterator over this process's batches of `batch_size` rows each.

    A batch holds `images` float32 [b h w 3] in [-1, 1], or `latents` where a cache of them is given; with a tokenizer
    also `ids`, `mask` and `sizes` (original height and width, crop top and left, target height and width). Joined in
    the order of the processes, their batches are the batch of one process. `get_state` and `set_state` of the iterator
    resume exactly.
    """
    settings = settings_of(data)
    source = source_of(data)
    length = len(source) if latents is None else len(latents)

    def row(position: int, index: int) -> dict[str, Any]:
        key = (seed, position // length, index)
        return draw_row(source, int(index), settings, tokenize is not None, latents, key)

    def collate(rows: Sequence[dict[str, Any]]) -> Batch:
        return finish(rows, tokenize, settings["text_length"])

    order = grain.MapDataset.range(length).seed(seed)
    order = order if length == ENDLESS else order.shuffle()
    rows = order.repeat().map_with_index(row)
    mine = rows.batch(batch_size, drop_remainder=True, batch_fn=collate)[process_index::process_count]
    options = grain.ReadOptions(num_threads=settings["threads"], prefetch_buffer_size=settings["prefetch"])
    return iter(mine.to_iter_dataset(options))


def draw_row(
    source: Source,
    index: int,
    settings: Mapping[str, Any],
    text: bool,
    latents: Sequence[np.ndarray] | None,
    key: tuple,
) -> dict[str, Any]:
    """One row: the picture (or its latents), cropped, with one of its captions."""
    record = source[index]
    height, width = record.height, record.width
    row: dict[str, Any] = {}
    top, left, side = 0, 0, settings["crop"]
    if latents is not None:
        row["latents"] = latents[index]
    elif not side:
        row["images"] = decode(record.image)
    else:
        top = int(uniform(*key, "top") * (height - side + 1))
        left = int(uniform(*key, "left") * (width - side + 1))
        row["images"] = crop(decode(record.image), top, left, side)
        height, width = side, side
    if text:
        row["caption"] = draw_caption(record.captions, settings, key)
        row["sizes"] = np.array([record.height, record.width, top, left, height, width], np.float32)
    return row


def draw_caption(captions: Mapping[str, str], settings: Mapping[str, Any], key: tuple) -> str:
    """One of a record's captions by the configured probabilities, or none at all."""
    if uniform(*key, "dropout") < settings["dropout"]:
        return ""
    weights = settings["captions"]
    versions = [version for version in weights if version in captions]
    return captions[weighted(versions, [weights[version] for version in versions], *key, "caption")]


def finish(rows: Sequence[dict[str, Any]], tokenize: Tokenize | None, length: int) -> Batch:
    """Rows as the arrays of a batch."""
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "caption"}
    if "images" in batch:
        batch["images"] = unit(batch["images"])
    if "latents" in batch:
        batch["latents"] = batch["latents"].astype(np.float32)
    if tokenize is not None:
        batch["ids"], batch["mask"] = tokenize([row["caption"] for row in rows], length)
    return batch
