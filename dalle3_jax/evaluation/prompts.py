"""Prompts with exact labels: what a suite is made of, and how it is kept in a file.

A suite is a JSONL file, one prompt a line:

    {"id": "tints-07", "kind": "tints", "held_out": false, "prompt": "a blue car on a beach",
     "upsampled": "A glossy 3D picture of a blue car on a sandy beach. ...", "aspect": [1, 1],
     "labels": {"objects": [{"concept": "car", "count": 1, "tint": "blue"}], "background": "beach"},
     "scene": {...}}

Only `id`, `kind`, `prompt` and `labels` must be there. `group` divides a kind further; `upsampled` says the same at
length; `aspect` is width : height; `scene` is one faultless picture, from which the ceiling is measured.
"""

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from dalle3_jax.data.scenes.layouts import CENTRES
from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
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
    "visitors",
)
"""After GenEval (arXiv 2310.11513), T2I-CompBench (arXiv 2307.06350) and DrawBench (arXiv 2205.11487); the last is what
people type."""

VISITORS = KINDS[-1]

PLACES = tuple(CENTRES)
RELATIONS = {"left of": 2, "right of": 2, "above": 2, "below": 2, "between": 3}
"""Relation -> how many objects it is of."""

PROMPT = {"id": str, "kind": str, "group": str, "prompt": str, "upsampled": str, "held_out": bool, "aspect": list[int]}
PROMPT |= {"labels": dict, "scene": dict}
LABELS = {"objects": list[dict], "relations": list[list], "words": list[str], "absent": list[str]}
LABELS |= {"background": str, "style": str}
WANTED = {"concept": str, "count": int, "tint": str, "place": str}
"""The keys of a line, of its labels, and of an object among these, with their forms."""

NAMES = {str: "text", int: "a whole number", bool: "true or false", dict: "a JSON object"}
NAMES |= {list[str]: "a list of texts", list[int]: "a list of whole numbers"}
NAMES |= {list[dict]: "a list of JSON objects", list[list]: "a list of lists"}
"""Forms, as people say them."""


@dataclass(frozen=True)
class RequestedObject:
    """Objects of one concept: how many, in which tint ("" their own colours), at which place ("" anywhere)."""

    concept: str
    count: int = 1
    tint: str = ""
    place: str = ""


@dataclass(frozen=True)
class Labels:
    """The labels that a picture must match; what is empty is not asked for.

    A relation names objects by their numbers: (0, "left of", 1), (0, "between", 1, 2). `absent` are concepts that must
    not be there; whatever is not in `objects` must not be there either.
    """

    objects: tuple[RequestedObject, ...] = ()
    relations: tuple[tuple[int | str, ...], ...] = ()
    background: str = ""
    style: str = ""
    words: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt, its kind, what its picture must show, and whether training never showed such a combination.

    A `group` is a part of a kind that is counted for itself too, "" where a kind has none.
    """

    id: str
    kind: str
    text: str
    labels: Labels
    held_out: bool = False
    upsampled: str = ""
    aspect: tuple[int, int] = (1, 1)
    scene: Scene | None = field(default=None, repr=False)
    group: str = ""


def read_prompts(path: str | Path) -> tuple[list[Prompt], list[str]]:
    """The prompts of a JSONL file, and what is wrong with its other lines; ValueError where no prompt is left."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the suite {str(path)!r}: {error}") from None
    prompts: dict[str, Prompt] = {}
    errors = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                prompt = parse_prompt(json.loads(line))
                if prompt.id in prompts:
                    raise ValueError(f"another prompt has the id {prompt.id!r}")
                prompts[prompt.id] = prompt
            except json.JSONDecodeError as error:
                errors.append(f"line {number}: it is not JSON: {error}")
            except KeyError as error:
                errors.append(f"line {number}: its scene has no {error}")
            except (ValueError, TypeError) as error:
                errors.append(f"line {number}: {error}")
    if not prompts:
        raise ValueError(f"the suite {str(path)!r}: {shorten_errors(errors) or 'it holds no prompt'}")
    return list(prompts.values()), errors


def shorten_errors(errors: Sequence[str]) -> str:
    """Eight of the error messages, and how many more there are."""
    more = f"; and {len(errors) - 8} more" if len(errors) > 8 else ""
    return "; ".join(errors[:8]) + more


def parse_prompt(values: Any) -> Prompt:
    """The prompt of a line's values; ValueError says what is wrong with them."""
    check_fields(values, "a prompt", PROMPT)
    if missing := [key for key in ("id", "kind", "prompt", "labels") if not values.get(key)]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if values["kind"] not in KINDS:
        raise ValueError(f"unknown kind {values['kind']!r}: use {', '.join(KINDS)}")
    if len(aspect := values.get("aspect", (1, 1))) != 2 or min(aspect) < 1:
        raise ValueError(f"aspect {aspect}: write two whole numbers, width and height, for example [7, 4]")
    return Prompt(
        values["id"],
        values["kind"],
        values["prompt"],
        parse_labels(values["labels"]),
        values.get("held_out", False),
        values.get("upsampled", ""),
        (aspect[0], aspect[1]),
        parse_scene(values["scene"]) if values.get("scene") else None,
        values.get("group", ""),
    )


def parse_labels(values: Mapping[str, Any]) -> Labels:
    """The labels of a line's values; ValueError where they ask for nothing, or for what makes no sense."""
    check_fields(values, "labels", LABELS)
    for wanted in values.get("objects", ()):
        check_fields(wanted, "an object", WANTED)
        if not wanted.get("concept"):
            raise ValueError("an object has no concept")
    objects = tuple(RequestedObject(**wanted) for wanted in values.get("objects", ()))
    relations = tuple(tuple(relation) for relation in values.get("relations", ()))
    words, absent = (tuple(values.get(name, ())) for name in ("words", "absent"))
    labels = Labels(objects, relations, values.get("background", ""), values.get("style", ""), words, absent)
    errors = [f"no place {wanted.place!r}" for wanted in objects if wanted.place not in ("", *PLACES)]
    errors += [f"{wanted.count} of {wanted.concept!r}" for wanted in objects if wanted.count < 1]
    errors += [f"{wanted.concept!r} is wanted and absent" for wanted in objects if wanted.concept in absent]
    errors += [f"{word!r} is not one word" for word in words if word.split() != [word]]
    errors += [
        f"the relation {list(relation)} is none of {', '.join(RELATIONS)} between listed objects"
        for relation in relations
        if not is_valid_relation(relation, len(objects))
    ]
    if labels == Labels():
        errors.append(f"its labels ask for nothing that a picture could show: fill {', '.join(LABELS)}")
    if errors:
        raise ValueError("; ".join(errors))
    return labels


def check_fields(values: Any, what: str, forms: Mapping[str, Any]) -> None:
    """Raises ValueError unless values are a JSON object of these keys, each of its form."""
    if not isinstance(values, dict):
        raise ValueError(f"{what} is a JSON object, not {values!r}")
    errors = [f"unknown {key!r} in {what}: use {', '.join(forms)}" for key in sorted(set(values) - set(forms))]
    errors += [
        f"{key} {values[key]!r} must be {NAMES[form]}"
        for key, form in forms.items()
        if key in values and not has_form(values[key], form)
    ]
    if errors:
        raise ValueError("; ".join(errors))


def has_form(value: Any, form: Any) -> bool:
    """Whether a value is of just this type, or a list of such."""
    if inner := get_args(form):
        return type(value) is list and all(type(row) is inner[0] for row in value)
    return type(value) is form


def is_valid_relation(relation: tuple[Any, ...], count: int) -> bool:
    """Whether a relation has a known name and is between different ones of `count` objects."""
    if len(relation) < 2 or not isinstance(relation[1], str):
        return False
    numbers = (relation[0], *relation[2:])
    known = all(type(number) is int and 0 <= number < count for number in numbers)
    return known and RELATIONS.get(relation[1]) == len(numbers) == len(set(numbers))


def parse_scene(values: Mapping[str, Any]) -> Scene:
    """The scene of a line's values."""
    rows = values.get("objects", ())  # none where a word is all that is there
    objects = [PlacedObject(row["concept"], Cell(**row["cell"]), row.get("tint", "")) for row in rows]
    words = tuple(Word(**row) for row in values.get("words", ()))
    return Scene("", "", tuple(objects), values["background"], values["style"], words)


def prompt_to_json(prompt: Prompt) -> str:
    """The line of a suite's file that gives the prompt back; what is empty is left out."""
    values = asdict(prompt)
    values["prompt"] = values.pop("text")
    if prompt.scene:
        values["scene"] = _without_empty(
            {key: values["scene"][key] for key in ("objects", "background", "style", "words")}
        )
    values["labels"] = _without_empty(values["labels"])
    return json.dumps(_without_empty(values), ensure_ascii=False)


def unknown_names(labels: Labels, known: Mapping[str, Container[str]]) -> str:
    """The concepts, tints, styles and backgrounds of labels that are not among those known; "" where all are."""
    asked = {
        "concept": [*(wanted.concept for wanted in labels.objects), *labels.absent],
        "tint": [wanted.tint for wanted in labels.objects],
        "style": [labels.style],
        "background": [labels.background],
    }
    foreign = [(sort, name) for sort, names in asked.items() for name in names if name and name not in known[sort]]
    return ", ".join(f"{sort} {name!r}" for sort, name in dict.fromkeys(foreign))


def _without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values without those that are empty, down to the rows of lists."""
    kept = {}
    for key, value in values.items():
        if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
            value = [_without_empty(row) for row in value]
        if value or isinstance(value, float):  # a coordinate of 0 says something
            kept[key] = value
    return kept
