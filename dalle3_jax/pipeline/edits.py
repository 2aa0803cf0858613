"""Edited images: fitted to the size at which they are sampled, masked in the latents, pasted back where they stay.

An image with a mask keeps its size: it is sampled at another where the model needs that, and what was made of the mask
is brought back to the image's own pixels. All others stay as they are, to the last level.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageFilter, ImageOps

from dalle3_jax.pipeline.edit_settings import Edit, canvas_size, default_strength, outpaint_borders

__all__ = ["EditRows", "edit_defaults", "edit_rows", "edited_mask", "nearest_size", "paste_edit", "working_size"]

Pixels = UInt8[np.ndarray, "h w 3"]
MaskPixels = UInt8[np.ndarray, "h w"]

MOST_AREA = 2.0
"""By how much the area of a masked image may differ from a size of the model's to be sampled as large as it is."""
MOST_MARGIN = 1.125
"""A canvas that a frame exceeds by less is not enlarged, which would blur it."""


class EditRows(NamedTuple):
    """A batch of images to be edited, as the sampling loop begins with them; 1 in the mask is edited.

    `cells` is the mask of the latents: a cell is edited where any of its pixels is.
    """

    images: Float[np.ndarray, "b H W 3"]
    mask: Float[np.ndarray, "b H W 1"]
    cells: Float[np.ndarray, "b h w 1"]


class Placement(NamedTuple):
    """The place of a whole canvas in the frame in which it is sampled: top, left, height, width."""

    top: int
    left: int
    height: int
    width: int


def edit_defaults(given: Mapping[str, Any], sizes: Sequence[tuple[int, int]], factor: int) -> dict[str, Any]:
    """The settings that follow from an image to edit, and from those `given` beside it; the rest as `working_size`."""
    edit = Edit(given["image"], given.get("mask"), outpaint=given.get("outpaint", ""))
    return {"strength": default_strength(edit), "size": working_size(edit, sizes, factor)}


def working_size(edit: Edit, sizes: Sequence[tuple[int, int]], factor: int) -> tuple[int, int]:
    """The size at which an image is sampled where none is asked for; `sizes` are the model's, `factor` pixels a cell.

    The nearest of the sizes; an image with a mask whose area is like theirs is sampled as large as it is.
    """
    height, width = canvas_size(edit)
    areas = [rows * columns for rows, columns in sizes]
    if edit.kind == "mask" and min(areas) / MOST_AREA <= height * width <= max(areas) * MOST_AREA:
        return -(-height // factor) * factor, -(-width // factor) * factor
    return nearest_size((height, width), sizes)


def nearest_size(size: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The one of the nearest shape, and of those the one of the nearest area; all are (height, width)."""
    height, width = size

    def distance(other: tuple[int, int]) -> tuple[float, float]:
        shape = abs(np.log(other[1] / other[0]) - np.log(width / height))
        return round(float(shape), 6), float(abs(np.log(other[0] * other[1]) - np.log(height * width)))

    return min(sizes, key=distance)


def edit_rows(edits: Sequence[Edit], size: tuple[int, int], factor: int) -> EditRows:
    """The images of edits of one kind, fitted to a size (height, width) in pixels, in [-1, 1]."""
    fitted = [_fit_edit(edit, size) for edit in edits]
    images = np.stack([image for image, _ in fitted]).astype(np.float32) / np.float32(127.5) - np.float32(1)
    mask = np.stack([mask > 0 for _, mask in fitted]).astype(np.float32)[..., None]
    rows, columns = (side // factor for side in size)
    cells = mask.reshape(len(edits), rows, factor, columns, factor, 1).max((2, 4))
    return EditRows(images, mask, cells)


def edited_mask(edit: Edit) -> MaskPixels:
    """The share of 255 by which each pixel of the canvas is edited, soft at edges; errors as `InputImage.pixels`."""
    mask = _canvas_mask(edit)
    return np.minimum(mask, _soften(mask > 0, edit.feather))


def paste_edit(edit: Edit, made: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """The canvas with an image of the working size pasted in: only what the mask edits changes."""
    canvas, weight = _canvas(edit), edited_mask(edit)
    top, left, height, width = _place(canvas.shape[:2], made.shape[:2])
    part = Image.fromarray(np.ascontiguousarray(made[top : top + height, left : left + width]))
    new = np.asarray(part.resize(canvas.shape[1::-1], Image.Resampling.LANCZOS), np.float32)
    share = weight[..., None].astype(np.float32) / 255
    blended = np.rint(share * new + (1 - share) * canvas).astype(np.uint8)
    return np.where(weight[..., None] > 0, blended, canvas)


def _fit_edit(edit: Edit, size: tuple[int, int]) -> tuple[Pixels, MaskPixels]:
    """The image and the mask of an edit at the size at which it is sampled.

    Without a mask the image fills the frame, what stands out is cut. With one the whole canvas lies in the frame, whose
    rest repeats its edge.
    """
    canvas = _canvas(edit)
    if edit.kind != "mask":
        height, width = size
        image = ImageOps.fit(Image.fromarray(canvas), (width, height), Image.Resampling.LANCZOS)
        return np.asarray(image), np.full(size, 255, np.uint8)
    top, left, height, width = _place(canvas.shape[:2], size)
    image = Image.fromarray(canvas).resize((width, height), Image.Resampling.LANCZOS)
    # Every pixel that is edited at all counts: a thin line must not be lost where the image is made smaller.
    share = Image.fromarray((_canvas_mask(edit) > 0).astype(np.float32)).resize((width, height), Image.Resampling.BOX)
    mask = np.where(np.asarray(share) > 0, np.uint8(255), np.uint8(0))
    borders = (top, size[0] - height - top), (left, size[1] - width - left)
    return np.pad(np.asarray(image), (*borders, (0, 0)), "edge"), np.pad(mask, borders)


def _place(canvas: tuple[int, ...], size: tuple[int, ...]) -> Placement:
    """A canvas in the middle of a frame, as large as it fits, but no larger than it is where it nearly fits."""
    scale = min(size[0] / canvas[0], size[1] / canvas[1])
    scale = 1.0 if 1 <= scale < MOST_MARGIN else scale
    height, width = (min(max(round(side * scale), 1), most) for side, most in zip(canvas, size, strict=True))
    return Placement((size[0] - height) // 2, (size[1] - width) // 2, height, width)


def _canvas(edit: Edit) -> Pixels:
    """The image with its borders, which repeat its edge."""
    assert edit.image is not None
    left, top, right, bottom = outpaint_borders(edit.outpaint, edit.image.size)
    return np.pad(edit.image.pixels, ((top, bottom), (left, right), (0, 0)), "edge")


def _canvas_mask(edit: Edit) -> MaskPixels:
    """The mask with the borders of the canvas, all of which is edited."""
    assert edit.image is not None
    left, top, right, bottom = outpaint_borders(edit.outpaint, edit.image.size)
    mask = np.zeros(edit.image.size, np.uint8) if edit.mask is None else edit.mask.pixels
    return np.pad(mask, ((top, bottom), (left, right)), constant_values=255)


def _soften(mask: np.ndarray, feather: int) -> MaskPixels:
    """Of 255, rising from the mask's edge inwards over `feather` pixels, fewer where the mask is thinner than that.

    It is 0 outside the mask and above 0 in all of it; the frame's own border is no edge.
    """
    inside, total, layers = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)), mask.astype(np.float32), 1
    for _ in range(feather):
        inside = inside.filter(ImageFilter.MinFilter(3))
        if not inside.getbbox():
            break
        total, layers = total + (np.asarray(inside) > 0), layers + 1
    return np.rint(total * (255 / layers)).astype(np.uint8)
