"""What counts as right: readings of pictures against what their prompts ask for."""

from collections import Counter
from collections.abc import Callable

from dalle3_jax.evaluation.reader import Reading

Judge = Callable[[Reading, Reading], bool]
"""(what was read, what was asked for) -> whether that is right."""


def same_objects(read: Reading, asked: Reading) -> bool:
    """The objects asked for, each in its place, and nothing else."""
    return read.objects == asked.objects


def same_concepts(read: Reading, asked: Reading) -> bool:
    """As many of each concept as asked for, wherever they stand, and nothing else."""
    return read.concepts == asked.concepts


def all_named(read: Reading, asked: Reading) -> bool:
    """Every concept asked for is there, wherever and however often, whatever else there is."""
    return set(asked.concepts) <= set(read.concepts)


def same_background(read: Reading, asked: Reading) -> bool:
    """The background asked for."""
    return read.background == asked.background


METRICS: dict[str, tuple[str | None, Judge]] = {
    "one object, in its place": ("one", same_objects),
    "one object, anywhere": ("one", all_named),
    "count: the object and its number": ("count", same_concepts),
    "two objects, both in their places": ("two", same_objects),
    "two objects, both anywhere": ("two", all_named),
    "background": (None, same_background),
    "the whole scene": (None, Reading.__eq__),
}
"""Name -> (the kind of scene whose prompts it is measured on, or None for all of them; what counts as right)."""

MISTAKES = ("right", "misplaced", "too few", "too many", "one instead of another", "foreign object")


def mistake(read: Reading, asked: Reading) -> str:
    """The first thing that is wrong with the objects, one of MISTAKES."""
    if same_objects(read, asked):
        return "right"
    found, wanted = Counter(read.concepts), Counter(asked.concepts)
    if found == wanted:
        return "misplaced"
    if set(found) - set(wanted):
        return "foreign object"
    if len(read.concepts) != len(asked.concepts):
        return "too few" if len(read.concepts) < len(asked.concepts) else "too many"
    return "one instead of another"
