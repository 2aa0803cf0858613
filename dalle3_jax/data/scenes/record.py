"""The record at an index of a world."""

from typing import Any

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes.captions import captions
from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import Scene, pixel_box, scene
from dalle3_jax.data.scenes.world import World


def record(world: World, seed: int, index: int, height: int, width: int, split: str = "train") -> Record:
    """The picture at `index`, its captions and its labels: a pure function of the arguments."""
    shown = scene(world, seed, index, split)
    return Record(
        key=f"{world.name}-{split}-{seed}-{index}",
        image=render(world, shown, height, width),
        height=height,
        width=width,
        captions=captions(world, shown, seed, index),
        labels=labels(world, shown, height, width),
    )


def labels(world: World, shown: Scene, height: int, width: int) -> dict[str, Any]:
    """What the picture shows, as plain JSON values.

    A box is (left, top, right, bottom) in fractions of the frame: the square that the sprite's longer side fills.
    `relation` is that of the first object to the second, "" where there is none.
    """
    objects = []
    for placed in shown.objects:
        left, top, right, bottom = pixel_box(world, placed.cell, height, width)
        box = [left / width, top / height, right / width, bottom / height]
        objects.append({"concept": placed.concept, "box": box, "place": placed.cell.place})
    relation = shown.layout if len(shown.concepts) > 1 else ""
    return {"kind": shown.kind, "layout": shown.layout, "objects": objects, "count": len(objects),
            "relation": relation, "background": shown.background}  # fmt: skip
