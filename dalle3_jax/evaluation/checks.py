"""Checks of a reading of a picture against what its prompt asks for."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dalle3_jax.data.scenes.layouts import place_at
from dalle3_jax.evaluation.prompts import Labels, RequestedObject
from dalle3_jax.evaluation.words import has_exact_words
from dalle3_jax.reading.scene_reader import SceneReading, SeenObject

EDGE = 0.1
"""How far apart (of the frame's shorter side) two centres must be for one to be beside the other."""


class ImageReading(NamedTuple):
    """The readings of a picture: what the reader and the OCR (None: there was none) saw, and (height, width)."""

    reading: SceneReading
    words: tuple[str, ...] | None
    frame: tuple[int, int]


def objects_present(sight: ImageReading, labels: Labels) -> bool:
    """Every concept asked for is there, however often and wherever."""
    return {wanted.concept for wanted in labels.objects} <= {seen.concept for seen in sight.reading.objects}


def counts_match(sight: ImageReading, labels: Labels) -> bool:
    """Just as many of each concept as asked for."""
    counts = Counter(seen.concept for seen in sight.reading.objects)
    return all(counts[concept] == number for concept, number in requested_counts(labels).items())


def no_other_objects(sight: ImageReading, labels: Labels) -> bool:
    """No concept that was not asked for, above all none that was asked not to be there."""
    return {seen.concept for seen in sight.reading.objects} <= set(requested_counts(labels))


def tints_match(sight: ImageReading, labels: Labels) -> bool:
    """As many of each concept in each tint as asked for; "" are a thing's own colours."""
    counts = Counter((seen.concept, seen.tint) for seen in sight.reading.objects)
    wanted: Counter[tuple[str, str]] = Counter()
    for one in labels.objects:
        wanted[one.concept, one.tint] += one.count
    return all(counts[pair] >= number for pair, number in wanted.items())


def places_match(sight: ImageReading, labels: Labels) -> bool:
    """Every object that has a place is there."""
    return all(
        any(place_at(seen.x, seen.y) == wanted.place for seen in matching_objects(sight.reading, wanted))
        for wanted in labels.objects
        if wanted.place
    )


def relations_hold(sight: ImageReading, labels: Labels) -> bool:
    """Every relation asked for holds between the middles of the groups that it is of."""
    middles = [mean_centre(matching_objects(sight.reading, wanted), sight.frame) for wanted in labels.objects]
    for first, name, *others in labels.relations:
        points = [middles[int(number)] for number in (first, *others)]
        if None in points or not HOLDS[str(name)](*points):
            return False
    return True


def background_matches(sight: ImageReading, labels: Labels) -> bool:
    """The background asked for."""
    return sight.reading.background == labels.background


def style_matches(sight: ImageReading, labels: Labels) -> bool:
    """The style asked for, of something that is there."""
    return sight.reading.style == labels.style and bool(sight.reading.objects)


def words_match(sight: ImageReading, labels: Labels) -> bool:
    """Every word asked for, letter by letter, and no other."""
    return sight.words is not None and has_exact_words(sight.words, labels.words)


def no_absent_objects(sight: ImageReading, labels: Labels) -> bool:
    """Nothing that was asked not to be there."""
    return not {seen.concept for seen in sight.reading.objects} & set(labels.absent)


CHECKS: dict[str, Callable[[ImageReading, Labels], bool]] = {
    "objects": objects_present,
    "counts": counts_match,
    "nothing else": no_other_objects,
    "tints": tints_match,
    "places": places_match,
    "relations": relations_hold,
    "background": background_matches,
    "style": style_matches,
    "words": words_match,
    "absent": no_absent_objects,
}


def applicable_checks(labels: Labels, *, ocr: bool = True) -> tuple[str, ...]:
    """The checks that the labels ask for; words only where something reads them."""
    asks = {
        "objects": labels.objects,
        "counts": labels.objects,
        "nothing else": labels.objects,
        "tints": any(wanted.tint for wanted in labels.objects),
        "places": any(wanted.place for wanted in labels.objects),
        "relations": labels.relations,
        "background": labels.background,
        "style": labels.style,
        "words": labels.words and ocr,
        "absent": labels.absent,
    }
    return tuple(name for name, wanted in asks.items() if wanted)


def run_checks(sight: ImageReading, labels: Labels) -> dict[str, bool]:
    """Every check that the labels ask for; without an OCR, none of words."""
    return {name: CHECKS[name](sight, labels) for name in applicable_checks(labels, ocr=sight.words is not None)}


def passes_all_checks(sight: ImageReading, labels: Labels) -> bool:
    """Whether the picture is wholly right."""
    return all(run_checks(sight, labels).values())


def requested_counts(labels: Labels) -> Counter[str]:
    """The number of objects of each concept that is asked for in all."""
    counts: Counter[str] = Counter()
    for wanted in labels.objects:
        counts[wanted.concept] += wanted.count
    return counts


def matching_objects(reading: SceneReading, requested: RequestedObject) -> list[SeenObject]:
    """The objects that may be those wanted: of the concept, and of the tint where there are such."""
    objects = [seen for seen in reading.objects if seen.concept == requested.concept]
    return [seen for seen in objects if seen.tint == requested.tint] or objects


def mean_centre(objects: Sequence[SeenObject], frame: tuple[int, int]) -> tuple[float, float] | None:
    """The mean of the centres (across, down), in units of the frame's shorter side; None of nothing."""
    height, width = frame
    unit = min(frame) * len(objects)
    return (sum(s.x for s in objects) * width / unit, sum(s.y for s in objects) * height / unit) if objects else None


Point = tuple[float, float]


def is_left_of(a: Point, b: Point) -> bool:
    """Clearly to the left, and more so than up or down."""
    return b[0] - a[0] > EDGE and b[0] - a[0] > abs(a[1] - b[1])


def is_above(a: Point, b: Point) -> bool:
    """Clearly higher, and more so than to a side."""
    return b[1] - a[1] > EDGE and b[1] - a[1] > abs(a[0] - b[0])


def is_between(a: Point, b: Point, c: Point) -> bool:
    """Near the line from b to c, and in its middle part."""
    along, length = (c[0] - b[0], c[1] - b[1]), math.dist(b, c)
    if length < EDGE:
        return False
    way = ((a[0] - b[0]) * along[0] + (a[1] - b[1]) * along[1]) / length**2
    off = abs((a[0] - b[0]) * along[1] - (a[1] - b[1]) * along[0]) / length**2
    return 0.15 < way < 0.85 and off < 0.35


HOLDS: dict[str, Callable[..., bool]] = {
    "left of": is_left_of,
    "right of": lambda a, b: is_left_of(b, a),
    "above": is_above,
    "below": lambda a, b: is_above(b, a),
    "between": is_between,
}
