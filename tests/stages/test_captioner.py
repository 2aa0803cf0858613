"""The captioner's stages end to end, what they leave behind, and all that a wrong config is told at once."""

import json
from pathlib import Path

import numpy as np
import pytest

from configs import tiny
from dalle3_jax.captioning import CaptionDecoding, CaptionModel
from dalle3_jax.checkpoints.release_record import read_record
from dalle3_jax.commands import captions as command
from dalle3_jax.commands.train import main
from dalle3_jax.data.sources.scenes import ScenesSource
from dalle3_jax.data.transforms import decode_image

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
ROOT = Path(__file__).resolve().parents[2]


def trained(workdir, stage, *settings):
    return main(["--config", str(ROOT / f"configs/tiny.py:{stage}"), "--workdir", str(workdir), *settings])


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A base captioner and one that was tuned on short captions."""
    folder = tmp_path_factory.mktemp("captioner")
    assert trained(folder, "captioner", "--config.sample.every=12") == 0
    assert trained(folder, "captioner_short") == 0
    return folder


def test_each_stage_leaves_a_release_that_captions(workdir):
    pictures = [decode_image(ScenesSource(height=32, width=32)[index].image) for index in range(3)]
    models = [CaptionModel.load(workdir / name) for name in ("captioner", "captioner_short")]
    assert models[0].digest != models[1].digest
    for model in models:
        texts = model.captions(pictures, CaptionDecoding(length=5), batch_size=2)
        assert len(texts) == 3
        assert all(text == text.strip() for text in texts)
    record = read_record(workdir / "captioner_short" / "release")
    assert record["training"]["stage"] == "captioner"
    assert record["training"]["config"]["init"] == {"captioner": "captioner"}


def test_the_loss_falls_and_a_preview_says_how_often_captions_are_found(workdir):
    lines = [json.loads(line) for line in (workdir / "captioner" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["caption"] for line in lines if "caption" in line]
    assert losses[-1] < losses[0]
    figures = [line for line in lines if "held_out/agreement" in line][-1]
    assert figures["step"] == 12
    assert 0 <= figures["held_out/agreement"] <= 1
    assert (workdir / "captioner" / "samples" / "00000012.png").exists()


def test_fine_tuning_begins_with_the_base_captioner(workdir):
    base, tuned = (CaptionModel.load(workdir / name).params for name in ("captioner", "captioner_short"))
    drift = np.abs(base["image_tower"]["patch_embedding"]["kernel"] - tuned["image_tower"]["patch_embedding"]["kernel"])
    assert 0 < drift.max() < 0.05


def test_captions_are_measured_against_labels(workdir, tmp_path, capsys):
    given = ["--captioner", f"short={workdir / 'captioner_short'}", "--count", "12", "--out", str(tmp_path)]
    assert command.main(["measure", *given]) == 0
    table = capsys.readouterr().out
    assert "captioner, short" in table
    assert "| objects named" in table
    assert "own nearest of 16" in table
    kept = json.loads((tmp_path / "captions.json").read_text())
    assert kept["measures"]["descriptive"]["wholly right"]["value"] == 1.0
    assert len(kept["captions"]["captioner, short"]) == 12
    assert (tmp_path / "captions.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--captioner", "short"], "write VERSION=PATH"),
        (["--captioner", "short=nowhere"], "nowhere"),
        (["--count", "1"], "at least two"),
        (["--method", "best"], "use greedy, top_p, beam"),
        (["--world", "mars"], "mars"),
    ],
)
def test_measuring_refuses_in_one_line(arguments, said, capsys):
    assert command.main(["measure", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_config_that_does_not_fit_is_told_everything_at_once(tmp_path, capsys):
    wrong = ["--config.data.size=(64,32)", "--config.data.text_length=9", "--config.data.dropout=0.5"]
    assert trained(tmp_path, "captioner", *wrong, "--config.model.captioner.vocab_size=100") == 2
    error = capsys.readouterr().err
    for part in ("data.size", "16 positions", "dropout must be 0", "raise vocab_size"):
        assert part in error


def test_tiny_and_demo_have_the_papers_three_stages():
    assert tiny.get_config("captioner").data.captions.to_dict() == {"alt": 1.0}
    assert tiny.get_config("captioner_short").init.captioner == "captioner"
