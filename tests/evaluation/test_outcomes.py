"""Rates over pictures: which count in which line of the table, and what a picture is worth."""

from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.evaluation import outcomes
from dalle3_jax.evaluation.checks import CHECKS, ImageReading, run_checks
from dalle3_jax.evaluation.outcomes import Outcome, rate_rows, right_shares
from dalle3_jax.evaluation.prompts import Labels, Prompt, RequestedObject
from dalle3_jax.reading.scene_reader import SceneReading

SIZE = (8, 8)
EVERYTHING = Labels(
    (RequestedObject("car", 1, "red", "left"), RequestedObject("dog")),
    ((0, "left of", 1),),
    "sea",
    "flat",
    ("HI",),
    ("pig",),
)


def seen(words: tuple[str, ...] | None) -> Outcome:
    """An empty picture of a prompt that asks for everything."""
    sight = ImageReading(SceneReading("sea", "flat", ()), words, SIZE)
    prompt = Prompt("a", "words", "everything", EVERYTHING)
    return Outcome(prompt, "short", 0, 0, np.zeros((*SIZE, 3), np.uint8), sight, run_checks(sight, EVERYTHING))


def test_every_check_has_a_line_in_the_table_when_it_is_asked_for() -> None:
    names = [f"check: {name}" for name in CHECKS]
    assert list(rate_rows([seen(words=())], [])) == ["all prompts", "words", *names]
    assert set(rate_rows([seen(words=None)], [])) == set(names) - {"check: words"}
    passed = {name for name, row in rate_rows([seen(words=())], []).items() if row.model.value}
    assert passed == {"check: nothing else", "check: background", "check: absent"}


def test_a_picture_without_checks_has_a_rank() -> None:
    assert replace(seen(words=None), checks={}).quality == (0.0, 0.0)


def test_shares_are_the_rates_without_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    missed = seen(words=())
    other = replace(missed, prompt=replace(missed.prompt, id="b"), sight=missed.sight._replace(words=("HI",)))
    plain = Prompt("c", "one object", "a car", Labels((RequestedObject("car"),)))
    pictures = [missed, other, replace(missed, prompt=plain, checks=run_checks(missed.sight, plain.labels))]
    rates = {name: row.model.value for name, row in rate_rows(pictures, []).items()}
    for name in ("bootstrap", "shuffled_rate"):
        monkeypatch.delattr(outcomes, name)
    assert right_shares(pictures) == pytest.approx(rates)
    assert right_shares(pictures)["check: words"] == 0.5
