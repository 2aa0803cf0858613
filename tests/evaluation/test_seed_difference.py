"""How far seeds of a prompt differ, on pictures whose differences are known."""

import numpy as np
import pytest

from dalle3_jax.evaluation.checks import ImageReading
from dalle3_jax.evaluation.outcomes import Outcome
from dalle3_jax.evaluation.prompts import Labels, Prompt, RequestedObject
from dalle3_jax.evaluation.seed_difference import DIFFERENT, OPEN, seed_difference_markdown, seed_differences
from dalle3_jax.reading.scene_reader import SceneReading

FREE = Prompt("free", "one object", "a cat", Labels((RequestedObject("cat"),)))
PLACED = Prompt("placed", "positions", "a cat at the top", Labels((RequestedObject("cat", place="top"),)))
RELATED = Prompt(
    "related",
    "positions",
    "a cat above a dog",
    Labels((RequestedObject("cat"), RequestedObject("dog")), ((0, "above", 1),)),
)


def outcomes(prompt: Prompt, *levels: int) -> list[Outcome]:
    """A picture of each level of grey."""
    sight = ImageReading(SceneReading("sea", "3d", ()), None, (4, 6))
    return [
        Outcome(prompt, "short", round_, round_, np.full((4, 6, 3), level, np.uint8), sight, {})
        for round_, level in enumerate(levels)
    ]


def test_differences_are_means_over_pairs_of_seeds_and_prompts():
    rows = [*outcomes(FREE, 0, 10, 250), *outcomes(PLACED, 7, 7, 7), *outcomes(RELATED, 100, 103, 106)]
    found = seed_differences(rows)
    free, related = (10 + 250 + 240) / 3, (3 + 6 + 3) / 3
    assert {name: rate.value for name, rate in found.items()} == pytest.approx(
        {
            "all prompts": (free + 0 + related) / 3,
            OPEN: free,
            "one object": free,
            "positions": related / 2,
            DIFFERENT: (7 + 93) / 2,
        }
    )
    assert "| places left open  | 1       | 166.7" in seed_difference_markdown(found)


def test_single_seeds_differ_by_nothing_that_could_be_told():
    assert seed_differences([*outcomes(FREE, 0), *outcomes(PLACED, 7)]) == {}
