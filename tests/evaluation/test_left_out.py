"""What cannot be measured is named in the report, and everything else is measured."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from dalle3_jax.ablations import measures
from dalle3_jax.commands.evaluate import cli
from dalle3_jax.commands.evaluate.score import build_parser
from dalle3_jax.data.scenes import FIRST
from dalle3_jax.data.scenes.lettering import Word
from dalle3_jax.data.scenes.scene import PlacedObject, Scene
from dalle3_jax.evaluation.prompts import Labels, Prompt, RequestedObject, prompt_to_json
from dalle3_jax.evaluation.report import Report
from dalle3_jax.evaluation.score import score_model
from dalle3_jax.stages import base
from tests.evaluation.painter import NAMES, PROMPTS, SIZE, Oracle, Painter
from tests.tiny import tiny_release


def scored(*prompts: Prompt, **settings) -> Report:
    """The report of a painter that draws the true scenes of the first prompts."""
    return score_model(Painter(tiny_release()), prompts, Oracle(NAMES, {}), world=FIRST, size=SIZE, **settings)


WORDED = Prompt("say", "words", "say HI", Labels(PROMPTS[0].labels.objects, words=("HI",)), scene=PROMPTS[0].scene)
SPELT = Prompt("spell", "words", 'the word "HI"', Labels(words=("HI",)))


def test_without_an_ocr_prompts_with_words_are_never_wholly_right_and_the_rest_is_measured() -> None:
    report = scored(WORDED, PROMPTS[1])
    lines = report.rows["short"]
    assert "words" not in report.outcomes[0].checks
    assert [outcome.right for outcome in report.outcomes] == [None, True]
    assert lines.keys() & {"words", "check: words"} == set()
    assert (lines["all prompts"].model.prompts, lines["check: objects"].model.prompts) == (1, 2)
    said = 'no OCR is installed, so drawn words are not measured: pip install "dalle3_jax[eval]"; 1 of 2 prompts'
    assert said in report.markdown()
    assert report.to_dict()["pictures"][0]["right"] is None


def test_the_report_says_why_words_are_not_measured() -> None:
    assert "- drawn words: too slow; 1 of 1 prompts" in scored(WORDED, no_ocr="too slow").markdown()


def test_what_cannot_be_measured_is_named_and_left_out() -> None:
    unknown = Prompt(
        "a", "one object", "a unicorn on the moon", Labels((RequestedObject("unicorn"),), background="moon")
    )
    empty = Prompt("b", "one object", "anything", Labels())
    report = scored(PROMPTS[0], unknown, empty, SPELT, left_out=["line 7: it is not JSON"])
    assert [outcome.prompt for outcome in report.outcomes] == PROMPTS[:1]
    assert report.unmeasured == [
        "line 7: it is not JSON",
        "prompt 'a': the reader of pictures does not know the concept 'unicorn', background 'moon'",
        "prompt 'b': it asks for nothing",
        "prompt 'spell': it asks only for drawn words, and there is no OCR",
    ]
    with pytest.raises(ValueError, match=r"no prompt can be measured: prompt 'a'.*'unicorn'.*'moon'; prompt 'b'"):
        scored(unknown, empty)
    with pytest.raises(ValueError, match="a suite needs at least one"):
        scored()


SHOWN = PROMPTS[0].scene or Scene("", "", (), "")


@pytest.mark.parametrize(
    ("scene", "reason"),
    [
        (replace(SHOWN, background="moon"), "moon"),
        (replace(SHOWN, style="cubist"), "cubist"),
        (replace(SHOWN, objects=(PlacedObject("unicorn", SHOWN.objects[0].cell),)), "unicorn"),
        (replace(SHOWN, objects=(replace(SHOWN.objects[0], tint="plaid"),)), "plaid"),
        (replace(SHOWN, words=(Word("HI", "top", "sign", "red", "Runes"),)), "Runes"),
        (replace(SHOWN, words=(Word("HI", "top", "sign", "plaid", "Lato"),)), "plaid"),
    ],
)
def test_a_scene_that_cannot_be_drawn_costs_its_ceiling_alone_and_is_named(scene: Scene, reason: str) -> None:
    report = scored(replace(PROMPTS[0], id="odd", scene=scene), PROMPTS[1])
    assert [outcome.right for outcome in report.outcomes] == [True, True]
    assert [truth.prompt for truth in report.truths] == [PROMPTS[1]]
    assert report.unmeasured[0].startswith("ceiling of prompt 'odd': its scene cannot be drawn: ")
    assert reason in report.unmeasured[0]
    assert report.unmeasured[1].startswith("ceilings: 1 of 2 prompts")


def test_without_ceilings_no_true_picture_is_drawn() -> None:
    report = scored(*PROMPTS[:2], ceilings=False)
    assert report.truths == []
    assert report.rows["short"]["all prompts"].ceiling is None


@pytest.fixture
def half(tmp_path: Path) -> str:
    """A suite of which the second line is no prompt."""
    file = tmp_path / "half.jsonl"
    file.write_text(f"{prompt_to_json(replace(WORDED, scene=None))}\n{json.dumps({'id': 'x'})}\n")
    return str(file)


def test_the_command_hands_on_what_is_wrong_with_lines_and_why_words_are_not_read(
    half, reader_folder, tmp_path
) -> None:
    given = ["--suite", half, "--no-words", "--reader", str(reader_folder), "--size", "32x32"]
    arguments = build_parser().parse_args([*given, "--outdir", str(tmp_path / "out")])
    evaluate, *_ = cli.prepare_scoring(arguments, [Painter(tiny_release())])
    assert isinstance(evaluate, functools.partial)
    assert evaluate.keywords["left_out"] == ["line 2: it has no kind, prompt, labels"]
    assert evaluate.keywords["no_ocr"] == "left out by --no-words"


def test_a_training_wants_a_suite_without_fault_and_no_ceilings(half) -> None:
    with pytest.raises(ValueError, match=r"config.sample.suite='.*half.jsonl': line 2: it has no kind"):
        base.suite_scorer(ConfigDict({"sample": {"suite": half, "suite_count": 6}}))
    meter = base.suite_scorer(ConfigDict({"sample": {"suite": "first", "suite_count": 6}}))
    assert isinstance(meter, functools.partial)
    assert meter.keywords["ceilings"] is False


def test_an_ablation_measures_no_ceilings(monkeypatch) -> None:
    given = {}

    def listen(*_, **settings):
        given.update(settings)
        return Report({}, [])

    monkeypatch.setattr(measures, "score_model", listen)
    monkeypatch.setattr(Report, "shares", lambda report: {})
    assert measures.prompt_shares(Painter(tiny_release()), 6, 0) == {}
    assert given["ceilings"] is False
