"""Stages that begin with public weights: whole pipelines, a T5 and a VAE of folders, frozen or learning."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.commands.train import main
from dalle3_jax.opening import open_release
from dalle3_jax.pipeline import Pipeline
from tests import public_folders

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1

WHOLE = """
from configs import tiny

def get_config(folder):
    c = tiny.base()
    del c.model["text_encoder"], c.model["xfnet"], c.model["unet"]
    c.init.text_encoder = c.init.unet = c.init.vae = folder
    c.data.tokenizer = folder + "/tokenizer"
    c.data.text_length = 20
    c.train.trainable = ("unet",)
    return c
"""
PARTS = """
from configs import tiny

def get_config(folder):
    c = tiny.base()
    del c.model["text_encoder"]
    c.init.text_encoder, c.init.vae = folder + "/t5", folder + "/vae"
    c.train.trainable = ("xfnet", "unet")
    return c
"""


def train(config: str, folder: Path, workdir: Path, *overrides: str) -> int:
    """Two steps of a config in a file of its own, which is told the folder."""
    workdir.mkdir(exist_ok=True)
    (workdir / "config.py").write_text(config)
    words = ["--config", f"{workdir / 'config.py'}:{folder}", "--workdir", str(workdir), "--config.train.steps=2"]
    return main([*words, "--config.train.batch_size=8", *overrides])


def losses(workdir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (workdir / "base" / "metrics.jsonl").read_text().splitlines()]


def moved(before: Release, after: Release, part: str) -> set[bool]:
    """Whether leaves of a network differ, beyond the width that the release is stored in."""
    pairs = zip(jax.tree.leaves(before.params[part]), jax.tree.leaves(after.params[part]), strict=True)
    return {bool((np.asarray(a, np.float16) != np.asarray(b, np.float16)).any()) for a, b in pairs}


@pytest.fixture(scope="module")
def tuned(sd_folder, tmp_path_factory) -> Path:
    """The workdir of a Stable Diffusion whose UNet learnt for two steps."""
    workdir = tmp_path_factory.mktemp("tuned") / "run"
    assert train(WHOLE, sd_folder, workdir, "--config.train.learning_rate=0.01") == 0
    return workdir


def test_the_unet_of_a_pipeline_learns_and_the_rest_is_frozen(tuned, sd_folder):
    assert np.isfinite(losses(tuned)).all()
    before, after = open_release(sd_folder), load_release(tuned / "base" / "release")
    assert after.modules.keys() == {"text_encoder", "unet", "vae"}
    assert after.modules["text_encoder"] == before.modules["text_encoder"]
    assert True in moved(before, after, "unet")
    for part in ("text_encoder", "vae"):
        assert moved(before, after, part) == {False}
    assert after.latent.scale == before.latent.scale


def test_what_was_learnt_makes_pictures(tuned):
    [picture] = Pipeline.load(tuned)("a cat", steps=2, size=(16, 16))
    assert picture.image.size == (16, 16)


def test_a_run_does_not_go_on_with_other_public_weights(tuned, sd_folder, tmp_path, capsys):
    workdir = Path(shutil.copytree(tuned, tmp_path / "run"))
    other = Path(shutil.copytree(sd_folder, tmp_path / "sd"))
    shutil.rmtree(other / "vae")
    public_folders.network(other / "vae", public_folders.VAE, seed=9)
    words = [f"--config.init.{part}={other}" for part in ("text_encoder", "unet", "vae")]
    assert train(WHOLE, sd_folder, workdir, *words) == 2
    told = capsys.readouterr().err
    assert "differs in" in told
    for name in ("init.vae", "init_digests.vae"):
        assert f"{name}: " in told


def test_a_t5_and_a_vae_of_folders_are_frozen_beside_networks_that_learn(tmp_path):
    t5 = public_folders.network(tmp_path / "t5", public_folders.T5)
    vae = public_folders.network(tmp_path / "vae", public_folders.VAE | {"scaling_factor": 0.4, "shift_factor": 0.1})
    assert train(PARTS, tmp_path, tmp_path / "run") == 0
    assert np.isfinite(losses(tmp_path / "run")).all()
    after = load_release(tmp_path / "run" / "base" / "release")
    assert after.modules.keys() == {"text_encoder", "xfnet", "unet", "vae"}
    for part, folder in (("text_encoder", t5), ("vae", vae)):
        assert moved(open_release(folder), after, part) == {False}
    assert (after.latent.shift, after.latent.scale) == ((0.1,) * 4, (0.4,) * 4)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("--config.init.text_encoder={folder}/vae", "vae holds one network, which can be vae, not text_encoder"),
        ("--config.init.vae={folder}/none", "none' is not a folder"),
        ("--config.init.vae={folder}/sdxl", "sdxl names the class None; pipelines that can be read"),
    ],
)
def test_what_cannot_begin_a_stage_is_named(tmp_path, capsys, override, told):
    public_folders.network(tmp_path / "t5", public_folders.T5)
    public_folders.network(tmp_path / "vae", public_folders.VAE)
    (tmp_path / "sdxl").mkdir()
    (tmp_path / "sdxl" / "model_index.json").write_text("{}")
    assert train(PARTS, tmp_path, tmp_path / "run", override.format(folder=tmp_path)) == 2
    error = capsys.readouterr().err
    assert override.partition("=")[0].removeprefix("--") in error
    assert told in error
    assert error.count("\n") == 1
