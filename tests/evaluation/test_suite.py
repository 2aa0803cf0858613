"""The score of models whose answers are known: one that is always right, and one that draws other prompts' scenes."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from dalle3_jax.data.scenes.world import FIRST
from dalle3_jax.evaluation.judge import METRICS, MISTAKES
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.suite import prompts, reconstructions, score, true_pictures
from dalle3_jax.pictures import Picture, Request
from dalle3_jax.pipeline import Pipeline
from tests.tiny import tiny_release

SIZE, COUNT = (64, 64), 90


class Mirror(nn.Module):
    """A VAE that changes nothing."""

    def encode(self, images):
        return images, None

    def decode(self, latents):
        return latents


class Painter(Pipeline):
    """Draws the true scene of the prompt that stands `shift` places further on."""

    shift = 0

    def generate(self, requests: Sequence[Request], **_):
        shown = true_pictures(FIRST, prompts(FIRST, len(requests)), *SIZE)
        for index, request in enumerate(requests):
            yield index, Picture(Image.fromarray(shown[(index + self.shift) % len(shown)]), request, "", 1)


def painted(shift: int) -> Report:
    painter = Painter(tiny_release())
    painter.shift = shift
    return score(painter, count=COUNT, size=SIZE)


@pytest.fixture(scope="module")
def faultless() -> Report:
    return painted(0)


def test_a_faultless_painter_scores_everything(faultless: Report) -> None:
    for name, row in faultless.rows.items():
        assert row.model.value == 1.0, name
        assert row.ceilings["true scenes"] == 1.0
        assert row.model.prompts == (COUNT if METRICS[name][0] is None else COUNT // 3)
    assert all(set(counts) == set(MISTAKES) for counts in faultless.mistakes().values())
    assert sum(counts["right"] for counts in faultless.mistakes().values()) == COUNT
    assert {outcome.psnr for outcome in faultless.outcomes} == {99.0}


def test_shuffled_prompts_score_at_chance(faultless: Report) -> None:
    for row in faultless.rows.values():
        assert row.shuffled.value == row.chance
        assert row.shuffled.low <= row.chance <= row.shuffled.high
        assert row.chance < 0.2 < row.model.low


def test_a_painter_of_other_prompts_scores_about_chance() -> None:
    report = painted(1)
    for row in report.rows.values():
        assert row.model.value < 0.25
        assert row.shuffled.high < 0.25
    assert report.rows["the whole scene"].model.value == 0.0


def test_the_ceiling_of_a_bad_vae_is_seen(faultless: Report) -> None:
    """The tiny system's VAE is random: nothing is read in its reconstructions, and their PSNR says why."""
    assert faultless.rows["the whole scene"].ceilings["VAE reconstructions"] == 0.0
    assert faultless.psnr < 15


def test_a_vae_that_changes_nothing_has_no_ceiling() -> None:
    shown = true_pictures(FIRST, prompts(FIRST, 11), *SIZE)
    assert (reconstructions(Mirror(), {}, shown) == shown).all()


def test_prompts_are_held_out_balanced_and_fixed() -> None:
    asked = prompts(FIRST, 300)
    assert asked == prompts(FIRST, 300)
    assert asked != prompts(FIRST, 300, seed=1)
    kinds = [prompt.scene.kind for prompt in asked]
    assert {kind: kinds.count(kind) for kind in kinds} == {"one": 100, "two": 100, "count": 100}
    assert all(FIRST.held_out.holds(prompt.scene.concepts, prompt.scene.background) for prompt in asked)
    seen = prompts(FIRST, 31, split="train")
    assert not any(FIRST.held_out.holds(prompt.scene.concepts, prompt.scene.background) for prompt in seen)
    assert len(seen) == 31


def test_too_few_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 6"):
        prompts(FIRST, 5)


def test_the_report_is_plain_and_complete(faultless: Report) -> None:
    plain = json.loads(json.dumps(faultless.plain(), allow_nan=False))
    assert plain["metrics"].keys() == METRICS.keys()
    assert len(plain["pictures"]) == COUNT
    assert plain["settings"]["sampler"] == "ddim"
    text = faultless.markdown()
    assert all(f"| {name} " in text for name in METRICS)
    assert "100.0 %" in text


def test_sheets_show_the_best_first_and_the_worst_last(faultless: Report) -> None:
    bad = faultless.outcomes[3]
    spoilt = type(bad)(bad.prompt, bad.kind, bad.asked, faultless.outcomes[4].read, np.zeros_like(bad.image), 5.0)
    report = Report(faultless.settings, faultless.rows, faultless.psnr, [spoilt, *faultless.outcomes[4:20]])
    sheets = report.sheets()
    assert sheets.keys() == {"best", "median", "worst"}
    dark = {name: (np.asarray(sheet) == 0).all(-1).mean() for name, sheet in sheets.items()}
    assert dark["worst"] > dark["best"] + 0.01
