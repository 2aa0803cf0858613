"""The stage `layout`: text encoder and xfnet learn from labels what captions say, before any denoiser listens."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.models.condition import Condition, encode_words
from dalle3_jax.models.glyph import text_components
from dalle3_jax.models.layout_encoder import labelled_layout
from dalle3_jax.models.layout_head import LayoutHead
from dalle3_jax.models.layout_memory import read_beside, sample_layout
from dalle3_jax.models.token_grid import grid_errors
from dalle3_jax.pipeline.contact_sheet import SheetCell, SheetLine, draw_sheet
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.layout_labels import layout_targets
from dalle3_jax.stages.reader import config_world, with_names
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.layout import NOTHING, layout_loss
from dalle3_jax.typing import Params

__all__ = ["layout_stage"]

SIDE, NAMED = 128, 3
"""Of a preview: pixels of a map, and concepts named below it."""


def layout_stage(context: Context) -> Stage:
    """Text encoder and xfnet learn to say what stands where in a scene, from its caption alone.

    With a `layout_memory` also from some of its cells, so that whole layouts can be sampled; previews then show such.
    """
    config, networks, tokenizer = context.config, context.networks, context.tokenizer
    networks.require("text_encoder", "xfnet", "layout_head")
    head = with_names("layout_head", networks.modules["layout_head"], LayoutHead, config_world(config))
    check_layout_config(context, head)
    networks.modules["layout_head"] = head  # with its names it knows how many outputs it has
    memory = networks.modules.get("layout_memory")
    parts = (*text_components(networks.modules), "layout_head", *(("layout_memory",) if memory else ()))

    def recall(params: Params, batch: Mapping[str, Any], known: Any) -> Condition:
        assert memory is not None
        cells = apply_network(memory, params["layout_memory"], labelled_layout(batch, head), known)
        return read_beside(networks.modules, params, encode_words(networks.modules, params, batch), cells)

    @jax.jit
    def read(params: Params, captions: Mapping[str, Any]) -> Any:
        if memory is not None:
            keys = jax.vmap(jax.random.key)(jnp.arange(len(captions["mask"])))
            layout, _ = sample_layout(networks.modules, params, captions, keys)
            return layout.classes, layout.backgrounds
        condition = networks.encode_text(params, captions)
        logits = apply_network(head, params["layout_head"], condition.tokens, condition.vector)
        return jax.nn.softmax(logits.classes), jax.nn.softmax(logits.backgrounds)

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        if prompts := config.sample.prompts:
            weights, captions = {**networks.loaded, **ema}, inputs.tokenize_captions(config, tokenizer, prompts)
            classes, backgrounds = map(np.asarray, read(weights, captions))
            images = [draw_map(head, each) for each in classes]
            cells = [
                SheetCell(images[i], (SheetLine(prompt), *name_likeliest(head, classes[i], backgrounds[i])))
                for i, prompt in enumerate(prompts)
            ]
            logging.save_image(path, draw_sheet(cells, columns=min(len(cells), 6), title=f"step {step:,}"))
        return {}

    def release(ema: Params, step: int) -> Release:
        weights = {**networks.loaded, **ema}
        chosen, params = {part: networks.modules[part] for part in parts}, {part: weights[part] for part in parts}
        return Release(chosen, params, training=training_metadata(config, step), tokenizer=tokenizer.to_json())

    return Stage(
        loss_fn=layout_loss(networks.encode_text, functools.partial(apply_network, head), recall if memory else None),
        data=functools.partial(inputs.batches, context, layout_targets(head), images=False),
        preview=preview,
        release=release,
    )


def check_layout_config(context: Context, head: LayoutHead) -> None:
    """Raise ValueError unless xfnet has a token for every cell, the data whole scenes, and heads the same cells."""
    config, xfnet = context.config, context.networks.modules["xfnet"]
    errors = [f"model.layout_head: {error}" for error in grid_errors(head.grid, xfnet)]
    if unused := [key for key in ("latents", "cache", "crop") if config.data[key]]:
        errors.append(f"the stage reads labels of whole scenes: leave out {', '.join(f'data.{key}' for key in unused)}")
    if errors:
        raise ValueError(f"config: {'; '.join(errors)}")


def draw_map(head: LayoutHead, classes: Float[np.ndarray, "m k"]) -> Image.Image:
    """A map of the cells that show anything, white where that is sure."""
    shown = np.uint8(255 * (1.0 - classes[:, NOTHING]).reshape(head.grid))
    return Image.fromarray(shown).resize((SIDE, SIDE), Image.Resampling.NEAREST).convert("RGB")


def name_likeliest(
    head: LayoutHead, classes: Float[np.ndarray, "m k"], backgrounds: Float[np.ndarray, " g"]
) -> list[SheetLine]:
    """The likeliest concepts, each with the cells that it fills on the average, and the likeliest background."""
    cells = classes[:, 1:-1].sum(axis=0)
    named = [SheetLine(f"{head.concepts[i]} {cells[i]:.1f}") for i in np.argsort(-cells)[:NAMED]]
    first = int(np.argmax(backgrounds))
    return [*named, SheetLine(f"{head.backgrounds[first]} {backgrounds[first]:.0%}")]
