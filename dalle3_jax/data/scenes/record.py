"""The record at an index of a world."""

from typing import Any

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes.captions import captions
from dalle3_jax.data.scenes.layouts import place_at
from dalle3_jax.data.scenes.render import render
from dalle3_jax.data.scenes.scene import Scene, pixel_box, scene
from dalle3_jax.data.scenes.signs import sign_box
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

    A box is (left, top, right, bottom) in fractions of the frame: the square that the sprite's longer side fills, or
    what a word covers. `place` is where the object stands, words or not; `relation` is that of the first of two
    different objects to the second, and "" in other kinds of scene.
    """
    objects = [
        {"concept": placed.concept, "tint": placed.tint, "place": place_at(placed.cell.x, placed.cell.y)}
        | {"box": fractions(pixel_box(world, placed.cell, height, width), height, width)}
        for placed in shown.objects
    ]
    words = [
        {"text": word.text, "on": word.on, "colour": word.colour, "slot": word.slot}
        | {"box": fractions(sign_box(word, height, width), height, width)}
        for word in shown.words
    ]
    relation = shown.layout if shown.kind == "two" else ""
    return {"kind": shown.kind, "layout": shown.layout, "objects": objects, "count": len(objects),
            "relation": relation, "background": shown.background, "style": shown.style, "words": words}  # fmt: skip


def fractions(box: tuple[int, int, int, int], height: int, width: int) -> list[float]:
    """A box in pixels as fractions of the frame."""
    left, top, right, bottom = box
    return [left / width, top / height, right / width, bottom / height]
