"""Atoms of prompts: sure of faultless pictures, soft where the reader is, and the means over them in closed form."""

from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.evaluation.atom_scores import (
    MEAN,
    WHOLE,
    AtomScores,
    atom_markdown,
    atom_rows,
    read_atoms,
)
from dalle3_jax.evaluation.atoms import Atom, count_atoms, label_atoms
from dalle3_jax.evaluation.checks import ImageReading
from dalle3_jax.evaluation.plots import atoms_figure
from dalle3_jax.evaluation.prompts import Labels, RequestedObject
from dalle3_jax.evaluation.suites import load_suite
from dalle3_jax.reading.scene_probabilities import SceneProbabilities
from dalle3_jax.reading.scene_reader import SceneReading, SeenObject
from tests.evaluation.test_checks import true_sight

SUITE = load_suite()
CAT, DOG = SeenObject("cat", "", 0.2, 0.5, 0.3), SeenObject("dog", "red", 0.8, 0.5, 0.3)
ASKED = Labels(
    (RequestedObject("cat", place="left"), RequestedObject("dog", 1, "red")),
    ((0, "left of", 1),),
    background="snow",
    style="flat",
    words=("HELLO",),
    absent=("owl",),
)
NAMES = {"concepts": ("cat", "dog", "owl"), "tints": ("", "red"), "styles": ("3d", "flat"), "backgrounds": ("snow",)}


def sight_of(*objects: SeenObject, words: tuple[str, ...] | None = ("HELLO",), **changes: str) -> ImageReading:
    return ImageReading(SceneReading(changes.get("background", "snow"), "flat", objects), words, (64, 64))


def by_skill(labels: Labels, sight: ImageReading) -> dict[str, list[float]]:
    """Skill -> probabilities, in the order of the atoms."""
    found: dict[str, list[float]] = {}
    scores = read_atoms("a", labels, sight)
    assert scores is not None
    for atom, value in zip(scores.atoms, scores.scores, strict=True):
        found.setdefault(atom.skill, []).append(value)
    return found


def test_every_atom_of_a_faultless_picture_is_sure():
    for prompt in SUITE:
        scores = read_atoms(prompt.id, prompt.labels, true_sight(prompt))
        assert scores is not None
        assert set(scores.scores) == {1.0}, (prompt.id, scores)


def test_other_prompts_pictures_lack_most_atoms_of_every_skill():
    found: dict[str, list[float]] = {}
    sights = [true_sight(prompt) for prompt in SUITE]
    for prompt, other in zip(SUITE, [*sights[100:], *sights[:100]], strict=True):
        for skill, values in by_skill(prompt.labels, other).items():
            found.setdefault(skill, []).extend(values)
    assert {skill for skill, values in found.items() if np.mean(values) > 0.5} == {"absence"}


@pytest.mark.parametrize(
    ("sight", "wrong"),
    [
        (sight_of(CAT, DOG), {}),
        (sight_of(DOG), {"object": [0.0, 1.0], "count": [0.0, 1.0], "position": [0.0, 0.0]}),
        (sight_of(CAT, replace(CAT, y=0.1), DOG), {"count": [0.0, 1.0]}),
        (sight_of(CAT, replace(DOG, tint="")), {"tint": [0.0], "position": [1.0, 0.0]}),
        (sight_of(replace(CAT, x=0.8), replace(DOG, x=0.2)), {"position": [0.0, 0.0]}),
        (sight_of(CAT, DOG, background="sea"), {"background": [0.0]}),
        (sight_of(CAT, DOG, words=("HELO",)), {"word": [0.8]}),
        (sight_of(CAT, DOG, words=()), {"word": [0.0]}),
        (sight_of(CAT, DOG, SeenObject("owl", "", 0.5, 0.5, 0.1)), {"absence": [0.0]}),
    ],
)
def test_what_is_wrong_fails_its_own_atoms_and_no_others(sight, wrong):
    right = {"object": [1.0, 1.0], "count": [1.0, 1.0], "tint": [1.0], "position": [1.0, 1.0]}
    right |= {"background": [1.0], "style": [1.0], "word": [1.0], "absence": [1.0]}
    assert by_skill(ASKED, sight) == right | wrong


def test_words_are_no_atoms_where_nothing_reads_them_and_one_of_a_thing_counts_for_none():
    assert "word" not in by_skill(ASKED, sight_of(CAT, DOG, words=None))
    assert count_atoms(label_atoms(ASKED)) == 2 + 1 + 2 + 1 + 1 + 1 + 1
    assert count_atoms(label_atoms(Labels((RequestedObject("cat", 3),)))) == 2


def test_a_reader_that_is_not_sure_gives_the_probabilities_of_independent_candidates():
    soft = SceneProbabilities(
        NAMES,
        np.array([0.9, 0.5, 0.6]),
        np.array([[0.2, 0.5], [0.2, 0.5], [0.8, 0.5]]),
        np.array([[1.0, 0.0, 0.0], [0.8, 0.2, 0.0], [0.0, 1.0, 0.0]]),
        np.array([[1.0, 0.0], [1.0, 0.0], [0.25, 0.75]]),
        np.array([[0.0, 1.0]] * 3),
        np.array([0.7]),
    )
    found = by_skill(ASKED, ImageReading(SceneReading("snow", "flat", (), soft), ("HELLO",), (64, 64)))
    cats, dogs = [0.9, 0.4], [0.1, 0.6]
    any_cat, any_dog, red = 1 - 0.1 * 0.6, 1 - 0.9 * 0.4, 0.75 * 0.6
    one_cat = cats[0] * (1 - cats[1]) + (1 - cats[0]) * cats[1]
    one_dog = dogs[0] * (1 - dogs[1]) + (1 - dogs[0]) * dogs[1]
    assert found["object"] == pytest.approx([any_cat, any_dog])
    assert found["count"] == pytest.approx([one_cat, one_dog])
    assert found["tint"] == pytest.approx([red])
    assert found["position"] == pytest.approx([any_cat, any_cat * red])
    assert found["background"] == pytest.approx([0.7])
    assert found["style"] == pytest.approx([1 - 0.1 * 0.5 * 0.4])
    assert found["absence"] == [1.0]


def scored(prompt: str, skills: str, *scores: float, count: int | None = None) -> AtomScores:
    atoms = tuple(Atom(skill, "?") for skill in skills.split())
    return AtomScores(prompt, count or len(atoms), atoms, scores)


def test_means_over_atoms_prompts_skills_and_numbers():
    scores = [
        scored("a", "object count", 1.0, 0.25),
        scored("a", "object count", 1.0, 1.0),  # another seed of the same prompt
        scored("b", "object object verb", 0.5, 0.0, 0.2, count=2),
        scored("c", "object", 0.4),
    ]
    rows = atom_rows(scores, shuffled=scores[:1], ceiling=scores[1:2])
    values = {name: row.model.value for name, row in rows.items()}
    assert values == pytest.approx(
        {
            MEAN: ((0.625 + 1) / 2 + 0.7 / 3 + 0.4) / 3,
            WHOLE: ((0.5 + 1) / 2 + 0 + 0.4) / 3,
            "skill: object": (1 + 1 + 0.5 + 0 + 0.4) / 5,  # every atom weighs the same
            "skill: count": 1.25 / 2,
            "skill: verb": 0.2,
            "1 atom": 0.4,
            "2 atoms": ((0.5 + 1) / 2 + 0) / 2,
        }
    )
    assert (rows[MEAN].shuffled, rows[WHOLE].shuffled) == pytest.approx((0.625, 0.5))
    assert (rows[MEAN].ceiling, rows[MEAN].copies, rows["1 atom"].shuffled) == (1.0, None, None)
    table = atom_markdown(rows)
    assert "true scenes" in table
    assert "VAE" not in table
    assert rows[MEAN].model.prompts == 3
    assert atoms_figure(rows, "a title").startswith(b"\x89PNG")
