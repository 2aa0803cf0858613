"""What a model that a stage begins with says of its sampling: what the stage's release keeps of it."""

import dataclasses
from pathlib import Path

import jax
import pytest
from ml_collections import ConfigDict

from configs import tiny
from dalle3_jax.checkpoints.releases import Release, load_release, save_release
from dalle3_jax.loading.open import open_release
from dalle3_jax.models.build import build_models
from dalle3_jax.pipeline.specs import PipelineSpec
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.training import sharding
from tests.stages.untrained import write_untrained
from tests.tiny import randomised

KEPT = {
    "spacing": {"kind": "leading", "offset": 1, "clean": False},
    "clipping": {"bound": 2.0, "quantile": 0.9},
    "guidance_rescale_of": "eps",
}
"""As `loading.stable_diffusion` has them of public folders."""


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model with settings of sampling of its own, its VAE, and a captioner, all of random weights."""
    folder = tmp_path_factory.mktemp("kept")
    write_untrained(folder)
    base = load_release(folder / "base" / "release")
    text = {**base.text, "zero_null": True}
    save_release(folder / "base" / "release", dataclasses.replace(base, diffusion=base.diffusion | KEPT, text=text))
    modules = build_models({"captioner": plain_config(tiny.captioner().model)["captioner"]})
    params = {"captioner": randomised(modules["captioner"], modules, 5)}
    save_release(folder / "captioner" / "release", Release(modules, params, tokenizer="{}"))
    return folder


def release_of(config: ConfigDict, workdir: Path) -> Release:
    """The release of a stage before its first step."""
    mesh = sharding.make_mesh({"data": 1}, jax.devices()[:1])
    with jax.set_mesh(mesh):
        networks = load_stage_networks(config, workdir, mesh)
        fresh = {name: networks.loaded.get(name, {}) for name in networks.trainable}
        return build_stage(Context(config, workdir, networks)).release(fresh, 0)


def further_base(unet: str) -> ConfigDict:
    """The base stage that goes on with a UNet."""
    config = tiny.base()
    del config.model["text_encoder"], config.model["xfnet"], config.model["unet"]
    config.init.text_encoder = config.init.xfnet = config.init.unet = unet
    config.train.trainable = ("unet",)
    return config


@pytest.mark.parametrize("stage", ["base", "inpaint", "image_prompt"])
def test_a_stage_that_begins_with_a_model_samples_as_that_one(workdir, stage):
    release = release_of(further_base("base") if stage == "base" else getattr(tiny, stage)(), workdir)
    before = load_release(workdir / "base" / "release")
    assert before.diffusion.keys() >= KEPT.keys()
    assert release.diffusion == before.diffusion
    assert release.text["zero_null"]
    spec, other = PipelineSpec.from_release(release), PipelineSpec.from_release(before)
    assert (spec.spacing, spec.clipping, spec.rescaled) == (other.spacing, other.clipping, other.rescaled)


def test_few_steps_have_times_of_their_own(workdir):
    diffusion = release_of(tiny.distill_base(), workdir).diffusion
    assert {name: diffusion.get(name) for name in KEPT} == KEPT | {"spacing": None}
    before = load_release(workdir / "base" / "release").diffusion
    assert [diffusion[name] for name in ("schedule", "prediction")] == [before["schedule"], before["prediction"]]


@pytest.mark.parametrize("change", ["schedule", "prediction"])
def test_a_base_of_another_process_samples_by_its_own(workdir, change):
    config = further_base("base")
    if change == "schedule":
        config.model.diffusion.schedule = {"name": "cosine", "s": 0.02}
    else:
        config.model.diffusion.prediction = "eps"
    own = plain_config(config.model.diffusion)
    assert release_of(config, workdir).diffusion == {key: own[key] for key in ("schedule", "prediction")}


def test_a_base_goes_on_as_public_weights_began(sd_folder, tmp_path):
    public = open_release(sd_folder)
    assert public.diffusion.keys() >= {"spacing", "guidance_rescale_of"}
    config = further_base(str(sd_folder))
    del config.init["xfnet"]
    config.init.vae = str(sd_folder)
    config.data.tokenizer, config.data.text_length = f"{sd_folder}/tokenizer", 20
    config.model.diffusion.schedule = public.diffusion["schedule"]
    config.model.diffusion.prediction = public.diffusion["prediction"]
    assert release_of(config, tmp_path).diffusion == public.diffusion
