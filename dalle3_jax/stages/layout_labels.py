"""The labels of scenes as layout heads, encoders and memories number them: what each cell of a picture shows."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes.record import square_labels
from dalle3_jax.models.layout_encoder import LayoutEncoder
from dalle3_jax.models.layout_head import HALVES, LETTERS, PATCHES, LayoutHead
from dalle3_jax.reading.scene_reader import NATURAL
from dalle3_jax.training.objectives.layout import NOTHING

__all__ = ["covered_cells", "layout_targets"]


def layout_targets(head: LayoutHead | LayoutEncoder) -> Callable[[Record], Mapping[str, np.ndarray]]:
    """From a record to what `training.objectives.layout` wants of it, in a square frame whatever the record's is.

    A later object hides an earlier one.
    """
    classes = {name: NOTHING + 1 + i for i, name in enumerate(head.concepts)}
    tints, backgrounds = ({name: i for i, name in enumerate(names)} for names in (head.tints, head.backgrounds))
    word = len(head.concepts) + 1

    def targets(record: Record) -> dict[str, np.ndarray]:
        cells, colours = np.full(head.grid, NOTHING, np.int32), np.zeros(head.grid, np.int32)
        patches = np.zeros(head.grid, np.int32)
        labels = square_labels(record.labels, record.height, record.width)
        for placed in labels["objects"]:
            area = covered_cells(placed["box"], head.grid)
            cells[area], colours[area] = classes[placed["concept"]], tints[placed.get("tint") or NATURAL]
            patches[area] = covered_patches(placed["box"], area, head.grid)
        letters = np.zeros((*head.grid, HALVES), np.int32)
        for written in labels["words"]:
            rows, columns = covered_cells(written["box"], head.grid)
            cells[rows, columns] = word
            letters[rows] = letters_of_halves(written, head.grid[1])
        background = np.array(backgrounds[labels["background"]], np.int32)
        maps = {"cells": cells, "tints": colours, "patches": patches}
        flat = {name: each.reshape(-1) for name, each in maps.items()}
        return {**flat, "letters": letters.reshape(-1, HALVES), "background": background}

    return targets


def covered_cells(box: Any, grid: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of the cells whose centres a box covers (fractions: left, top, right, bottom); one at least.

    That is the one of the box's own centre.
    """
    left, top, right, bottom = box
    spans = []
    for low, high, count in ((top, bottom, grid[0]), (left, right, grid[1])):
        first, last = round(low * count), round(high * count)
        middle = min(int((low + high) / 2 * count), count - 1)
        spans.append(slice(first, last) if last > first else slice(middle, middle + 1))
    return spans[0], spans[1]


def covered_patches(box: Any, area: tuple[slice, slice], grid: tuple[int, int]) -> Int[np.ndarray, "r c"]:
    """The patch of the box, row by row over `PATCHES`, in which the centre of each cell of an area lies."""
    left, top, right, bottom = box
    within = []
    for span, low, high, cells, patches in zip(area, (top, left), (bottom, right), grid, PATCHES, strict=True):
        centres = (np.arange(span.start, span.stop) + 0.5) / cells
        within.append(np.clip((centres - low) / (high - low) * patches, 0, patches - 1).astype(np.int32))
    return within[0][:, None] * PATCHES[1] + within[1]


def letters_of_halves(word: Mapping[str, Any], columns: int) -> Int[np.ndarray, "columns 2"]:
    """The class of the letter that each half of a cell shows in its middle, 0 beside the word."""
    middles = (np.arange(HALVES * columns) + 0.5) / (HALVES * columns)
    classes = np.array([0, *(LETTERS.find(letter) + 1 for letter in word["text"]), 0], np.int32)
    return classes[np.searchsorted(word["edges"], middles, side="right")].reshape(columns, HALVES)
