"""Stages that begin with public weights: a whole pipeline's, and those of a T5 and a VAE alone."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding

from configs import tiny
from dalle3_jax import convert
from dalle3_jax.checkpoints.releases import Release, load_release
from dalle3_jax.commands.train import main
from dalle3_jax.loading.open import open_release
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.stages.networks import StageNetworks, load_stage_networks
from dalle3_jax.training.sharding import make_mesh
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


def train(folder: Path, workdir: Path, *overrides: str) -> int:
    """Two steps of the config above, which is told the folder."""
    workdir.mkdir(exist_ok=True)
    (workdir / "config.py").write_text(WHOLE)
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
    assert train(sd_folder, workdir, "--config.train.learning_rate=0.01") == 0
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
    assert train(sd_folder, workdir, *words) == 2
    told = capsys.readouterr().err
    assert "differs in" in told
    for name in ("init.vae", "init_digests.vae"):
        assert f"{name}: " in told


def loaded(tmp_path: Path, **init: object) -> StageNetworks:
    """The networks of the tiny base stage with these in config.init."""
    config = tiny.base()
    del config.model["text_encoder"]
    config.init.update({name: str(where) for name, where in init.items()})
    return load_stage_networks(config, tmp_path, make_mesh({"data": -1}))


def test_a_t5_and_a_vae_of_folders_begin_a_stage(tmp_path):
    t5 = public_folders.network(tmp_path / "t5", public_folders.T5)
    vae = public_folders.network(tmp_path / "vae", public_folders.VAE | {"scaling_factor": 0.4, "shift_factor": 0.1})
    system = loaded(tmp_path, text_encoder=t5, vae=vae)
    assert set(system.modules) == {"text_encoder", "xfnet", "unet", "vae"}
    for name, folder in (("text_encoder", t5), ("vae", vae)):
        module, params = convert.load(folder)
        assert system.modules[name] == module
        jax.tree.map(np.testing.assert_array_equal, system.loaded[name], params)
        assert all(isinstance(leaf.sharding, NamedSharding) for leaf in jax.tree.leaves(system.loaded[name]))
    assert (system.latent().shift, system.latent().scale) == ((0.1,) * 4, (0.4,) * 4)
    assert len({release.digest for release in system.releases.values()} - {""}) == 2


def test_what_cannot_begin_a_stage_is_named(tmp_path):
    vae = public_folders.network(tmp_path / "vae", public_folders.VAE)
    with pytest.raises(ValueError, match=r"config.init.text_encoder: .*vae holds one network, which can be vae, not"):
        loaded(tmp_path, text_encoder=vae, vae=vae)
    with pytest.raises(ValueError, match=r"config.init.vae: .*none' is not a folder"):
        loaded(tmp_path, vae=tmp_path / "none")
    (tmp_path / "flux").mkdir()
    (tmp_path / "flux" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match=r"config.init.vae: .*names the class 'FluxPipeline'; pipelines that can be"):
        loaded(tmp_path, vae=tmp_path / "flux")
