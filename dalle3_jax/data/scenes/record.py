"""The record at an index of a world."""

from collections.abc import Mapping
from typing import Any

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes.captions import make_captions
from dalle3_jax.data.scenes.layouts import place_at
from dalle3_jax.data.scenes.render import render_scene
from dalle3_jax.data.scenes.scene import Scene, pixel_box, sample_scene
from dalle3_jax.data.scenes.signs import letter_edges, sign_box, square_word
from dalle3_jax.data.scenes.world import World


def make_record(
    world: World, seed: int, index: int, height: int, width: int, split: str = "train", *, render: bool = True
) -> Record:
    """The picture at `index`, its captions and its labels: a pure function of the arguments.

    Without `render` there is no picture: `image` is empty.
    """
    shown = sample_scene(world, seed, index, split)
    return Record(
        key=f"{world.name}-{split}-{seed}-{index}",
        image=render_scene(world, shown, height, width) if render else b"",
        height=height,
        width=width,
        captions=make_captions(world, shown, seed, index),
        labels=record_labels(world, shown, height, width),
    )


def record_labels(world: World, scene: Scene, height: int, width: int) -> dict[str, Any]:
    """The labels of a picture, all that it shows, as plain JSON values.

    A box is (left, top, right, bottom) in fractions of the frame: the square that the sprite's longer side fills, or
    what a word covers, whose letters begin and end at `edges` (fractions of the width). `place` is where the object
    stands, words or not; `relation` is that of the first of two different objects to the second, and "" in other kinds
    of scene.
    """
    objects = [
        {"concept": placed.concept, "tint": placed.tint, "place": place_at(placed.cell.x, placed.cell.y)}
        | {"box": box_fractions(pixel_box(world, placed.cell, height, width), height, width)}
        for placed in scene.objects
    ]
    words = [
        {"text": word.text, "on": word.on, "colour": word.colour, "slot": word.slot}
        | {"box": box_fractions(sign_box(word, height, width), height, width)}
        | {"edges": letter_edges(word, height, width)}
        for word in scene.words
    ]
    relation = scene.layout if scene.kind == "two" else ""
    return {"kind": scene.kind, "layout": scene.layout, "objects": objects, "count": len(objects),
            "relation": relation, "background": scene.background, "style": scene.style, "words": words}  # fmt: skip


def box_fractions(box: tuple[int, int, int, int], height: int, width: int) -> list[float]:
    """A box in pixels as fractions of the frame."""
    left, top, right, bottom = box
    return [left / width, top / height, right / width, bottom / height]


def square_labels(labels: Mapping[str, Any], height: int, width: int) -> dict[str, Any]:
    """The labels of the same scene in a square frame, from those of a frame of any shape (height, width).

    Centres are fractions of the frame and stay; sides are fractions of its smaller side, and the size of a word's
    letters is what its band and the width allow. A caption says nothing of the frame: a text side learns this one
    layout of it. Exact up to the world's grid.
    """
    if height == width:
        return dict(labels)
    least = min(height, width)

    def square_object(placed: Mapping[str, Any]) -> dict[str, Any]:
        left, top, right, bottom = placed["box"]
        x, y, half = (left + right) / 2, (top + bottom) / 2, (right - left) * width / least / 2
        return {**placed, "box": [max(x - half, 0.0), max(y - half, 0.0), min(x + half, 1.0), min(y + half, 1.0)]}

    words = [square_word(word, height, width) for word in labels["words"]]
    return {**labels, "objects": [square_object(placed) for placed in labels["objects"]], "words": words}
