"""Two models are compared in pairs, on the same noise or not at all, and what else differs is said."""

import json
from dataclasses import replace

import numpy as np
import pytest

from dalle3_jax.evaluation.checks import ImageReading, run_checks
from dalle3_jax.evaluation.comparison import Comparison
from dalle3_jax.evaluation.outcomes import Outcome
from dalle3_jax.evaluation.prompts import Labels, Prompt, RequestedObject
from dalle3_jax.evaluation.report import Report
from dalle3_jax.reading.scene_reader import SceneReading, SeenObject

THINGS = ("car", "dog", "cat", "owl", "fox", "key", "sun")
PROMPTS = [Prompt(name, "one object", f"a {name}", Labels((RequestedObject(name),))) for name in THINGS]
SETTINGS = {
    "checkpoint": "0123456789abcdef",
    "prompts": len(PROMPTS),
    "seeds": 1,
    "seed": 0,
    "steps": 20,
    "sampler": "ddim",
    "decoder": "vae",
    "guidance_scale": 2.5,
    "size": (8, 8),
}


def outcome(number: int, shown: str, protocol: str = "short", side: int = 8) -> Outcome:
    prompt = PROMPTS[number]
    sight = ImageReading(SceneReading("beach", "3d", (SeenObject(shown, "", 0.5, 0.5, 0.5),)), None, (side, side))
    image = np.zeros((side, side, 3), np.uint8)
    return Outcome(prompt, protocol, 0, number, image, sight, run_checks(sight, prompt.labels))


def report(shift: int, protocol: str = "short", side: int = 8) -> Report:
    """Of a model that shows what the prompt `shift` places further on asks for."""
    shown = [THINGS[(number + shift) % len(THINGS)] for number in range(len(THINGS))]
    return Report(SETTINGS, [outcome(number, name, protocol, side) for number, name in enumerate(shown)])


GOOD, BAD = report(0), report(1)


def test_a_comparison_is_of_pairs_and_says_who_is_better() -> None:
    compared = Comparison(("bad", "good"), BAD, GOOD)
    line = compared.changes()["all prompts"]
    assert (line.first.value, line.second.value) == (0.0, 1.0)
    assert (line.difference.value, line.difference.low, line.difference.high) == (1.0, 1.0, 1.0)
    same = Comparison(("good", "again"), GOOD, GOOD).changes()["all prompts"].difference
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert "| * " in compared.markdown()
    json.dumps(compared.to_dict(), allow_nan=False)


def test_both_models_have_their_shuffled_control() -> None:
    line = Comparison(("bad", "good"), BAD, GOOD).changes()["all prompts"]
    assert line.first_shuffled is not None
    assert line.second_shuffled is not None
    assert line.first_shuffled.value == pytest.approx(1 / 6)  # one of the six others asks for what is shown
    assert line.second_shuffled.value == 0.0


def test_reports_of_other_prompts_or_of_other_sizes_do_not_pair() -> None:
    with pytest.raises(ValueError, match="same prompts"):
        Comparison(("good", "less"), GOOD, Report(SETTINGS, GOOD.outcomes[:4]))
    with pytest.raises(ValueError, match="other sizes"):
        Comparison(("good", "large"), GOOD, report(0, side=16))


def test_settings_that_differ_are_named_and_each_head_has_its_own() -> None:
    other = replace(BAD, settings=SETTINGS | {"steps": 10, "guidance_scale": 4.0})
    text = Comparison(("good", "bad"), GOOD, other).markdown()
    assert "They differ in steps (20 and 10), guidance_scale (2.5 and 4.0)." in text
    assert "- good: 7 prompts, 1 picture each (seed 0) at 8x8; 20 steps of ddim, guidance 2.5" in text
    assert "- bad: 7 prompts, 1 picture each (seed 0) at 8x8; 10 steps of ddim, guidance 4" in text
    assert "They differ in no setting." in Comparison(("good", "bad"), GOOD, BAD).markdown()


def test_protocols_are_compared_apart() -> None:
    first = Report(SETTINGS, [*GOOD.outcomes, *report(1, "upsampled").outcomes])
    second = Report(SETTINGS, [*BAD.outcomes, *report(0, "upsampled").outcomes])
    lines = Comparison(("a", "b"), first, second).changes()
    gaps = [lines[f"{protocol}: all prompts"].difference for protocol in ("short", "upsampled")]
    assert [(gap.value, gap.prompts) for gap in gaps] == [(-1.0, 7), (1.0, 7)]


def test_the_sheet_shows_every_pair_that_differs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("dalle3_jax.evaluation.comparison.draw_sheet", lambda cells, **_: drawn.extend(cells))
    Comparison(("bad", "good"), BAD, GOOD).sheet()
    prompts = [cell.lines[0].text for cell in drawn]
    assert prompts == [f"{name}: a {thing}" for thing in THINGS for name in ("bad", "good")]
    assert Comparison(("good", "again"), GOOD, GOOD).sheet() is None
