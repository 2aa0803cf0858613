"""The score of models whose answers are known: one that is always right, and one that draws other prompts' scenes."""

import json
from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from PIL import Image

from dalle3_jax.data.scenes import FIRST, render_scene
from dalle3_jax.evaluation.prompts import Prompt
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.score import reconstruct_images, score_model, size_for_aspect
from dalle3_jax.evaluation.suites import pick_evenly
from tests.evaluation.painter import COUNT, NAMES, PROMPTS, SIZE, Mirror, Oracle, Painter
from tests.tiny import tiny_release


def painted(shift: int) -> Report:
    painter = Painter(tiny_release())
    painter.shift = shift
    return score_model(painter, PROMPTS, Oracle(NAMES, {}), world=FIRST, size=SIZE)


@pytest.fixture(scope="module")
def faultless() -> Report:
    return painted(0)


@pytest.fixture(scope="module")
def other() -> Report:
    return painted(1)


def test_a_faultless_painter_scores_everything(faultless: Report) -> None:
    for name, row in faultless.rows["short"].items():
        assert row.model.value == 1.0, name
        assert row.held_out == row.model
        assert row.seen is None
        assert row.ceiling == 1.0
    lines = faultless.rows["short"]
    assert lines["all prompts"].model.prompts == COUNT
    assert lines["one object"].model.prompts == lines["two objects"].model.prompts == COUNT // 3
    assert {name for name in lines if name.startswith("check: ")} == {
        f"check: {name}" for name in ("objects", "counts", "nothing else", "places", "relations", "background")
    }


def test_a_faultless_painter_has_every_atom_and_one_of_other_prompts_few(faultless: Report, other: Report) -> None:
    for name, row in faultless.atoms["short"].items():
        assert (row.model.value, row.ceiling) == (1.0, 1.0), name
        assert row.shuffled is None or row.shuffled < 0.6, name
    assert other.atoms["short"]["whole prompt (geometric mean)"].model.value < 0.1
    assert faultless.seed_differences == {}  # of one picture a prompt


def test_shuffled_prompts_score_what_ignoring_them_does(faultless: Report) -> None:
    lines, pairs = faultless.rows["short"], COUNT * (COUNT - 1)
    alike = sum(number * (number - 1) for number in Counter(p.labels.background for p in PROMPTS).values())
    assert lines["check: background"].shuffled.value == pytest.approx(alike / pairs)
    things = [{wanted.concept for wanted in prompt.labels.objects} for prompt in PROMPTS]
    shown = sum(wanted <= there for wanted, there in permutations(things, 2))
    assert lines["check: objects"].shuffled.value == pytest.approx(shown / pairs)
    assert 0 < shown < alike


def test_a_painter_of_other_prompts_scores_about_as_shuffled(other: Report) -> None:
    lines = other.rows["short"]
    assert lines["all prompts"].model.value < 0.1
    assert lines["check: background"].model.value < 0.4
    assert lines["all prompts"].ceiling == 1.0


@pytest.mark.parametrize(("darker", "copies"), [(0.02, 1.0), (0.2, 0.0)])
def test_the_vaes_copies_are_read_as_far_as_it_spoils_them(darker: float, copies: float) -> None:
    tiny = tiny_release()
    mirrors = {"modules": {**tiny.modules, "vae": Mirror(darker)}, "params": {**tiny.params, "vae": {}}}
    report = score_model(Painter(replace(tiny, **mirrors)), PROMPTS[:4], Oracle(NAMES, {}), world=FIRST, size=SIZE)
    assert report.rows["short"]["all prompts"].copies == copies
    assert report.rows["short"]["all prompts"].ceiling == 1.0
    assert report.psnr == pytest.approx(20 * np.log10(2 / darker), abs=2)


def test_a_vae_that_changes_nothing_has_no_ceiling() -> None:
    shown = np.stack([render_scene(FIRST, prompt.scene, *SIZE) for prompt in PROMPTS[:11]])
    assert (reconstruct_images(Mirror(), {}, shown) == shown).all()


def test_every_round_and_protocol_has_its_own_pictures_and_protocols_share_noise() -> None:
    prompts = [Prompt(p.id, p.kind, p.text, p.labels, upsampled="longer: " + p.text) for p in PROMPTS[:4]]
    report = score_model(
        Painter(tiny_release()),
        prompts,
        Oracle(NAMES, {}),
        world=FIRST,
        size=SIZE,
        seeds=3,
        seed=7,
        protocols=("short", "upsampled"),
    )
    seeds = {
        name: [(o.prompt.id, o.round, o.seed) for o in report.outcomes if o.protocol == name] for name in report.rows
    }
    assert seeds["short"] == seeds["upsampled"]
    assert sorted(seed for _, _, seed in seeds["short"]) == list(range(7, 7 + 12))
    assert [seed for name, _, seed in seeds["short"] if name == prompts[1].id] == [8, 12, 16]
    assert report.rows["short"]["all prompts"].model.prompts == 4


def test_the_upsampled_protocol_gives_the_long_text_and_judges_by_the_short_one(monkeypatch) -> None:
    given = []

    class Listener(Painter):
        def request(self, prompt, **settings):
            given.append(prompt)
            return super().request(prompt, **settings)

    prompt = Prompt("a", "one object", "short", PROMPTS[0].labels, upsampled="at length", scene=PROMPTS[0].scene)
    report = score_model(
        Listener(tiny_release()), [prompt], Oracle(NAMES, {}), world=FIRST, size=SIZE, protocols=("upsampled",)
    )
    assert given == ["at length"]
    assert report.outcomes[0].right


def test_prompts_of_another_aspect_get_a_size_of_the_same_area() -> None:
    pipeline = Painter(tiny_release())
    assert size_for_aspect(pipeline, (1, 1), {"size": (128, 128)}) == (128, 128)
    assert size_for_aspect(pipeline, (7, 4), {"size": (128, 128)}) == (96, 176)
    assert size_for_aspect(pipeline, (4, 7), {"size": (128, 128)}) == (176, 96)


def test_some_prompts_are_of_all_kinds() -> None:
    kinds = [prompt.kind for prompt in pick_evenly(PROMPTS, 9)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"one object": 3, "two objects": 3, "counting": 3}
    assert pick_evenly(PROMPTS, len(PROMPTS)) == PROMPTS


def test_the_report_is_plain_and_complete(faultless: Report) -> None:
    plain = json.loads(json.dumps(faultless.to_dict(), allow_nan=False))
    assert plain["rates"]["short"].keys() == faultless.rows["short"].keys()
    assert len(plain["pictures"]) == COUNT
    assert plain["settings"]["sampler"] == "ddim"
    text = faultless.markdown()
    assert all(f"| {name} " in text for name in faultless.rows["short"])
    assert "100.0 %" in text


def test_sheets_show_the_best_first_and_the_worst_last(faultless: Report, other: Report) -> None:
    report = Report(faultless.settings, [*other.outcomes[:12], *faultless.outcomes[12:40]])
    ranked = sorted(report.outcomes, key=lambda one: one.quality, reverse=True)
    assert ranked[0].right
    assert not ranked[-1].right
    sheets = report.sheets()
    assert sheets.keys() == {"best", "median", "worst"}

    def red(page: Image.Image) -> float:
        return float((np.asarray(page) == (185, 28, 28)).all(-1).mean())

    assert red(sheets["worst"]) > 0.001 > red(sheets["best"])
