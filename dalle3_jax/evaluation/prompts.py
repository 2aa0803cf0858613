"""Prompts with exact labels: what a suite is made of, and how it is kept in a file.

A suite is a JSONL file, one prompt a line:

    {"id": "tints-07", "kind": "tints", "held_out": false, "prompt": "a blue car on a beach",
     "upsampled": "A glossy 3D picture of a blue car on a sandy beach. ...", "aspect": [1, 1],
     "labels": {"objects": [{"concept": "car", "count": 1, "tint": "blue"}], "background": "beach"},
     "scene": {...}}

Only `id`, `kind`, `prompt` and `labels` must be there. `upsampled` says the same at length; `aspect` is width : height;
`scene` is one faultless picture, from which the ceiling is measured.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from dalle3_jax.data.scenes.layouts import CENTRES
from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import Placed, Scene
from dalle3_jax.data.scenes.world import Cell

KINDS = (
    "one object",
    "two objects",
    "counting",
    "tints",
    "positions",
    "style",
    "words",
    "long descriptions",
    "rare combinations",
    "negation",
    "aspect ratios",
    "rows of several",
)
"""After GenEval (arXiv 2310.11513), T2I-CompBench (arXiv 2307.06350) and DrawBench (arXiv 2205.11487)."""

PLACES = tuple(CENTRES)
RELATIONS = {"left of": 2, "right of": 2, "above": 2, "below": 2, "between": 3}
"""Relation -> how many objects it is of."""


@dataclass(frozen=True)
class Wanted:
    """Objects of one concept: how many, in which tint ("" their own colours), at which place ("" anywhere)."""

    concept: str
    count: int = 1
    tint: str = ""
    place: str = ""


@dataclass(frozen=True)
class Labels:
    """What a picture must show; what is empty is not asked for.

    A relation names objects by their numbers: (0, "left of", 1), (0, "between", 1, 2). `absent` are concepts that must
    not be there; whatever is not in `objects` must not be there either.
    """

    objects: tuple[Wanted, ...] = ()
    relations: tuple[tuple[int | str, ...], ...] = ()
    background: str = ""
    style: str = ""
    words: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt, its kind, what its picture must show, and whether training never showed such a combination."""

    id: str
    kind: str
    text: str
    labels: Labels
    held_out: bool = False
    upsampled: str = ""
    aspect: tuple[int, int] = (1, 1)
    scene: Scene | None = field(default=None, repr=False)


def read_prompts(path: str | Path) -> list[Prompt]:
    """The prompts of a JSONL file; ValueError names every line that is no prompt, and why."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the suite {str(path)!r}: {error}") from None
    prompts, problems = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                prompts.append(prompt_of(json.loads(line)))
            except json.JSONDecodeError as error:
                problems.append(f"line {number}: it is not JSON: {error}")
            except KeyError as error:
                problems.append(f"line {number}: its scene has no {error}")
            except (ValueError, TypeError, AttributeError) as error:
                problems.append(f"line {number}: {error}")
    if len({prompt.id for prompt in prompts}) < len(prompts):
        problems.append("two prompts have the same id")
    if not prompts and not problems:
        problems.append("it holds no prompt")
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(f"the suite {str(path)!r}: {'; '.join(problems[:8])}{more}")
    return prompts


def prompt_of(values: Any) -> Prompt:
    """The prompt of a line's values."""
    if not isinstance(values, dict):
        raise ValueError("a prompt is a JSON object")
    if missing := [key for key in ("id", "kind", "prompt", "labels") if not values.get(key)]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if strange := [key for key in ("id", "kind", "prompt") if not isinstance(values[key], str)]:
        raise ValueError(f"{', '.join(strange)} must be text")
    if not isinstance(values["labels"], dict):
        raise ValueError("labels must be a JSON object")
    if unknown := sorted(set(values) - ({f.name for f in fields(Prompt)} - {"text"} | {"prompt"})):
        raise ValueError(f"unknown keys {', '.join(unknown)}")
    if values["kind"] not in KINDS:
        raise ValueError(f"unknown kind {values['kind']!r}: use {', '.join(KINDS)}")
    width, height = aspect_of(values.get("aspect", (1, 1)))
    scene = scene_of(values["scene"]) if values.get("scene") else None
    return Prompt(values["id"], values["kind"], values["prompt"], labels_of(values["labels"]),
                  values.get("held_out", False), values.get("upsampled", ""), (width, height), scene)  # fmt: skip


def labels_of(values: Mapping[str, Any]) -> Labels:
    """The labels of a line's values; ValueError where they ask for something that makes no sense."""
    if unknown := sorted(set(values) - {f.name for f in fields(Labels)}):
        raise ValueError(f"unknown labels {', '.join(unknown)}: use {', '.join(f.name for f in fields(Labels))}")
    if strings := [name for name in ("objects", "relations", "words", "absent") if isinstance(values.get(name), str)]:
        raise ValueError(f"{', '.join(strings)} must be lists")
    objects = tuple(Wanted(**wanted) for wanted in values.get("objects", ()))
    relations = tuple(tuple(relation) for relation in values.get("relations", ()))
    words, absent = (tuple(values.get(name, ())) for name in ("words", "absent"))
    problems = [f"no place {wanted.place!r}" for wanted in objects if wanted.place not in ("", *PLACES)]
    problems += [f"{wanted.count} of {wanted.concept!r}" for wanted in objects if wanted.count < 1]
    problems += [f"{wanted.concept!r} is wanted and absent" for wanted in objects if wanted.concept in absent]
    problems += [
        f"the relation {list(relation)} is none of {', '.join(RELATIONS)} between listed objects"
        for relation in relations
        if not makes_sense(relation, len(objects))
    ]
    if problems:
        raise ValueError("; ".join(problems))
    return Labels(objects, relations, values.get("background", ""), values.get("style", ""), words, absent)


def makes_sense(relation: tuple[Any, ...], count: int) -> bool:
    """Whether a relation has a known name and is between different ones of `count` objects."""
    if len(relation) < 2 or not isinstance(relation[1], str):
        return False
    numbers = (relation[0], *relation[2:])
    known = all(type(number) is int and 0 <= number < count for number in numbers)
    return known and RELATIONS.get(relation[1]) == len(numbers) == len(set(numbers))


def aspect_of(values: Any) -> tuple[int, int]:
    """Width and height of a line's value."""
    if not isinstance(values, list | tuple) or [type(side) for side in values] != [int, int] or min(values) < 1:
        raise ValueError(f"aspect {values!r}: write two whole numbers, width and height, for example [7, 4]")
    return values[0], values[1]


def scene_of(values: Mapping[str, Any]) -> Scene:
    """The scene of a line's values."""
    objects = [Placed(row["concept"], Cell(**row["cell"]), row.get("tint", "")) for row in values["objects"]]
    words = tuple(Word(**row) for row in values.get("words", ()))
    return Scene("", "", tuple(objects), values["background"], values["style"], words)


def line_of(prompt: Prompt) -> str:
    """The line of a suite's file that gives the prompt back; what is empty is left out."""
    values = asdict(prompt)
    values["prompt"] = values.pop("text")
    if prompt.scene:
        values["scene"] = _filled({key: values["scene"][key] for key in ("objects", "background", "style", "words")})
    values["labels"] = _filled(values["labels"])
    return json.dumps(_filled(values), ensure_ascii=False)


def check_names(prompts: Iterable[Prompt], known: Mapping[str, Iterable[str]]) -> None:
    """Raises ValueError with every concept, tint, style or background that nobody here can recognise."""
    asked: dict[str, set[str]] = {"concepts": set(), "tints": set(), "styles": set(), "backgrounds": set()}
    for prompt in prompts:
        labels = prompt.labels
        asked["concepts"] |= {wanted.concept for wanted in labels.objects} | set(labels.absent)
        asked["tints"] |= {wanted.tint for wanted in labels.objects if wanted.tint}
        asked["styles"] |= {labels.style} - {""}
        asked["backgrounds"] |= {labels.background} - {""}
    foreign = {key: sorted(names - set(known[key])) for key, names in asked.items()}
    if any(foreign.values()):
        listed = "; ".join(f"{key} {', '.join(map(repr, names))}" for key, names in foreign.items() if names)
        raise ValueError(f"the reader of pictures does not know the {listed}: leave these prompts out")


def _filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without those that are empty, down to the rows of lists."""
    kept = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            value = [_filled(row) for row in value]
        if value or isinstance(value, float):  # a coordinate of 0 says something
            kept[key] = value
    return kept
