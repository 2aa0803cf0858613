"""Rates over pictures: which count in which line of the table, and what a picture is worth."""

from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.evaluation import outcomes
from dalle3_jax.evaluation.checks import CHECKS, Sight, judge
from dalle3_jax.evaluation.outcomes import Outcome, rows, shares
from dalle3_jax.evaluation.prompts import Labels, Prompt, Wanted
from dalle3_jax.reading.scene_reader import Reading

SIZE = (8, 8)
EVERYTHING = Labels(
    (Wanted("car", 1, "red", "left"), Wanted("dog")), ((0, "left of", 1),), "sea", "flat", ("HI",), ("pig",)
)


def seen(words: tuple[str, ...] | None) -> Outcome:
    """An empty picture of a prompt that asks for everything."""
    sight = Sight(Reading("sea", "flat", ()), words, SIZE)
    prompt = Prompt("a", "words", "everything", EVERYTHING)
    return Outcome(prompt, "short", 0, 0, np.zeros((*SIZE, 3), np.uint8), sight, judge(sight, EVERYTHING))


def test_every_check_has_a_line_in_the_table_when_it_is_asked_for() -> None:
    names = [f"check: {name}" for name in CHECKS]
    assert list(rows([seen(words=())], [])) == ["all prompts", "words", *names]
    assert set(rows([seen(words=None)], [])) == set(names) - {"check: words"}
    passed = {name for name, row in rows([seen(words=())], []).items() if row.model.value}
    assert passed == {"check: nothing else", "check: background", "check: absent"}


def test_a_picture_without_checks_has_a_rank() -> None:
    assert replace(seen(words=None), checks={}).quality == (0.0, 0.0)


def test_shares_are_the_rates_without_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    missed = seen(words=())
    other = replace(missed, prompt=replace(missed.prompt, id="b"), sight=missed.sight._replace(words=("HI",)))
    plain = Prompt("c", "one object", "a car", Labels((Wanted("car"),)))
    pictures = [missed, other, replace(missed, prompt=plain, checks=judge(missed.sight, plain.labels))]
    rates = {name: row.model.value for name, row in rows(pictures, []).items()}
    for name in ("bootstrap", "shuffled"):
        monkeypatch.delattr(outcomes, name)
    assert shares(pictures) == pytest.approx(rates)
    assert shares(pictures)["check: words"] == 0.5
