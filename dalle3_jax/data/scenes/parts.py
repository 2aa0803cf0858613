"""Parts of a world, as a config describes them: fewer concepts, styles or kinds, other words, further sprites."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from json import dumps, loads
from math import isfinite
from pathlib import Path
from typing import Any

from dalle3_jax.data.scenes.concepts import Concept, read_concepts
from dalle3_jax.data.scenes.world import Kind, Lettering, World
from dalle3_jax.data.scenes.worlds import WORLDS


def world_of(config: str | Mapping[str, Any]) -> World:
    """The world that a config names ("whole"), or the part of one that it describes.

    Keys: `of` (the world it is a part of, "whole"), `name`, `concepts`, `styles` and `backgrounds` (names to keep),
    `kinds` (names to keep, or name -> weight), `words` (the chance that a scene is to have drawn words, which are
    left out where they leave objects no room; 0: none), `longest_word` (letters), `invented` (the share of words
    that are random letters), `tinted` (a chance), `snap` and `step` (pixels: the grid on which things stand, and
    that of their sides), `excess` (the fraction by which a side may be too large for the sake of that), `sizes` (the
    smallest and the largest factor of a side: equal, each layout has one), `packs` (folders of further sprites, which
    `scripts/add_sprites.py` writes: their styles join ours). What is held out of a world is held out of its parts.
    Raises ValueError with everything that makes no sense.
    """
    described = loads(dumps(config, default=to_plain), parse_int=float)  # 1 and 1.0 are one number
    if isinstance(described, dict):
        said = {key: value for key, value in described.items() if value not in ([], {})}
        return build_part(dumps({"of": "whole", **said}, sort_keys=True))
    if not isinstance(config, str) or config not in WORLDS:
        raise ValueError(f"world {config!r}: choose one of {sorted(WORLDS)}, or describe a part of one by its keys")
    return WORLDS[config]


def to_plain(value: Any) -> Any:
    """A mapping that JSON does not know as a dict; anything else as what errors show."""
    return dict(value) if hasattr(value, "items") else repr(value)


@lru_cache(maxsize=64)
def build_part(description: str) -> World:
    """The world of a description in JSON: one object for equal descriptions, so that what is cached by it is shared."""
    config = loads(description)
    fine = {key: value for key, value in config.items() if key in KEYS and KEYS[key][0](value)}
    errors = [key_error_message(key, config[key]) for key in config if key not in fine]
    world = add_packs(WORLDS[fine.get("of", "whole")], fine.get("packs", ()))
    errors += unknown_name_errors(world, fine)
    if not errors:
        world = select_part(world, fine)
        errors = world_errors(world)
    if errors:
        raise ValueError(f"the world {description} cannot be made: {'; '.join(errors)}")
    return world


def is_text(value: Any) -> bool:
    """Whether it is a text, and not an empty one."""
    return isinstance(value, str) and value != ""


def are_texts(value: Any) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def are_packs(value: Any) -> bool:
    """Whether it is a list of folders of packs."""
    return are_texts(value) and all((Path(folder) / "concepts.csv").is_file() for folder in value)


def are_kinds(value: Any) -> bool:
    """Whether it is a list of names, or weights by name of which some can be drawn."""
    if not isinstance(value, dict):
        return are_texts(value)
    weights = list(value.values())
    return all(isinstance(weight, float) and weight >= 0 and isfinite(weight) for weight in weights) and any(weights)


def is_length(value: Any) -> bool:
    """Whether it is a number of letters or pixels."""
    return isinstance(value, float) and value >= 1 and value.is_integer()


def are_factors(value: Any) -> bool:
    """Whether it is a smallest and a largest factor that leave things inside their cells."""
    numbers = isinstance(value, list) and len(value) == 2 and all(isinstance(each, float) for each in value)
    return numbers and 0 < value[0] <= value[1] <= 1


def is_chance(value: Any) -> bool:
    """Whether it is a chance."""
    return isinstance(value, float) and 0 <= value <= 1


KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "of": (lambda value: is_text(value) and value in WORLDS, f"choose one of {sorted(WORLDS)}"),
    "name": (is_text, "write a text"),
    "packs": (are_packs, "list folders with a concepts.csv, as scripts/add_sprites.py writes them"),
    "concepts": (are_texts, "list names"),
    "styles": (are_texts, "list names"),
    "backgrounds": (are_texts, "list names"),
    "kinds": (are_kinds, "list names, or give name -> weight: none negative, not all zero"),
    "words": (is_chance, "write a chance in [0, 1]"),
    "longest_word": (is_length, "write a number of letters"),
    "invented": (is_chance, "write a share in [0, 1]"),
    "tinted": (is_chance, "write a chance in [0, 1]"),
    "snap": (is_length, "write a whole number of pixels"),
    "step": (is_length, "write a whole number of pixels"),
    "excess": (is_chance, "write a fraction in [0, 1]"),
    "sizes": (are_factors, "write the smallest and the largest factor, both in (0, 1]"),
}
"""What a description may say: whether a value of JSON suits the key, and what would."""


def key_error_message(key: str, value: Any) -> str:
    """The error message of a key that is unknown or whose value does not suit it."""
    return f"{key} is {value!r}: {KEYS[key][1]}" if key in KEYS else f"it has no {key}: its keys are {', '.join(KEYS)}"


def unknown_name_errors(world: World, config: Mapping[str, Any]) -> Iterator[str]:
    """Errors of names in a description that the world does not have."""
    for key, names in names_by_key(world).items():
        yield from (f"it knows no {name!r} among its {key}" for name in config.get(key, ()) if name not in names)
    if world.lettering is None and (config.get("words") or {"longest_word", "invented"} & set(config)):
        yield f"the world {world.name!r} has no drawn words: leave out words, longest_word and invented"


def names_by_key(world: World) -> dict[str, tuple[str, ...]]:
    """The names that a description may keep, by key."""
    tables = {"concepts": world.concepts, "backgrounds": world.backgrounds, "kinds": world.kinds}
    return {"styles": world.styles} | {key: tuple(row.name for row in rows) for key, rows in tables.items()}


def add_packs(world: World, folders: Iterable[str]) -> World:
    """The world with the concepts and styles of packs of sprites."""
    rows, styles = {row.name: row for row in world.concepts}, list(world.styles)
    for folder in folders:
        for new in read_concepts(Path(folder)):
            rows[new.name] = merge_concept(rows[new.name], new) if new.name in rows else new
            styles += new.styles
    return replace(world, concepts=tuple(rows.values()), styles=tuple(dict.fromkeys(styles)))


def merge_concept(ours: Concept, new: Concept) -> Concept:
    """Our concept, with the styles of a pack that has it too; a style of both is the pack's."""
    styles = tuple(dict.fromkeys((*ours.styles, *new.styles)))
    return replace(ours, styles=styles, folders=tuple({**dict(ours.folders), **dict(new.folders)}.items()))


def select_part(world: World, config: Mapping[str, Any]) -> World:
    """The part of the world that a description leaves."""
    wanted = {key: tuple(config.get(key, names)) for key, names in names_by_key(world).items()}
    kinds = config.get("kinds")
    weights = kinds if isinstance(kinds, dict) else {}
    digest = part_digest(config)
    return replace(
        world,
        name=config.get("name", f"part of {world.name} {digest[:8]}"),
        digest=digest,
        concepts=tuple(
            row for row in world.concepts if row.name in wanted["concepts"] and set(row.styles) & set(wanted["styles"])
        ),
        styles=wanted["styles"],
        backgrounds=tuple(world.background(name) for name in wanted["backgrounds"]),
        kinds=tuple(with_weight(world.kind(name), weights.get(name)) for name in wanted["kinds"]),
        tinted=config.get("tinted", world.tinted),
        snap=int(config.get("snap", world.snap)),
        step=int(config.get("step", world.step)),
        excess=config.get("excess", world.excess),
        sizes=tuple(config.get("sizes", world.sizes)),
        lettering=world.lettering and select_lettering(world.lettering, config),
    )


def part_digest(config: Mapping[str, Any]) -> str:
    """A digest of a description and of the files of its packs, wherever they lie."""
    digest = sha256(dumps({key: config[key] for key in config if key != "packs"}, sort_keys=True).encode())
    for folder in map(Path, config.get("packs", ())):
        for path in (folder / "concepts.csv", *sorted(folder.glob("*/*.webp"))):
            digest.update(sha256(path.relative_to(folder).as_posix().encode()).digest())
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def with_weight(kind: Kind, weight: float | None) -> Kind:
    """The kind with another weight, where one is given."""
    return kind if weight is None else replace(kind, weight=weight)


def select_lettering(lettering: Lettering, config: Mapping[str, Any]) -> Lettering:
    """The words that are short enough, drawn as often as the config says."""
    longest = config.get("longest_word", max(map(len, lettering.words)))
    _, one, two = lettering.chances
    chance = config.get("words", one + two)
    share = chance / (one + two)
    words = tuple(word for word in lettering.words if len(word) <= longest)
    chances = 1.0 - chance, one * share, two * share
    return replace(lettering, words=words, chances=chances, invented=config.get("invented", lettering.invented))


def world_errors(world: World) -> list[str]:
    """Errors that keep scenes of the world from being rendered."""
    if not any(kind.weight for kind in world.kinds):
        names = ", ".join(kind.name for kind in world.kinds)
        return [
            f"its kinds ({names}) are never shown: give one a weight, as in kinds = {{{world.kinds[0].name!r}: 1.0}}"
        ]
    most = max(layout.concepts for kind in world.kinds if kind.weight for layout in kind.layouts)
    errors = [
        f"the style {style!r} has {len(rows)} concepts, and a scene may show {most} different ones"
        for style, rows in world.concepts_by_style.items()
        if len(rows) < most
    ]
    if world.lettering and world.lettering.chances[0] < 1 and len(world.lettering.words) < 2:
        errors.append("longest_word leaves fewer than two words")
    return errors
