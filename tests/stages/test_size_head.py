"""The stage `size_head` end to end: it learns, leaves a head that `sample` takes, and refuses what cannot teach it."""

import json
from pathlib import Path

import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release, weights_digest
from dalle3_jax.commands.train import main
from dalle3_jax.loading.locate import DEMO
from dalle3_jax.stages.size_head import size_scores

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")
CONFIG = Path(__file__).resolve().parents[2] / "configs/demo.py:size_head"
FRAMES = "((32, 32), (24, 40), (40, 24))"


def trained(workdir, *settings, frames=FRAMES, buckets=FRAMES):
    small = [f"--config.data.frames={frames}", f"--config.model.size_head.buckets={buckets}", "--config.train.warmup=5"]
    small += ["--config.train.steps=60", "--config.train.batch_size=16", "--config.sample.every=60"]
    return main(
        ["--config", str(CONFIG), "--workdir", str(workdir), f"--config.init.text_encoder={DEMO}", *small, *settings]
    )


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("size_head")
    assert trained(folder) == 0
    return folder / "size_head"


def test_it_learns_more_than_the_commonest_size_and_than_captions_of_others(stage):
    lines = [json.loads(line) for line in (stage / "metrics.jsonl").read_text().splitlines()]
    found = [line for line in lines if "held_out/right" in line][-1]
    assert found["step"] == 60
    assert found["held_out/right"] > max(found["held_out/commonest"], found["held_out/shuffled"]) + 0.1
    assert (stage / "samples" / "00000060.png").exists()


def test_its_release_is_the_head_and_names_the_encoder_that_it_reads(stage):
    release = load_release(stage / "release")
    encoder = load_release(DEMO, ["text_encoder"]).params["text_encoder"]
    assert [*release.params] == ["size_head"]
    assert release.text == {"length": 40, "encoder": weights_digest(encoder)}
    assert release.modules["size_head"].buckets == ((32, 32), (24, 40), (40, 24))


def test_a_config_that_cannot_teach_it_is_told_everything_at_once(tmp_path, capsys):
    wrong = ["--config.data.latents=8", "--config.model.size_head.width=64"]
    assert trained(tmp_path, *wrong, frames="()", buckets="((32, 32),)") == 2
    error = capsys.readouterr().err
    for part in ("fewer than two sizes", "width is 64, the text encoder's 128", "set data.frames", "not latents"):
        assert part in error


def test_scores_are_shares_of_the_records():
    chances = np.eye(3)[[0, 1, 1, 2]]
    assert size_scores(chances, np.array([2, 1, 2, 2])) == {"right": 0.5, "shuffled": 0.25, "commonest": 0.75}
