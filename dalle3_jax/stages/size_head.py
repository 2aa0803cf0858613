"""The stage `size_head`: which size a text asks for, learnt from captions and the shapes of their pictures."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.checkpoints.releases import Release, weights_digest
from dalle3_jax.data import batches
from dalle3_jax.data.buckets import nearest_bucket, nearest_buckets
from dalle3_jax.data.caption_versions import main_version, usable_captions
from dalle3_jax.data.records import Record
from dalle3_jax.data.sources import read_good_records
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.models.size_head import SizeHead
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, SheetCell, SheetLine, draw_sheet
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import StageNetworks
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.size_head import size_head_loss
from dalle3_jax.typing import Params

__all__ = ["size_head_stage"]

SCORED = 512
"""Held-out records that a preview reads."""


def size_head_stage(context: Context) -> Stage:
    """The head on a frozen text encoder; every record's bucket is that of its own shape."""
    config, networks = context.config, context.networks
    networks.require("text_encoder", "size_head")
    module, tokenizer = networks.modules["size_head"], context.tokenizer
    check_size_head(config, module, networks)
    functions = {
        name: functools.partial(apply_network, networks.modules[name]) for name in ("text_encoder", "size_head")
    }

    def targets(record: Record) -> dict[str, np.ndarray]:
        return {"bucket": np.array(nearest_bucket(record.height, record.width, module.buckets), np.int32)}

    @jax.jit
    def chances(params: Params, ids: Any, mask: Any) -> Any:
        features = functions["text_encoder"](networks.loaded["text_encoder"], ids, mask)
        return jax.nn.softmax(functions["size_head"](params, features, mask))

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        source = batches.open_source(inputs.data_section(config, split="held_out"))
        version = main_version(usable_captions(source, dict(config.data.captions)))
        records = [record for record, _ in read_good_records(source, SCORED, version)]
        texts = [record.captions[version] for record in records]
        predicted = np.asarray(chances(ema["size_head"], *tokenizer(texts, config.data.text_length)))
        right = nearest_buckets(np.array([(r.height, r.width) for r in records]), module.buckets)
        shown = size_cells(records[: config.sample.count], texts, predicted, right, module.buckets)
        logging.save_image(path, draw_sheet(shown, columns=min(len(shown), 6), width=160, title=f"step {step:,}"))
        return size_scores(predicted, right)

    def release(ema: Params, step: int) -> Release:
        text = {"length": config.data.text_length, "encoder": weights_digest(networks.loaded["text_encoder"])}
        return Release(
            {"size_head": module}, {"size_head": ema["size_head"]}, text=text, training=training_metadata(config, step)
        )

    return Stage(
        loss_fn=size_head_loss(functions),
        data=functools.partial(inputs.batches, context, targets),
        preview=preview,
        release=release,
    )


def size_scores(chances: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """The share of held-out records whose size is the likeliest, of captions of others, and of the commonest size."""
    likeliest = chances.argmax(-1)
    return {
        "right": float(np.mean(likeliest == right)),
        "shuffled": float(np.mean(np.roll(likeliest, 1) == right)),
        "commonest": float(np.bincount(right).max() / len(right)),
    }


def size_cells(
    records: Sequence[Record],
    texts: Sequence[str],
    chances: np.ndarray,
    right: np.ndarray,
    buckets: Sequence[tuple[int, int]],
) -> list[SheetCell]:
    """Pictures in their own shape, and what the head makes of their captions."""
    cells = []
    for record, text, row, wanted in zip(records, texts, chances, right, strict=False):
        best = int(row.argmax())
        line = SheetLine(f"{buckets[best][1]}x{buckets[best][0]}: {row[best]:.0%}", GREEN if best == wanted else RED)
        cells.append(SheetCell(Image.fromarray(decode_image(record.image, record.key)), (SheetLine(text), line)))
    return cells


def check_size_head(config: ConfigDict, module: Any, networks: StageNetworks) -> None:
    """Raise ValueError with all that keeps this head from learning from the config's data."""
    if not isinstance(module, SizeHead):
        raise ValueError(f"config.model.size_head is a {type(module).__name__}: leave `network` out")
    errors, width = [], networks.modules["text_encoder"].width
    if len(module.buckets) < 2:
        errors.append("buckets has fewer than two sizes to tell apart: give (height, width) of each")
    if module.width != width:
        errors.append(f"width is {module.width}, the text encoder's {width}: set that")
    if "text_encoder" not in networks.loaded:
        errors.append("the text encoder must come trained: set config.init.text_encoder")
    if config.data.source == "scenes" and not config.data.frames:
        errors.append("scenes are drawn at any size: set data.frames to the sizes that they are to choose from")
    if config.data.latents or config.data.cache:
        errors.append("it reads captions, not latents: leave data.latents and data.cache out")
    if errors:
        raise ValueError(f"config.model.size_head: {'; '.join(errors)}")
