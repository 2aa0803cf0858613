"""The stage `reader`: the scene reader learns from the records of a world what its pictures show."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
from dalle3_jax.data.transforms import decode
from dalle3_jax.models.scene_reader import STRIDE, SceneReader
from dalle3_jax.pipeline.contact_sheet import GREEN, RED, Cell, Line, sheet
from dalle3_jax.reading.scene_reader import NATURAL, Reader, Reading, agree, found, truth
from dalle3_jax.stages import inputs
from dalle3_jax.stages.networks import System
from dalle3_jax.stages.stage import Stage, apply, described
from dalle3_jax.training import logging
from dalle3_jax.training.objectives.scene_reader import detection_loss
from dalle3_jax.typing import Params

__all__ = ["names_of", "reader", "targets_of"]

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


def reader(config: ConfigDict, workdir: Path, system: System) -> Stage:
    """The scene reader on pictures spoiled like those of generators; a VAE in config.init does a share of that."""
    system.require("reader")
    module = named(system.modules["reader"], world_of(config))
    system.modules["reader"] = module  # with its names it knows how many outputs it has
    networks: dict[str, Callable[..., Any]] = {"reader": functools.partial(apply, module)}
    if "vae" in system.modules:
        networks["vae"] = lambda params, images: apply(system.modules["vae"], params, images)[0]

    def data() -> Any:
        return batches.batches(
            inputs.data_section(config),
            tokenize=None,
            batch_size=config.train.batch_size // jax.process_count(),
            seed=config.train.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            targets=targets_of(module),
        )

    def preview(ema: Params, path: Path, step: int) -> Mapping[str, float]:
        source = batches.source_of(inputs.data_section(config, seed=config.data.seed + 1))
        records = [source[index] for index in range(SCORED)]
        images = np.stack([decode(record.image) for record in records])
        readings = Reader(module, jax.device_get(ema["reader"])).read(images)
        shares = scores(readings, records)
        page = drawn(readings[: config.sample.count], records, f"step {step:,}: {shares['scenes']:.1%} wholly right")
        logging.save_image(path, page)
        return shares

    def release(ema: Params, step: int) -> Release:
        return Release({"reader": module}, {"reader": ema["reader"]}, training=described(config, step))

    return Stage(detection_loss(networks, STRIDE), data, preview, release)


def world_of(config: ConfigDict) -> World:
    """The world whose records the config draws; ValueError where it reads others."""
    source = batches.source_of(inputs.data_section(config))
    if not isinstance(source, ScenesSource):
        raise ValueError(
            f'data.source is {config.data.source!r}: the reader learns on records that it draws, of "scenes"'
        )
    return source.drawn


def names_of(world: World) -> dict[str, tuple[str, ...]]:
    """What a reader of this world can say, field by field."""
    return {
        "concepts": tuple(concept.name for concept in world.concepts),
        "tints": (NATURAL, *(TINTS if world.tinted else ())),
        "styles": world.styles,
        "backgrounds": tuple(background.name for background in world.backgrounds),
    }


def named(module: Any, world: World) -> SceneReader:
    """The reader with the world's names where it has none; ValueError where it has others."""
    if not isinstance(module, SceneReader):
        raise ValueError(f"config.model.reader is a {type(module).__name__}: leave `network` out")
    wanted = names_of(world)
    module = replace(module, **{field: names for field, names in wanted.items() if not getattr(module, field)})
    lacking = {field: sorted({*names} - {*getattr(module, field)}) for field, names in wanted.items()}
    if missing := [f"{field} {names}" for field, names in lacking.items() if names]:
        raise ValueError(f"the reader has no names for {'; '.join(missing)} of {world.name!r}: train a new one")
    return module


def targets_of(module: SceneReader) -> Callable[[Record], Mapping[str, np.ndarray]]:
    """From a record to what `training.objectives.scene_reader` wants of it."""
    numbers = {
        field: {name: i for i, name in enumerate(getattr(module, field))}
        for field in ("concepts", "tints", "styles", "backgrounds")
    }

    def targets(record: Record) -> dict[str, np.ndarray]:
        wanted = truth(record.labels, record.height, record.width)
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


def scores(readings: Sequence[Reading], records: Sequence[Record]) -> dict[str, float]:
    """The shares of scenes read wholly right, of objects found, of objects read that are there, and of the rest."""
    wanted = [truth(record.labels, record.height, record.width) for record in records]
    frames = [(record.height, record.width) for record in records]
    right = sum(map(found, readings, wanted, frames))
    return {
        "scenes": float(np.mean(list(map(agree, readings, wanted, frames)))),
        "found": right / max(sum(len(scene.objects) for scene in wanted), 1),
        "true": right / max(sum(len(reading.objects) for reading in readings), 1),
        "style": float(np.mean([a.style == b.style for a, b in zip(readings, wanted, strict=True) if b.objects])),
        "background": float(np.mean([a.background == b.background for a, b in zip(readings, wanted, strict=True)])),
    }


def drawn(readings: Sequence[Reading], records: Sequence[Record], title: str) -> Image.Image:
    """Pictures with what was read under them, in red where it is wrong."""
    cells = []
    for reading, record in zip(readings, records, strict=False):
        frame = record.height, record.width
        right = agree(reading, truth(record.labels, *frame), frame)
        line = Line(str(reading), GREEN if right else RED)
        cells.append(Cell(Image.fromarray(decode(record.image)), (line,)))
    return sheet(cells, columns=min(len(cells), 8), title=title)
