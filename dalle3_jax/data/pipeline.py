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
from dalle3_jax.data.records import Record
from dalle3_jax.data.sources import ENDLESS, ScenesSource, Source, TFDSSource
from dalle3_jax.data.transforms import crop, decode, unit

Tokenize = Callable[[list[str], int], tuple[np.ndarray, np.ndarray]]
Batch = dict[str, np.ndarray]
Targets = Callable[[Record], Mapping[str, np.ndarray]]

DEFAULTS: Mapping[str, Any] = {
    "source": "scenes",  # or the folder of a TFDS dataset
    "world": "first",
    "part": {},  # of the world: what `data.scenes.world_of` takes
    "split": "train",
    "size": (128, 128),  # height, width
    "buckets": (),  # sizes (height, width) that batches have; (): size alone
    "crop": 0,  # side of a random crop in pixels; 0: whole pictures
    "captions": {"descriptive": 0.80, "short": 0.15, "alt": 0.05},
    "dropout": 0.1,  # how often a caption is left empty
    "text_length": 64,
    "glyph_length": 0,  # bytes of quoted text; 0: they are not read
    "latents": 0,  # how many records have their latents cached; 0 encodes as it goes
    "cache": "",  # a folder of encoded latents
    "max_bad": 0.01,  # share of records that cannot be used above which a run stops
    "threads": 2,
    "prefetch": 8,  # batches
    "seed": 0,
}


def settings_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """The data section with its defaults; ValueError names everything that is wrong with it."""
    given = {key: data[key] for key in data}
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise ValueError(f"unknown data settings {unknown}: choose from {sorted(DEFAULTS)}")
    settings = {**DEFAULTS, **given}
    wrong = [name for name, (suits, _) in CHECKS.items() if not suits(settings[name])]
    remedies = {name: remedy for name, (_, remedy) in CHECKS.items()}
    side = settings["crop"] or 0
    if not is_whole(side, 0) or ("size" not in wrong and side > min(settings["size"])):
        wrong, remedies["crop"] = ["crop", *wrong], "a crop must fit into the picture, 0 for none"
    if wrong:
        raise ValueError("; ".join(f"data.{name} is {settings[name]!r}: {remedies[name]}" for name in wrong))
    return settings


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_size(value: Any) -> bool:
    """Whether it is height and width of pictures that a network can halve three times."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return all(is_whole(side, 8) and side % 8 == 0 for side in value)


def is_probability(value: Any) -> bool:
    """Whether it is a number in [0, 1]."""
    return isinstance(value, int | float) and 0 <= value <= 1


def are_weights(value: Any) -> bool:
    """Whether it is numbers by name, none of them negative, not all of them zero."""
    if not isinstance(value, Mapping) or not all(isinstance(weight, int | float) for weight in value.values()):
        return False
    return min(value.values(), default=0) >= 0 and sum(value.values()) > 0


CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "world": (lambda value: isinstance(value, str | Mapping), "name a world, or describe a part of one"),
    "part": (lambda value: isinstance(value, Mapping), "describe it by the keys of `data.scenes.world_of`"),
    "size": (is_size, "height and width must be positive multiples of 8"),
    "captions": (are_weights, "the probabilities of the versions must not be negative, nor all be zero"),
    "dropout": (is_probability, "a probability lies in [0, 1]"),
    "text_length": (lambda value: is_whole(value, 1), "it must be at least 1"),
    "glyph_length": (lambda value: is_whole(value, 0), "it must not be negative, 0 for none"),
    "threads": (lambda value: is_whole(value, 1), "it must be at least 1"),
    "prefetch": (lambda value: is_whole(value, 0), "it must not be negative"),
}


def source_of(data: Mapping[str, Any]) -> Source:
    """The source that the data section names."""
    settings = settings_of(data)
    if settings["source"] != "scenes":
        return TFDSSource(settings["source"], settings["split"])
    height, width = settings["size"]
    world = {**settings["part"], "of": settings["world"]} if settings["part"] else settings["world"]
    return ScenesSource(world, settings["seed"], height, width, ENDLESS, settings["split"])


def batches(
    data: Mapping[str, Any],
    *,
    tokenize: Tokenize | None,
    glyphs: Tokenize | None = None,
    batch_size: int,
    seed: int,
    process_index: int = 0,
    process_count: int = 1,
    latents: Sequence[np.ndarray] | None = None,
    targets: Targets | None = None,
) -> grain.DatasetIterator[Batch]:
    """An endless iterator over this process's batches of `batch_size` rows each.

    A batch holds `images` float32 [b h w 3] in [-1, 1], or `latents` where a cache of them is given; with a tokenizer
    also `ids`, `mask` and `sizes` (original height and width, crop top and left, target height and width), and with
    `glyphs` (the tokenizer of quoted text) `glyph_ids` and `glyph_mask` of the same captions; and what `targets` makes
    of each record, always in the same shapes. Joined in the order of the processes, their batches are the batch of one
    process. `get_state` and `set_state` of the iterator resume exactly.
    """
    settings = settings_of(data)
    if batch_size < 1 or not 0 <= process_index < process_count:
        raise ValueError(f"batch size {batch_size}, process {process_index} of {process_count}: not a share of a batch")
    source = source_of(data)
    length = len(source) if latents is None else len(latents)
    check_record(source[0], settings, tokenize is not None)

    def row(position: int, index: int) -> dict[str, Any]:
        key = (int(seed), int(position) // length, int(index))
        return draw_row(source, int(index), settings, tokenize is not None, latents, key, targets)

    def collate(rows: Sequence[dict[str, Any]]) -> Batch:
        return finish(rows, settings, tokenize, glyphs)

    order = grain.MapDataset.range(length).seed(seed)
    order = order if length == ENDLESS else order.shuffle()
    rows = order.repeat().map_with_index(row)
    mine = rows.batch(batch_size, drop_remainder=True, batch_fn=collate)[process_index::process_count]
    options = grain.ReadOptions(num_threads=settings["threads"], prefetch_buffer_size=settings["prefetch"])
    return iter(mine.to_iter_dataset(options))


def check_record(record: Record, settings: Mapping[str, Any], text: bool) -> None:
    """ValueError where the settings ask for a size or for versions of captions that the records do not have."""
    if (record.height, record.width) != tuple(settings["size"]):
        raise ValueError(f"data.size is {tuple(settings['size'])}: the records have {record.height, record.width}")
    wanted = [version for version, weight in settings["captions"].items() if weight > 0]
    if text and (missing := sorted(set(wanted) - set(record.captions))):
        raise ValueError(f"data.captions asks for {missing}: the records have {sorted(record.captions)}")


def draw_row(
    source: Source,
    index: int,
    settings: Mapping[str, Any],
    text: bool,
    latents: Sequence[np.ndarray] | None,
    key: tuple,
    targets: Targets | None,
) -> dict[str, Any]:
    """One row: the picture (or its latents), cropped, with one of its captions and what `targets` makes of it."""
    record = source[index]
    height, width = record.height, record.width
    row: dict[str, Any] = dict(targets(record)) if targets else {}
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
    versions, weights = zip(*settings["captions"].items(), strict=True)
    return captions[weighted(versions, weights, *key, "caption")]


def finish(
    rows: Sequence[dict[str, Any]], settings: Mapping[str, Any], tokenize: Tokenize | None, glyphs: Tokenize | None
) -> Batch:
    """Rows as the arrays of a batch."""
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "caption"}
    if "images" in batch:
        batch["images"] = unit(batch["images"])
    if "latents" in batch:
        batch["latents"] = batch["latents"].astype(np.float32)
    if tokenize is not None:
        batch |= tokenized([row["caption"] for row in rows], settings, tokenize, glyphs)
    return batch


def tokenized(captions: list[str], settings: Mapping[str, Any], tokenize: Tokenize, glyphs: Tokenize | None) -> Batch:
    """Captions as the arrays of a batch."""
    ids, mask = tokenize(captions, settings["text_length"])
    if glyphs is None:
        return {"ids": ids, "mask": mask}
    glyph_ids, glyph_mask = glyphs(captions, settings["glyph_length"])
    return {"ids": ids, "mask": mask, "glyph_ids": glyph_ids, "glyph_mask": glyph_mask}
