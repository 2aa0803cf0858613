"""The atoms of a prompt: the single things it asks for, each a question with an answer and a probability.

After GenEval 2's Soft-TIFA (arXiv 2512.16853): an object, a number, a tint, a place or a relation, the background, a
style, a drawn word. The reader of scenes gives the probabilities, or any judge that answers questions about pictures
(`evaluation.judge`).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.data.scenes.layouts import NUMBERS, PHRASES, place_at
from dalle3_jax.evaluation.checks import HOLDS, ImageReading, requested_counts
from dalle3_jax.evaluation.prompts import Labels, RequestedObject
from dalle3_jax.evaluation.words import edit_distance
from dalle3_jax.reading.scene_probabilities import SceneProbabilities, any_probability, count_probability
from dalle3_jax.reading.scene_reader import SceneReading

__all__ = ["SKILLS", "Atom", "certain_probabilities", "count_atoms", "label_atoms"]

SKILLS = ("object", "count", "tint", "position", "background", "style", "word", "absence")
RELATED = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
    "between": "between",
}


@dataclass(frozen=True)
class Atom:
    """One thing that a prompt asks for: its skill, the question and the right answer.

    What is not `counted` does not make the prompt more of a composition, but is judged: that one thing, which a prompt
    calls "a panda", is not there twice. `probability` is the reader's; None where only a judge can tell.
    """

    skill: str
    question: str
    answer: str = "Yes"
    counted: bool = True
    probability: Callable[[ImageReading], float] | None = None


def count_atoms(atoms: tuple[Atom, ...]) -> int:
    """The size of a prompt as a composition: its counted atoms."""
    return sum(atom.counted for atom in atoms)


def label_atoms(labels: Labels, *, ocr: bool = True) -> tuple[Atom, ...]:
    """The atoms of what a picture must show; of words none where nothing reads them."""
    atoms = []
    for concept, number in requested_counts(labels).items():
        plural = concept_plural(concept)
        atoms.append(object_atom(concept, plural))
        atoms.append(count_atom(concept, plural, number))
    for wanted in labels.objects:
        atoms += [tint_atom(wanted)] if wanted.tint else []
        atoms += [place_atom(wanted)] if wanted.place else []
    atoms += [relation_atom(relation, labels) for relation in labels.relations]
    if labels.background:
        atoms.append(background_atom(labels.background))
    if labels.style:
        atoms.append(style_atom(labels.style))
    atoms += [word_atom(word) for word in (labels.words if ocr else ())]
    atoms += [absence_atom(concept) for concept in labels.absent]
    return tuple(atoms)


def object_atom(concept: str, plural: str) -> Atom:
    """That a concept is there, however often."""
    question = f"Are there any {plural} in the picture?"
    return Atom(
        "object", question, probability=lambda sight: any_probability(reading_probabilities(sight).candidates(concept))
    )


def count_atom(concept: str, plural: str, number: int) -> Atom:
    """That a concept is there just so often."""
    return Atom(
        "count",
        f"How many {plural} are in the picture?",
        NUMBERS[number] if number < len(NUMBERS) else str(number),
        number > 1,
        lambda sight: count_probability(reading_probabilities(sight).candidates(concept), number),
    )


def tint_atom(wanted: RequestedObject) -> Atom:
    """That as many of a concept as are asked for have a tint."""
    question = f"{'Are' if wanted.count > 1 else 'Is'} there {describe_objects(wanted)} in the picture?"

    def probability(sight: ImageReading) -> float:
        return count_probability(
            reading_probabilities(sight).candidates(wanted.concept, wanted.tint), wanted.count, more=True
        )

    return Atom("tint", question, probability=probability)


def place_atom(wanted: RequestedObject) -> Atom:
    """That a concept stands at a place."""
    verb = "Are" if wanted.count > 1 else "Is"
    question = f"{verb} there {describe_objects(wanted)} {PHRASES[wanted.place][0]} of the picture?"

    def probability(sight: ImageReading) -> float:
        known = reading_probabilities(sight)
        there = np.array([place_at(x, y) == wanted.place for x, y in known.centres.tolist()], bool)
        return any_probability(known.candidates(wanted.concept, wanted.tint or None)[there])

    return Atom("position", question, probability=probability)


def relation_atom(relation: tuple[int | str, ...], labels: Labels) -> Atom:
    """That groups of objects are there and that their middles, each weighed by how sure it is, stand so."""
    first, name, *others = relation
    wanted = [labels.objects[int(number)] for number in (first, *others)]
    names = [f"the {object_name(one)}" for one in wanted]
    verb = "Are" if wanted[0].count > 1 else "Is"
    question = f"{verb} {names[0]} {RELATED[str(name)]} {' and '.join(names[1:])}?"

    def probability(sight: ImageReading) -> float:
        known, groups = reading_probabilities(sight), []
        for one in wanted:
            chances = known.candidates(one.concept, one.tint or None)
            groups.append((any_probability(chances), weighted_middle(known.centres, chances, sight.frame)))
        points = [middle for _, middle in groups if middle is not None]
        if len(points) < len(groups) or not HOLDS[str(name)](*points):
            return 0.0
        return math.prod(chance for chance, _ in groups)

    return Atom("position", question, probability=probability)


def background_atom(name: str) -> Atom:
    """That the background is the one asked for."""
    question = f"Does the picture have this background: {name}?"
    return Atom("background", question, probability=lambda sight: reading_probabilities(sight).background(name))


def style_atom(name: str) -> Atom:
    """That what is there has the style asked for."""
    question = f"Are the things in the picture drawn in the style {name!r}?"
    return Atom("style", question, probability=lambda sight: reading_probabilities(sight).style(name))


def word_atom(word: str) -> Atom:
    """That a word is written there: one letter wrong of n costs 1 / n of it, for an OCR gives no probability."""

    def probability(sight: ImageReading) -> float:
        errors = [edit_distance(word, other) for other in sight.words or ()]
        return max(0.0, 1.0 - min(errors, default=len(word)) / len(word))

    return Atom("word", f'Is the word "{word}" written in the picture, spelt just so?', probability=probability)


def absence_atom(concept: str) -> Atom:
    """That a concept is not there."""

    def probability(sight: ImageReading) -> float:
        return 1.0 - any_probability(reading_probabilities(sight).candidates(concept))

    return Atom("absence", f"Are there any {concept_plural(concept)} in the picture?", "No", probability=probability)


def describe_objects(wanted: RequestedObject) -> str:
    """Objects as a question names them: "a red car", "2 cats"."""
    name = object_name(wanted)
    article = "an" if name.startswith(tuple("aeiou")) else "a"
    return f"{wanted.count if wanted.count > 1 else article} {name}"


def object_name(wanted: RequestedObject) -> str:
    """Objects without their number or article: "red car", "cats"."""
    return f"{wanted.tint} {concept_plural(wanted.concept) if wanted.count > 1 else wanted.concept}".strip()


def concept_plural(concept: str) -> str:
    """The plural of a concept; of one that the embedded dataset does not know, with an s."""
    return WHOLE.concept(concept).plural if concept in WHOLE.concept_names else f"{concept}s"


def reading_probabilities(sight: ImageReading) -> SceneProbabilities:
    """The reader's probabilities of what it saw; 1 of a reader that does not give any."""
    return sight.reading.probabilities or certain_probabilities(sight.reading)


def certain_probabilities(reading: SceneReading) -> SceneProbabilities:
    """A reading as probabilities of 0 and 1."""
    seen = reading.objects
    names = {
        "concepts": tuple({one.concept: None for one in seen}),
        "tints": tuple({one.tint: None for one in seen}),
        "styles": (reading.style,),
        "backgrounds": (reading.background,),
    }

    def one_hot(table: str, values: list[str]) -> Float[np.ndarray, "n k"]:
        rows = [[float(value == name) for name in names[table]] for value in values]
        return np.array(rows).reshape(len(values), len(names[table]))

    return SceneProbabilities(
        names,
        np.ones(len(seen)),
        np.array([(one.x, one.y) for one in seen]).reshape(-1, 2),
        one_hot("concepts", [one.concept for one in seen]),
        one_hot("tints", [one.tint for one in seen]),
        np.ones((len(seen), 1)),
        np.ones(1),
    )


def weighted_middle(
    centres: Float[np.ndarray, "n 2"], weights: Float[np.ndarray, " n"], frame: tuple[int, int]
) -> tuple[float, float] | None:
    """The mean of the centres (across, down), in units of the frame's shorter side; None of nothing."""
    total = float(weights.sum())
    if total <= 0.0:
        return None
    height, width = frame
    x, y = (weights @ centres / total).tolist()
    return x * width / min(frame), y * height / min(frame)
