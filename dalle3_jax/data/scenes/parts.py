"""Parts of a world, as a config describes them: fewer concepts, styles or kinds, other words, further sprites."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from json import dumps, loads
from pathlib import Path
from typing import Any

from dalle3_jax.data.scenes.concepts import read_concepts
from dalle3_jax.data.scenes.world import Kind, Lettering, World
from dalle3_jax.data.scenes.worlds import WORLDS

KEYS = ("of", "name", "packs", "concepts", "styles", "backgrounds", "kinds", "words", "longest_word", "tinted")


def world_of(config: str | Mapping[str, Any]) -> World:
    """The world that a config names ("whole"), or the part of one that it describes.

    Keys: `of` (the world it is a part of, "whole"), `name`, `concepts`, `styles` and `backgrounds` (names to keep),
    `kinds` (names to keep, or name -> weight), `words` (the chance of drawn words in a scene; 0: none), `longest_word`
    (letters), `tinted` (a chance), `packs` (folders of further sprites, which `scripts/add_sprites.py` writes; a pack's
    concept takes the place of ours of the same name). What is held out of a world is held out of its parts.
    Raises ValueError with everything that makes no sense.
    """
    if not isinstance(config, str):
        return part(dumps({key: config[key] for key in config}, sort_keys=True, default=dict))
    if config not in WORLDS:
        raise ValueError(f"world {config!r}: choose one of {sorted(WORLDS)}, or describe a part of one")
    return WORLDS[config]


@lru_cache(maxsize=64)
def part(described: str) -> World:
    """The world of a description in JSON: one object for equal descriptions, so that what is cached by it is shared."""
    config = loads(described)
    if unknown := sorted(set(config) - set(KEYS)):
        raise ValueError(f"a world has no {', '.join(unknown)}: its keys are {', '.join(KEYS)}")
    world = packed(world_of(config.get("of", "whole")), config.get("packs", ()))
    known = {
        "styles": world.styles,
        "concepts": [row.name for row in world.concepts],
        "backgrounds": [row.name for row in world.backgrounds],
        "kinds": [row.name for row in world.kinds],
    }
    wanted = {key: list(config.get(key) or names) for key, names in known.items()}
    problems = [
        f"it knows no {name!r} among its {key}"
        for key, names in wanted.items()
        for name in names
        if name not in known[key]
    ]
    if not problems:
        world = chosen(world, config, wanted)
        problems = impossible(world)
    if problems:
        raise ValueError(f"the world {described} cannot be made: {'; '.join(problems)}")
    return world


def packed(world: World, folders: Iterable[str]) -> World:
    """The world with the concepts and styles of packs of sprites."""
    new = {concept.name: concept for folder in folders for concept in read_concepts(Path(folder))}
    concepts = tuple(row for row in world.concepts if row.name not in new) + tuple(new.values())
    styles = dict.fromkeys([*world.styles, *(style for row in new.values() for style in row.styles)])
    return replace(world, concepts=concepts, styles=tuple(styles))


def chosen(world: World, config: Mapping[str, Any], wanted: Mapping[str, list[str]]) -> World:
    """The part of the world that the wanted names leave."""
    names, styles = set(wanted["concepts"]), tuple(wanted["styles"])
    weights = config["kinds"] if isinstance(config.get("kinds"), dict) else {}
    return replace(
        world,
        name=config.get("name", f"part of {world.name}"),
        concepts=tuple(row for row in world.concepts if row.name in names and set(row.styles) & set(styles)),
        styles=styles,
        backgrounds=tuple(world.background(name) for name in wanted["backgrounds"]),
        kinds=tuple(weighed(world.kind(name), weights.get(name, world.kind(name).weight)) for name in wanted["kinds"]),
        tinted=float(config.get("tinted", world.tinted)),
        lettering=world.lettering and spelt(world.lettering, config),
    )


def weighed(kind: Kind, weight: float | int) -> Kind:
    """The kind with another weight."""
    return replace(kind, weight=float(weight))


def spelt(lettering: Lettering, config: Mapping[str, Any]) -> Lettering:
    """The words that are short enough, drawn as often as the config says."""
    longest = config.get("longest_word", max(map(len, lettering.words)))
    _, one, two = lettering.chances
    chance = config.get("words", one + two)
    share = chance / (one + two) if one + two else 0.0
    words = tuple(word for word in lettering.words if len(word) <= longest)
    return replace(lettering, words=words, chances=(1.0 - chance, one * share, two * share))


def impossible(world: World) -> list[str]:
    """What keeps scenes of the world from being drawn."""
    most = max((layout.concepts for kind in world.kinds if kind.weight for layout in kind.layouts), default=0)
    found = [
        f"the style {style!r} has {len(rows)} concepts, and a scene may show {most} different ones"
        for style, rows in world.drawn_in.items()
        if len(rows) < most
    ]
    if not sum(kind.weight for kind in world.kinds) > 0 or min(kind.weight for kind in world.kinds) < 0:
        found.append("weights of kinds must not be negative, nor all be zero")
    if world.lettering and not 0 <= world.lettering.chances[0] <= 1:
        found.append("words is a chance in [0, 1]")
    if world.lettering and world.lettering.chances[0] < 1 and len(world.lettering.words) < 2:
        found.append("longest_word leaves fewer than two words")
    if not 0 <= world.tinted <= 1:
        found.append("tinted is a chance in [0, 1]")
    return found
