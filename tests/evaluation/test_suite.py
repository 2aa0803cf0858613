"""The score of models whose answers are known: one that is always right, and one that draws other prompts' scenes."""

import json
from collections.abc import Sequence

import numpy as np
import pytest
from flax import linen as nn
from PIL import Image

from dalle3_jax.data.scenes import FIRST, labels, render
from dalle3_jax.evaluation.checks import CHECKS
from dalle3_jax.evaluation.comparison import Comparison
from dalle3_jax.evaluation.detector import Reader, Reading, truth
from dalle3_jax.evaluation.prompts import Labels, Prompt, Wanted
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.suite import reconstructions, score, size_of
from dalle3_jax.evaluation.suites import drawn, some
from dalle3_jax.models.scene_reader import SceneReader
from dalle3_jax.pictures import Picture, Request
from dalle3_jax.pipeline import Pipeline
from tests.tiny import tiny_release

SIZE, COUNT = (64, 64), 45
NAMES = SceneReader(
    concepts=tuple(concept.name for concept in FIRST.concepts),
    tints=("natural",),
    styles=("3d",),
    backgrounds=tuple(background.name for background in FIRST.backgrounds),
)
PROMPTS = drawn(FIRST, COUNT)


class Mirror(nn.Module):
    """A VAE that changes nothing."""

    def encode(self, images):
        return images, None

    def decode(self, latents):
        return latents


class Oracle(Reader):
    """Knows the true pictures of prompts, and sees nothing in any other."""

    def read(self, images):
        known = {
            render(FIRST, prompt.scene, *SIZE).tobytes(): truth(labels(FIRST, prompt.scene, *SIZE), *SIZE)
            for prompt in PROMPTS
        }
        return [known.get(image.tobytes(), Reading("beach", "3d", ())) for image in np.asarray(images)]


class Painter(Pipeline):
    """Draws the true scene of the prompt that stands `shift` places further on."""

    shift = 0

    def generate(self, requests: Sequence[Request], **_):
        for index, request in enumerate(requests):
            shown = PROMPTS[(index + self.shift) % len(PROMPTS)]
            yield index, Picture(Image.fromarray(render(FIRST, shown.scene, *request.size)), request, "", 1)


def painted(shift: int, **settings) -> Report:
    painter = Painter(tiny_release())
    painter.shift = shift
    return score(painter, PROMPTS, Oracle(NAMES, {}), world=FIRST, size=SIZE, **settings)


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


def test_shuffled_prompts_score_what_ignoring_them_does(faultless: Report) -> None:
    for name, row in faultless.rows["short"].items():
        assert row.shuffled.value < (0.6 if name == "check: relations" else 0.3), name


def test_a_painter_of_other_prompts_scores_about_as_shuffled(other: Report) -> None:
    lines = other.rows["short"]
    assert lines["all prompts"].model.value < 0.1
    assert lines["check: background"].model.value < 0.4
    assert lines["all prompts"].ceiling == 1.0


def test_the_ceiling_of_a_bad_vae_is_seen(faultless: Report) -> None:
    """The tiny system's VAE is random: nothing is read in its copies, and their PSNR says why."""
    assert faultless.rows["short"]["all prompts"].copies == 0.0
    assert faultless.psnr is not None
    assert faultless.psnr < 15


def test_a_vae_that_changes_nothing_has_no_ceiling() -> None:
    shown = np.stack([render(FIRST, prompt.scene, *SIZE) for prompt in PROMPTS[:11]])
    assert (reconstructions(Mirror(), {}, shown) == shown).all()


def test_every_round_and_protocol_has_its_own_pictures_and_protocols_share_noise() -> None:
    prompts = [Prompt(p.id, p.kind, p.text, p.labels, upsampled="longer: " + p.text) for p in PROMPTS[:4]]
    report = score(
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
    report = score(
        Listener(tiny_release()), [prompt], Oracle(NAMES, {}), world=FIRST, size=SIZE, protocols=("upsampled",)
    )
    assert given == ["at length"]
    assert report.outcomes[0].right


def test_words_without_an_ocr_are_named_as_not_measured_and_the_rest_is_measured() -> None:
    wanted = Labels(PROMPTS[0].labels.objects, words=("HELLO",))
    prompt = Prompt("a", "words", "say HELLO", wanted, scene=PROMPTS[0].scene)
    report = score(Painter(tiny_release()), [prompt], Oracle(NAMES, {}), world=FIRST, size=SIZE)
    assert "words" not in report.outcomes[0].checks
    assert report.outcomes[0].checks["objects"]
    assert any("no OCR is installed" in line for line in report.unmeasured)
    assert "no OCR is installed" in report.markdown()


def test_what_the_reader_does_not_know_is_refused_by_name() -> None:
    prompt = Prompt("a", "one object", "a unicorn on the moon", Labels((Wanted("unicorn"),), background="moon"))
    with pytest.raises(ValueError, match=r"'unicorn'.*'moon'"):
        score(Painter(tiny_release()), [prompt], Oracle(NAMES, {}), world=FIRST, size=SIZE)


def test_prompts_of_another_aspect_get_a_size_of_the_same_area() -> None:
    pipeline = Painter(tiny_release())
    assert size_of(pipeline, (1, 1), {"size": (128, 128)}) == (128, 128)
    assert size_of(pipeline, (7, 4), {"size": (128, 128)}) == (96, 176)
    assert size_of(pipeline, (4, 7), {"size": (128, 128)}) == (176, 96)


def test_some_prompts_are_of_all_kinds() -> None:
    kinds = [prompt.kind for prompt in some(PROMPTS, 9)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"one object": 3, "two objects": 3, "counting": 3}
    assert some(PROMPTS, len(PROMPTS)) == PROMPTS


def test_the_report_is_plain_and_complete(faultless: Report) -> None:
    plain = json.loads(json.dumps(faultless.plain(), allow_nan=False))
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


def test_a_comparison_is_of_pairs_and_says_who_is_better(faultless: Report, other: Report) -> None:
    compared = Comparison(("bad", "good"), other, faultless)
    first, second, gap = compared.differences()["all prompts"]
    assert (second, gap.value) == (1.0, 1.0 - first)
    assert gap.low > 0.9
    same = Comparison(("good", "again"), faultless, faultless).differences()["all prompts"][2]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert compared.sheet() is not None
    assert Comparison(("good", "again"), faultless, faultless).sheet() is None
    assert "| * " in compared.markdown()
    json.dumps(compared.plain(), allow_nan=False)
    with pytest.raises(ValueError, match="same prompts"):
        Comparison(("good", "less"), faultless, Report(faultless.settings, faultless.outcomes[:4]))


def test_every_check_has_a_line_in_the_table_when_it_is_asked_for() -> None:
    assert set(CHECKS) >= {"objects", "counts", "tints", "places", "relations", "background", "style", "words"}
