"""How true captions are: what they say of scenes against the exact labels, with controls, as a table and a sheet."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import World
from dalle3_jax.data.transforms import decode
from dalle3_jax.evaluation.checks import HOLDS
from dalle3_jax.evaluation.statistics import Rate, bootstrap
from dalle3_jax.evaluation.tables import percent, span, table
from dalle3_jax.pipeline.contact_sheet import GREEN, INK, RED, Cell, Line, sheet
from dalle3_jax.prompting.scene_lexicon import Claims, claims

__all__ = ["MEASURES", "Measured", "Row", "examples", "markdown", "measured", "retrieval"]

SHIFTS = 10
"""Captions of so many other pictures that each picture's labels are held against, as the control."""

Labels = Mapping[str, Any]
"""A record's labels, as `data.scenes.labels` writes them."""


class Row(NamedTuple):
    """One measure of the captions of one version: its rate, and that of captions of other pictures."""

    rate: Rate
    shuffled: float


@dataclass(frozen=True)
class Measured:
    """The captions of one version, the rates of each measure, and how many words they have on the average."""

    captions: list[str]
    rows: dict[str, Row]
    words: float


def shown(labels: Labels) -> Counter[str]:
    """How many of each concept there are."""
    return Counter(one["concept"] for one in labels["objects"])


def middles(labels: Labels) -> dict[str, tuple[float, float]]:
    """Where each concept is: the mean of its objects' centres, in fractions of the frame."""
    boxes: dict[str, list[Sequence[float]]] = {}
    for one in labels["objects"]:
        boxes.setdefault(one["concept"], []).append(one["box"])
    means = {concept: np.mean(rows, 0) for concept, rows in boxes.items()}
    return {name: (float(b[0] + b[2]) / 2, float(b[1] + b[3]) / 2) for name, b in means.items()}


def objects(said: Claims, labels: Labels) -> float | None:
    """The share of the concepts shown that are named."""
    wanted = shown(labels)
    return len(wanted.keys() & said.things.keys()) / len(wanted) if wanted else None


def counts(said: Claims, labels: Labels) -> float | None:
    """The share of the concepts shown that are named in their number."""
    wanted = shown(labels)
    return sum(said.things.get(name) == n for name, n in wanted.items()) / len(wanted) if wanted else None


def relations(said: Claims, labels: Labels) -> float | None:
    """Of pictures about how things stand to each other: whether that is said, and all of it true."""
    if labels["kind"] not in ("two", "row", "between"):
        return None
    return float(bool(said.relations) and not false_relations(said, labels))


def false_relations(said: Claims, labels: Labels) -> bool:
    """Whether a relation is said that does not hold, or of things that are not there."""
    at = middles(labels)
    return not all(
        {a, *rest} <= at.keys() and HOLDS[name](*(at[one] for one in (a, *rest))) for a, name, *rest in said.relations
    )


def places(said: Claims, labels: Labels) -> float | None:
    """Of pictures of one thing somewhere: whether its place is said rightly."""
    if labels["kind"] != "one":
        return None
    [one] = labels["objects"]
    return float(said.places.get(one["concept"]) == one["place"])


def tints(said: Claims, labels: Labels) -> float | None:
    """The share of the tinted concepts whose tints are said."""
    wanted: dict[str, set[str]] = {}
    for one in labels["objects"]:
        if one["tint"]:
            wanted.setdefault(one["concept"], set()).add(one["tint"])
    right = [set(said.tints.get(name, ())) == shades for name, shades in wanted.items()]
    return sum(right) / len(right) if right else None


def background(said: Claims, labels: Labels) -> float | None:
    """Whether the background is named, and no other."""
    return float(said.backgrounds == (labels["background"],))


def words(said: Claims, labels: Labels) -> float | None:
    """Of pictures with words: whether just these are quoted."""
    wanted = sorted(one["text"] for one in labels["words"])
    return float(sorted(said.words) == wanted) if wanted else None


def things_not_there(said: Claims, labels: Labels) -> float | None:
    """Whether anything is named that is not there."""
    return float(bool(said.things.keys() - shown(labels).keys()))


def background_not_there(said: Claims, labels: Labels) -> float | None:
    """Whether another background is named."""
    return float(bool({*said.backgrounds} - {labels["background"]}))


def words_not_there(said: Claims, labels: Labels) -> float | None:
    """Whether anything is quoted that is not written there."""
    return float(bool({*said.words} - {one["text"] for one in labels["words"]}))


def nothing_wrong(said: Claims, labels: Labels) -> float | None:
    """Whether all that is said is true, however little that is."""
    numbers = shown(labels)
    miscounted = any(n not in (0, numbers[name]) for name, n in said.things.items() if name in numbers)
    wrong = things_not_there, background_not_there, words_not_there
    untrue = miscounted or false_relations(said, labels) or any(measure(said, labels) for measure in wrong)
    return float(not untrue and places(said, labels) != 0.0 if said.places else not untrue)


def wholly_right(said: Claims, labels: Labels) -> float | None:
    """Whether all is said (things, numbers, places or relations, tints, background, words), and nothing untrue."""
    parts = objects, counts, relations, places, tints, background, words, nothing_wrong
    return float(all(value in (None, 1.0) for value in (part(said, labels) for part in parts)))


MEASURES: dict[str, Callable[[Claims, Labels], float | None]] = {
    "objects named": objects,
    "counts right": counts,
    "relations right": relations,
    "places right": places,
    "tints right": tints,
    "background named": background,
    "words right": words,
    "wholly right": wholly_right,
    "nothing untrue": nothing_wrong,
    "things not there": things_not_there,
    "background not there": background_not_there,
    "words not there": words_not_there,
}
"""Measure -> what it is of one caption, None where the picture does not ask for it; the last three should be 0."""


def measured(captions: Sequence[str], labels: Sequence[Labels], world: World) -> Measured:
    """Every measure that the pictures ask for."""
    said = [claims(caption, world) for caption in captions]
    rows = {}
    for name, measure in MEASURES.items():
        values = [measure(*pair) for pair in zip(said, labels, strict=True)]
        if kept := [value for value in values if value is not None]:
            shifts = range(1, min(SHIFTS, len(labels) - 1) + 1)
            others = [measure(said[i - shift], labels[i]) for shift in shifts for i in range(len(labels))]
            control = [value for value in others if value is not None]
            rows[name] = Row(bootstrap(np.array(kept)), float(np.mean(control)) if control else float("nan"))
    lengths = [len(caption.split()) for caption in captions]
    return Measured(list(captions), rows, float(np.mean(lengths)))


def markdown(found: Mapping[str, Measured]) -> str:
    """A column a version: rates with their intervals, and in brackets what captions of other pictures score."""
    names = [name for name in MEASURES if any(name in one.rows for one in found.values())]

    def cell(row: Row | None) -> str:
        return f"{percent(row.rate.value)} ({span(row.rate)}) [{100 * row.shuffled:.1f}]" if row else "-"

    lines = [[name, *(cell(one.rows.get(name)) for one in found.values())] for name in names]
    lines.append(["words a caption", *(f"{one.words:.1f}" for one in found.values())])
    return table(["", *found], lines)


def examples(records: Sequence[Record], captions: Mapping[str, Sequence[str]], world: World, title: str) -> Image.Image:
    """A sheet of pictures with a caption of each version: green where all is said, red where anything is untrue."""
    cells = []
    for i, record in enumerate(records):
        lines = []
        for version, texts in captions.items():
            said = claims(texts[i], world)
            right, true = wholly_right(said, record.labels), nothing_wrong(said, record.labels)
            lines.append(Line(f"{version}: {printable(texts[i])}", GREEN if right else INK if true else RED))
        cells.append(Cell(Image.fromarray(decode(record.image, record.key)), tuple(lines)))
    return sheet(cells, columns=4, width=192, title=title, font_size=12)


def printable(text: str) -> str:
    """The text as one line that can be drawn."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def retrieval(images: np.ndarray, texts: np.ndarray, among: int = 16) -> Rate:
    """How often a picture's own text is the nearest of `among` (or all, if fewer), by unit vectors [n v] of both."""
    among = min(among, len(images))
    count = len(images) // among * among
    products = np.einsum("bnv,bmv->bnm", *(rows[:count].reshape(-1, among, rows.shape[-1]) for rows in (images, texts)))
    return bootstrap((products.argmax(-1) == np.arange(among)).reshape(-1))
