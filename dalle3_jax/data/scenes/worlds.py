"""The worlds: the first, small one; the whole; and what the scene reader learns on."""

import json
from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from dalle3_jax.data.scenes import grammar, patterns
from dalle3_jax.data.scenes.backgrounds import BACKGROUNDS
from dalle3_jax.data.scenes.concepts import CONCEPTS, STYLES
from dalle3_jax.data.scenes.held_out import HeldOut, read_held_out
from dalle3_jax.data.scenes.layouts import (
    HALF,
    SCENERY,
    SIGN,
    Layout,
    between_layouts,
    corner_layouts,
    count_layouts,
    first_count_layouts,
    place_layouts,
    random_layouts,
    relation_layouts,
    row_layouts,
)
from dalle3_jax.data.scenes.world import Kind, Lettering, Patterns, World

FOLDER = files("dalle3_jax.data.scenes")
WORDS = tuple((FOLDER / "words.txt").read_text(encoding="utf-8").split())
FIRST_CONCEPTS, FIRST_BACKGROUNDS = 48, 10
# What stands at an index hangs on the length of each table: later rows belong to later worlds.
WHOLE_CONCEPTS, WHOLE_STYLES, WHOLE_BACKGROUNDS, WHOLE_WORDS = 429, 3, 15, 1023

FIRST = World(
    name="first",
    concepts=CONCEPTS[:FIRST_CONCEPTS],
    backgrounds=BACKGROUNDS[:FIRST_BACKGROUNDS],
    kinds=(
        Kind("one", 0.3, place_layouts(HALF), patterns.ONE),
        Kind("two", 0.4, relation_layouts(HALF), patterns.TWO),
        Kind("count", 0.3, first_count_layouts(), patterns.COUNT),
    ),
    places=place_layouts(HALF),
    held_out=read_held_out(FOLDER / "held_out_first.json"),
)


def whole_kind(name: str, weight: float, layouts: Sequence[Layout], sentences: Patterns) -> Kind:
    """A kind that the grammar of the whole world speaks of."""
    return Kind(name, weight, tuple(layouts), grammar.WHOLE, sentences)


WHOLE = World(
    name="whole",
    concepts=CONCEPTS[:WHOLE_CONCEPTS],
    backgrounds=BACKGROUNDS[:WHOLE_BACKGROUNDS],
    kinds=(
        whole_kind("one", 0.25, place_layouts(0.56), grammar.ONE),
        whole_kind("two", 0.25, relation_layouts(0.48), grammar.TWO),
        whole_kind("count", 0.22, count_layouts()[1:], grammar.COUNT),
        whole_kind("single", 0.03, count_layouts()[:1], grammar.SINGLE),
        whole_kind("row", 0.15, row_layouts(3, 4, 5), grammar.ROW),
        whole_kind("between", 0.10, between_layouts(), grammar.BETWEEN),
        # Of the whole world's parts only: what stands at an index of the whole hangs on these weights.
        Kind("sign", 0.0, SIGN, grammar.BARE),
        Kind("scenery", 0.0, SCENERY, grammar.BARE),
        whole_kind("corners", 0.0, corner_layouts(0.48), grammar.CORNERS),
    ),
    places=place_layouts(0.56),
    held_out=read_held_out(FOLDER / "held_out_whole.json"),
    styles=STYLES[:WHOLE_STYLES],
    tinted=0.35,
    lettering=Lettering(WORDS[:WHOLE_WORDS], (0.4, 0.36, 0.24)),
    grammar=grammar.SHARED,
    snap=1,
    step=4,
    margin=0.04,
    jitter=0.02,
    sizes=(0.75, 1.0),
)

SCATTERED = replace(
    WHOLE,
    name="scattered",
    kinds=(*WHOLE.kinds, whole_kind("anywhere", 1.0, random_layouts(8, 600), grammar.ANYWHERE)),
    places=(*WHOLE.places, Layout("somewhere", (), ("somewhere",))),
    held_out=HeldOut(),
    tinted=0.7,
    lettering=Lettering(WORDS[:WHOLE_WORDS], (0.7, 0.2, 0.1)),
    step=2,
    jitter=0.1,
    sizes=(0.8, 1.25),
)
"""What the reader of scenes learns on: half scenes as of the whole world, half anything anywhere, so that it expects
nothing of a picture; nothing is held out, since it must know what a generator may never have seen."""

WORLDS = {world.name: world for world in (FIRST, WHOLE, SCATTERED)}


def parse_world(text: str) -> str | dict[str, Any]:
    """The name of a world, or what JSON says of a part of one, as it stands or in a file."""
    described = Path(text).read_text(encoding="utf-8-sig") if text.endswith(".json") else text
    if not described.lstrip().startswith("{"):
        return described.strip()
    try:
        return json.loads(described)
    except json.JSONDecodeError as error:
        raise ValueError(f"--world {text}: {error}; write JSON, as in '{{\"words\": 0}}'") from None


def parse_scene_size(text: str) -> tuple[int, int]:
    """(width, height) of "WIDTHxHEIGHT"."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ValueError(f"size {text!r}: write WIDTHxHEIGHT, as in 128x128")
    if min(int(width), int(height)) < 32 or int(width) % 8 or int(height) % 8:
        raise ValueError(f"size {text!r}: both sides must be multiples of 8 and at least 32")
    return int(width), int(height)
