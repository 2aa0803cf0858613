"""The stage `size_head`: which size a text asks for, learnt from captions and the shapes of their pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.checkpoints.releases import Release, weights_digest
from dalle3_jax.data import batches
from dalle3_jax.data.buckets import bucket_of, buckets_of
from dalle3_jax.data.records import Record
from dalle3_jax.data.transforms import decode
from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, Cell, Line, sheet
from dalle3_jax.stages import inputs
from dalle3_jax.stages.latents import checked_tokenizer
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.stage import Stage, apply, described
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.size_head import sizing_loss
from dalle3_jax.typing import Params

__all__ = ["size_head"]

SCORED = 512
"""Held-out records that a preview reads."""


def size_head(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The head on a frozen text encoder; every record's bucket is that of its own shape."""
    system.require("text_encoder", "size_head")
    module, tokenizer = system.modules["size_head"], checked_tokenizer(config, system)
    check_head(config, module, system)
    networks = {
        name: lambda params, *args, name=name: apply(system.modules[name], params, *args)
        for name in ("text_encoder", "size_head")
    }

    def data() -> Any:
        return batches.batches(
            inputs.data_section(config),
            tokenize=tokenizer,
            batch_size=config.train.batch_size // jax.process_count(),
            seed=config.train.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            targets=lambda record: {
                "bucket": np.array(bucket_of(record.height, record.width, module.buckets), np.int32)
            },
        )

    @jax.jit
    def chances(params: Params, ids: Any, mask: Any) -> Any:
        features = networks["text_encoder"](system.loaded["text_encoder"], ids, mask)
        return jax.nn.softmax(networks["size_head"](params, features, mask))

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        source = batches.source_of(inputs.data_section(config, split="held_out"))
        records = [source[index] for index in range(SCORED)]
        version = max(config.data.captions.items(), key=lambda item: item[1])[0]
        texts = [record.captions[version] for record in records]
        found = np.asarray(chances(ema["size_head"], *tokenizer(texts, config.data.text_length)))
        right = buckets_of(np.array([(r.height, r.width) for r in records]), module.buckets)
        shown = drawn(records[: config.sample.count], texts, found, right, module.buckets)
        logging.save_image(path, sheet(shown, columns=min(len(shown), 6), width=160, title=f"step {step:,}"))
        return scores(found, right)

    def release(ema: Params, step: int) -> Release:
        told = {"length": config.data.text_length, "encoder": weights_digest(system.loaded["text_encoder"])}
        return Release(
            {"size_head": module}, {"size_head": ema["size_head"]}, text=told, training=described(config, step)
        )

    return Stage(sizing_loss(networks), data, preview, release)


def scores(chances: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The share of held-out records whose size is the likeliest, of captions of others, and of the commonest size."""
    likeliest = chances.argmax(-1)
    return {
        "right": float(np.mean(likeliest == right)),
        "shuffled": float(np.mean(np.roll(likeliest, 1) == right)),
        "commonest": float(np.bincount(right).max() / len(right)),
    }


def drawn(
    records: Sequence[Record],
    texts: Sequence[str],
    chances: np.ndarray,
    right: np.ndarray,
    buckets: Sequence[tuple[int, int]],
) -> list[Cell]:
    """Pictures in their own shape, and what the head makes of their captions."""
    cells = []
    for record, text, row, wanted in zip(records, texts, chances, right, strict=False):
        best = int(row.argmax())
        line = Line(f"{buckets[best][1]}x{buckets[best][0]}: {row[best]:.0%}", GREEN if best == wanted else RED)
        cells.append(Cell(Image.fromarray(decode(record.image, record.key)), (Line(text), line)))
    return cells


def check_head(config: ConfigDict, module: Any, system: System) -> None:
    """Raise ValueError with all that keeps this head from learning from the config's data."""
    if not isinstance(module, SizeHead):
        raise ValueError(f"config.model.size_head is a {type(module).__name__}: leave `network` out")
    found, width = [], system.modules["text_encoder"].width
    if len(module.buckets) < 2:
        found.append("buckets has fewer than two sizes to tell apart: give (height, width) of each")
    if module.width != width:
        found.append(f"width is {module.width}, the text encoder's {width}: set that")
    if "text_encoder" not in system.loaded:
        found.append("the text encoder must come trained: set config.init.text_encoder")
    if config.data.source == "scenes" and not config.data.frames:
        found.append("scenes are drawn at any size: set data.frames to the sizes that they are to choose from")
    if config.data.latents or config.data.cache:
        found.append("it reads captions, not latents: leave data.latents and data.cache out")
    if found:
        raise ValueError(f"config.model.size_head: {'; '.join(found)}")
