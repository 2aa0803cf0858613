"""Accuracy of captions: what they say of scenes against the exact labels, with controls, as a table and a sheet."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from dalle3_jax.data.records import Record
from dalle3_jax.data.scenes import World
from dalle3_jax.data.transforms import decode_image
from dalle3_jax.evaluation.checks import HOLDS
from dalle3_jax.evaluation.statistics import Rate, bootstrap
from dalle3_jax.evaluation.tables import format_interval, format_percent, markdown_table
from dalle3_jax.pipeline.contact_sheet import GREEN, INK, RED, SheetCell, SheetLine, draw_sheet
from dalle3_jax.prompting.scene_lexicon import Claims, caption_claims

__all__ = [
    "MEASURES",
    "CaptionScores",
    "MeasureRow",
    "caption_scores_markdown",
    "examples_sheet",
    "retrieval_rate",
    "score_captions",
]

SHIFTS = 10
"""Captions of so many other pictures that each picture's labels are held against, as the control."""

Labels = Mapping[str, Any]
"""A record's labels, as `data.scenes.record_labels` writes them."""


class MeasureRow(NamedTuple):
    """One measure of the captions of one version: its rate, and that of captions of other pictures."""

    rate: Rate
    shuffled: float


@dataclass(frozen=True)
class CaptionScores:
    """The captions of one version, the rates of each measure, and how many words they have on the average."""

    captions: list[str]
    rows: dict[str, MeasureRow]
    words: float


def concept_counts(labels: Labels) -> Counter[str]:
    """The number of objects of each concept."""
    return Counter(one["concept"] for one in labels["objects"])


def concept_centres(labels: Labels) -> dict[str, tuple[float, float]]:
    """The centre of each concept: the mean of its objects' centres, in fractions of the frame."""
    boxes: dict[str, list[Sequence[float]]] = {}
    for one in labels["objects"]:
        boxes.setdefault(one["concept"], []).append(one["box"])
    means = {concept: np.mean(rows, 0) for concept, rows in boxes.items()}
    return {name: (float(b[0] + b[2]) / 2, float(b[1] + b[3]) / 2) for name, b in means.items()}


def object_recall(claims: Claims, labels: Labels) -> float | None:
    """The share of the concepts shown that are named."""
    wanted = concept_counts(labels)
    return len(wanted.keys() & claims.things.keys()) / len(wanted) if wanted else None


def count_accuracy(claims: Claims, labels: Labels) -> float | None:
    """The share of the concepts shown that are named in their number."""
    wanted = concept_counts(labels)
    return sum(claims.things.get(name) == n for name, n in wanted.items()) / len(wanted) if wanted else None


def relation_accuracy(claims: Claims, labels: Labels) -> float | None:
    """Of pictures about how things stand to each other: whether that is said, and all of it true."""
    if labels["kind"] not in ("two", "row", "between"):
        return None
    return float(bool(claims.relations) and not has_false_relations(claims, labels))


def has_false_relations(claims: Claims, labels: Labels) -> bool:
    """Whether a relation is said that does not hold, or of things that are not there."""
    at = concept_centres(labels)
    return not all(
        {a, *rest} <= at.keys() and HOLDS[name](*(at[one] for one in (a, *rest))) for a, name, *rest in claims.relations
    )


def place_accuracy(claims: Claims, labels: Labels) -> float | None:
    """Of pictures of one thing somewhere: whether its place is said rightly."""
    if labels["kind"] != "one":
        return None
    [one] = labels["objects"]
    return float(claims.places.get(one["concept"]) == one["place"])


def tint_accuracy(claims: Claims, labels: Labels) -> float | None:
    """The share of the tinted concepts whose tints are said."""
    wanted: dict[str, set[str]] = {}
    for one in labels["objects"]:
        if one["tint"]:
            wanted.setdefault(one["concept"], set()).add(one["tint"])
    right = [set(claims.tints.get(name, ())) == shades for name, shades in wanted.items()]
    return sum(right) / len(right) if right else None


def background_accuracy(claims: Claims, labels: Labels) -> float | None:
    """Whether the background is named, and no other."""
    return float(claims.backgrounds == (labels["background"],))


def word_accuracy(claims: Claims, labels: Labels) -> float | None:
    """Of pictures with words: whether just these are quoted."""
    wanted = sorted(one["text"] for one in labels["words"])
    return float(sorted(claims.words) == wanted) if wanted else None


def things_not_there(claims: Claims, labels: Labels) -> float | None:
    """Whether anything is named that is not there."""
    return float(bool(claims.things.keys() - concept_counts(labels).keys()))


def background_not_there(claims: Claims, labels: Labels) -> float | None:
    """Whether another background is named."""
    return float(bool({*claims.backgrounds} - {labels["background"]}))


def words_not_there(claims: Claims, labels: Labels) -> float | None:
    """Whether anything is quoted that is not written there."""
    return float(bool({*claims.words} - {one["text"] for one in labels["words"]}))


def nothing_wrong(claims: Claims, labels: Labels) -> float | None:
    """Whether all that is said is true, however little that is."""
    numbers = concept_counts(labels)
    miscounted = any(n not in (0, numbers[name]) for name, n in claims.things.items() if name in numbers)
    wrong = things_not_there, background_not_there, words_not_there
    untrue = miscounted or has_false_relations(claims, labels) or any(measure(claims, labels) for measure in wrong)
    return float(not untrue and place_accuracy(claims, labels) != 0.0 if claims.places else not untrue)


def wholly_right(claims: Claims, labels: Labels) -> float | None:
    """Whether all is said (things, numbers, places or relations, tints, background, words), and nothing untrue."""
    parts = (
        object_recall,
        count_accuracy,
        relation_accuracy,
        place_accuracy,
        tint_accuracy,
        background_accuracy,
        word_accuracy,
        nothing_wrong,
    )
    return float(all(value in (None, 1.0) for value in (part(claims, labels) for part in parts)))


MEASURES: dict[str, Callable[[Claims, Labels], float | None]] = {
    "objects named": object_recall,
    "counts right": count_accuracy,
    "relations right": relation_accuracy,
    "places right": place_accuracy,
    "tints right": tint_accuracy,
    "background named": background_accuracy,
    "words right": word_accuracy,
    "wholly right": wholly_right,
    "nothing untrue": nothing_wrong,
    "things not there": things_not_there,
    "background not there": background_not_there,
    "words not there": words_not_there,
}
"""Measure -> what it is of one caption, None where the picture does not ask for it; the last three should be 0."""


def score_captions(captions: Sequence[str], labels: Sequence[Labels], world: World) -> CaptionScores:
    """Every measure that the pictures ask for."""
    said = [caption_claims(caption, world) for caption in captions]
    rows = {}
    for name, measure in MEASURES.items():
        values = [measure(*pair) for pair in zip(said, labels, strict=True)]
        if kept := [value for value in values if value is not None]:
            shifts = range(1, min(SHIFTS, len(labels) - 1) + 1)
            others = [measure(said[i - shift], labels[i]) for shift in shifts for i in range(len(labels))]
            control = [value for value in others if value is not None]
            rows[name] = MeasureRow(bootstrap(np.array(kept)), float(np.mean(control)) if control else float("nan"))
    lengths = [len(caption.split()) for caption in captions]
    return CaptionScores(list(captions), rows, float(np.mean(lengths)))


def caption_scores_markdown(scores: Mapping[str, CaptionScores]) -> str:
    """A column a version: rates with their intervals, and in brackets what captions of other pictures score."""
    names = [name for name in MEASURES if any(name in one.rows for one in scores.values())]

    def cell(row: MeasureRow | None) -> str:
        return (
            f"{format_percent(row.rate.value)} ({format_interval(row.rate)}) [{100 * row.shuffled:.1f}]" if row else "-"
        )

    lines = [[name, *(cell(one.rows.get(name)) for one in scores.values())] for name in names]
    lines.append(["words a caption", *(f"{one.words:.1f}" for one in scores.values())])
    return markdown_table(["", *scores], lines)


def examples_sheet(
    records: Sequence[Record], captions: Mapping[str, Sequence[str]], world: World, title: str
) -> Image.Image:
    """A sheet of pictures with a caption of each version: green where all is said, red where anything is untrue."""
    cells = []
    for i, record in enumerate(records):
        lines = []
        for version, texts in captions.items():
            said = caption_claims(texts[i], world)
            right, true = wholly_right(said, record.labels), nothing_wrong(said, record.labels)
            lines.append(SheetLine(f"{version}: {texts[i]}", GREEN if right else INK if true else RED))
        cells.append(SheetCell(Image.fromarray(decode_image(record.image, record.key)), tuple(lines)))
    return draw_sheet(cells, columns=4, width=192, title=title, font_size=12)


def retrieval_rate(images: np.ndarray, texts: np.ndarray, among: int = 16) -> Rate:
    """The rate at which a picture's own text is the nearest of `among` (or all, if fewer), by unit vectors [n v]."""
    among = min(among, len(images))
    count = len(images) // among * among
    products = np.einsum("bnv,bmv->bnm", *(rows[:count].reshape(-1, among, rows.shape[-1]) for rows in (images, texts)))
    return bootstrap((products.argmax(-1) == np.arange(among)).reshape(-1))
