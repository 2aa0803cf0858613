"""The stage `reader`: the scene reader learns from the records of a world what its pictures show."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from dalle3_jax.checkpoints.releases import Release
from dalle3_jax.data import batches
from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import World
from dalle3_jax.data.scenes.tints import TINTS
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.models.build import module_fields
from dalle3_jax.models.layout_encoder import LayoutEncoder
from dalle3_jax.models.layout_head import LayoutHead
from dalle3_jax.models.scene_reader import STRIDE, SceneReader
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, SheetCell, SheetLine, draw_sheet
from dalle3_jax.reading.scene_reader import NATURAL, Reader, SceneReading, count_matches, readings_agree, true_reading
from dalle3_jax.stages import inputs
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.stage import Stage, apply_network, training_metadata
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.scene_reader import scene_reader_loss
from dalle3_jax.typing import Params

__all__ = ["record_targets", "scene_reader_stage", "world_names"]

Named = TypeVar("Named", SceneReader, LayoutHead, LayoutEncoder)
SLOTS = 9  # objects in a picture, at most
COLUMNS: Mapping[str, tuple[tuple[int, ...], type]] = {
    "valid": ((), np.bool_),
    "centres": ((2,), np.float32),
    "sides": ((), np.float32),
    "concepts": ((), np.int32),
    "tints": ((), np.int32),
}
"""What a batch holds for each slot of a picture: shape and type."""

SCORED = 256  # pictures of another seed that a preview reads


def scene_reader_stage(context: Context) -> Stage:
    """The scene reader on pictures spoiled like those of generators; a VAE in config.init does a share of that."""
    config, networks = context.config, context.networks
    networks.require("reader")
    module = with_names("reader", networks.modules["reader"], SceneReader, config_world(config))
    networks.modules["reader"] = module  # with its names it knows how many outputs it has
    functions: dict[str, Callable[..., Any]] = {"reader": functools.partial(apply_network, module)}
    if "vae" in networks.modules:
        functions["vae"] = lambda params, images: apply_network(networks.modules["vae"], params, images)[0]

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        source = batches.open_source(inputs.data_section(config, seed=config.data.seed + 1))
        records = [source[index] for index in range(SCORED)]
        images = np.stack([decode_image(record.image) for record in records])
        readings = Reader(module, jax.device_get(ema["reader"])).read(images)
        shares = reading_scores(readings, records)
        page = reading_sheet(
            readings[: config.sample.count], records, f"step {step:,}: {shares['scenes']:.1%} wholly right"
        )
        logging.save_image(path, page)
        return shares

    def release(ema: Params, step: int) -> Release:
        return Release({"reader": module}, {"reader": ema["reader"]}, training=training_metadata(config, step))

    return Stage(
        loss_fn=scene_reader_loss(functions, STRIDE),
        data=functools.partial(inputs.batches, context, record_targets(module), captions=False),
        preview=preview,
        release=release,
    )


def config_world(config: ConfigDict) -> World:
    """The world whose records the config draws; ValueError where it reads others."""
    source = batches.open_source(inputs.data_section(config))
    if not isinstance(source, ScenesSource):
        raise ValueError(
            f'data.source is {config.data.source!r}: the stage learns on records that it draws, of "scenes"'
        )
    return source.resolved_world


def world_names(world: World) -> dict[str, tuple[str, ...]]:
    """The names that a reader of this world knows, field by field."""
    return {
        "concepts": tuple(concept.name for concept in world.concepts),
        "tints": (NATURAL, *(TINTS if world.tinted else ())),
        "styles": world.styles,
        "backgrounds": tuple(background.name for background in world.backgrounds),
    }


def with_names(component: str, module: Any, network: type[Named], world: World) -> Named:
    """The network with the world's names where it has none; ValueError where it has others, or is another network."""
    if not isinstance(module, network):
        raise ValueError(f"config.model.{component} is a {type(module).__name__}: leave `network` out")
    names = world_names(world)
    wanted = {field: names[field] for field in names if field in module_fields(module)}
    module = replace(module, **{field: given for field, given in wanted.items() if not getattr(module, field)})
    lacking = {field: sorted({*given} - {*getattr(module, field)}) for field, given in wanted.items()}
    if missing := [f"{field} {given}" for field, given in lacking.items() if given]:
        raise ValueError(f"the {component} has no names for {'; '.join(missing)} of {world.name!r}: train a new one")
    return module


def record_targets(module: SceneReader) -> Callable[[Record], Mapping[str, np.ndarray]]:
    """From a record to what `training.objectives.scene_reader` wants of it."""
    numbers = {
        field: {name: i for i, name in enumerate(getattr(module, field))}
        for field in ("concepts", "tints", "styles", "backgrounds")
    }

    def targets(record: Record) -> dict[str, np.ndarray]:
        wanted = true_reading(record.labels, record.height, record.width)
        if len(wanted.objects) > SLOTS:
            raise ValueError(
                f"{record.key} shows {len(wanted.objects)} objects, the stage has room for {SLOTS}: raise SLOTS"
            )
        row = {name: np.zeros((SLOTS, *shape), dtype) for name, (shape, dtype) in COLUMNS.items()}
        for slot, seen in enumerate(wanted.objects):
            row["valid"][slot] = True
            row["centres"][slot], row["sides"][slot] = (seen.x, seen.y), seen.size
            row["concepts"][slot] = numbers["concepts"][seen.concept]
            row["tints"][slot] = numbers["tints"][seen.tint or NATURAL]
        style, background = numbers["styles"][wanted.style], numbers["backgrounds"][wanted.background]
        return {**row, "style": np.array(style, np.int32), "background": np.array(background, np.int32)}

    return targets


def reading_scores(readings: Sequence[SceneReading], records: Sequence[Record]) -> dict[str, float]:
    """The shares of scenes read wholly right, of objects found, of objects read that are there, and of the rest."""
    wanted = [true_reading(record.labels, record.height, record.width) for record in records]
    frames = [(record.height, record.width) for record in records]
    right = sum(map(count_matches, readings, wanted, frames))
    return {
        "scenes": float(np.mean(list(map(readings_agree, readings, wanted, frames)))),
        "found": right / max(sum(len(scene.objects) for scene in wanted), 1),
        "true": right / max(sum(len(reading.objects) for reading in readings), 1),
        "style": float(np.mean([a.style == b.style for a, b in zip(readings, wanted, strict=True) if b.objects])),
        "background": float(np.mean([a.background == b.background for a, b in zip(readings, wanted, strict=True)])),
    }


def reading_sheet(readings: Sequence[SceneReading], records: Sequence[Record], title: str) -> Image.Image:
    """Pictures with what was read under them, in red where it is wrong."""
    cells = []
    for reading, record in zip(readings, records, strict=False):
        frame = record.height, record.width
        right = readings_agree(reading, true_reading(record.labels, *frame), frame)
        line = SheetLine(str(reading), GREEN if right else RED)
        cells.append(SheetCell(Image.fromarray(decode_image(record.image)), (line,)))
    return draw_sheet(cells, columns=min(len(cells), 8), title=title)
