"""The stage `captioner`: a captioner learns from pictures and one version of their captions."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.captioning import CaptionModel
from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.data import batches
from dalle3_jax.data.caption_versions import main_version, usable_captions
from dalle3_jax.data.sources import read_good_records
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.text.tokenizers import Tokenizer
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.captioner import captioner_loss
from dalle3_jax.typing import Params

__all__ = ["captioner_stage"]

COMPARED = 256
"""Held-out pictures among whose captions a preview looks for each picture's own."""


def captioner_stage(context: Context, *, contrastive: float = 1.0, caption: float = 2.0) -> Stage:
    """Contrastive and language-model loss on the data's captions; from nothing, or on from config.init.captioner."""
    config, networks, tokenizer = context.config, context.networks, context.tokenizer
    networks.require("captioner")
    module = networks.modules["captioner"]
    check_captioner(config, module, tokenizer)
    apply = functools.partial(apply_network, module)

    def release(ema: Params, step: int) -> Release:
        params = {"captioner": ema["captioner"]}
        text = {"length": config.data.text_length}
        training = training_metadata(config, step)
        return Release({"captioner": module}, params, text=text, training=training, tokenizer=tokenizer.to_json())

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        source = batches.open_source(inputs.data_section(config, split="held_out"))
        version = main_version(usable_captions(source, dict(config.data.captions)))
        rows = read_good_records(source, COMPARED, version, config.data.background)
        texts, pictures = [record.captions[version] for record, _ in rows], [pixels for _, pixels in rows]
        model = CaptionModel(release(ema, step))
        shown = pictures[: config.sample.count]
        cells = [
            SheetCell(Image.fromarray(p), (SheetLine(t),)) for p, t in zip(shown, model.captions(shown), strict=True)
        ]
        logging.save_image(path, draw_sheet(cells, columns=min(len(cells), 6), width=192, title=f"step {step:,}"))
        products = model.image_vectors(pictures) @ model.text_vectors(texts).T
        return {"agreement": float(np.mean(products.argmax(-1) == np.arange(len(products))))}

    return Stage(
        loss_fn=captioner_loss(apply, start_id=module.start_id, contrastive=contrastive, caption=caption),
        data=functools.partial(inputs.batches, context),
        preview=preview,
        release=release,
    )


def check_captioner(config: ConfigDict, module: Any, tokenizer: Tokenizer) -> None:
    """Raise ValueError with all that keeps this captioner from reading the config's pictures and captions."""
    if not isinstance(module, Captioner):
        raise ValueError(f"config.model.captioner is a {type(module).__name__}: leave `network` out")
    errors, size = [], tuple(config.data.size)
    if config.data.buckets or config.data.crop or size != tuple(module.image_size):
        errors.append(f"it reads pictures of {tuple(module.image_size)}: set data.size to that, no buckets and no crop")
    if config.data.text_length != module.positions:
        errors.append(
            f"it has {module.positions} positions, data.text_length is {config.data.text_length}: make them one"
        )
    if tokenizer.vocab_size > module.vocab_size:
        errors.append(f"it knows {module.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}: raise vocab_size")
    if (tokenizer.start is None) == (module.start_id is None):
        begins = (
            "begins texts itself, set start_id to None" if tokenizer.start is not None else "does not, set start_id"
        )
        errors.append(f"start_id is {module.start_id}, and the tokenizer {begins}")
    if tokenizer.eos != module.eos_id:
        errors.append(f"eos_id is {module.eos_id}: set the tokenizer's, {tokenizer.eos}")
    if config.data.dropout:
        errors.append("data.dropout must be 0: an empty caption teaches nothing")
    if errors:
        raise ValueError(f"config.model.captioner: {'; '.join(errors)}")
