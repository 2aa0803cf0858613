"""The section train.objective: each stage's own keywords, and what becomes of the keys that older configs had."""

import inspect
import json

import pytest
from ml_collections import ConfigDict

from configs import common, demo, tiny
from dalle3_jax.stages import objective
from dalle3_jax.stages.config import check_stage_config, check_unchanged, load_config, plain_config
from dalle3_jax.stages.table import STAGES
from dalle3_jax.stages.vae import latent_scales
from dalle3_jax.training.edit_tasks import follow_images, paint_into_masks
from dalle3_jax.training.layout_tasks import layout_to_image
from dalle3_jax.training.objectives.captioner import captioner_loss
from dalle3_jax.training.objectives.consistency import consistency_loss
from dalle3_jax.training.objectives.continuous_consistency import continuous_consistency_loss
from dalle3_jax.training.objectives.diffusion import diffusion_loss
from dalle3_jax.training.objectives.vae import vae_loss
from dalle3_jax.training.tasks import Perturbation, latent_decoder, upscale

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1

OLD = {
    "time_shift": 1.5,
    "kl_weight": 2e-6,
    "gradient_weight": 0.25,
    "crop": 64,
    "perturbation": {"noise": 0.1, "resampled": 0.0, "strength": 0.5, "steps": 2},
    "consistency": {"teacher": False, "top": 0.9, "parts": [4, 8], "guidance_scale": 2.0},
    "captioning": {"contrastive": 0.5, "caption": 3.0},
}
"""What every config of before had in its section train, whatever the stage."""
MOVED = {
    "vae": {"kl_weight": 2e-6, "gradient_weight": 0.25},
    "text": {},
    "base": {"time_shift": 1.5},
    "decoder": {"time_shift": 1.5, "crop": 64, "perturbation": OLD["perturbation"]},
    "distill": {"teacher": False, "top": 0.9, "parts": [4, 8], "crop": 64, "perturbation": OLD["perturbation"]},
    "distill_base": {},
    "captioner": {"contrastive": 0.5, "caption": 3.0},
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_defaults_of_configs_are_those_of_the_stages(stage):
    section = common.get_config(stage).train.objective
    parameters = objective.objective_parameters(STAGES[stage])
    assert {*section} == {*parameters}
    assert objective.objective_keywords(common.get_config(stage), STAGES[stage]) == {
        name: parameter.default for name, parameter in parameters.items()
    }


def test_the_defaults_of_stages_are_those_of_their_objectives():
    parts = [
        inspect.signature(part).parameters for part in (vae_loss, diffusion_loss, consistency_loss, captioner_loss)
    ]
    parts += [inspect.signature(part).parameters for part in (latent_decoder, upscale, continuous_consistency_loss)]
    parts += [inspect.signature(part).parameters for part in (paint_into_masks, layout_to_image, latent_scales)]
    renamed = {"image_dropout": inspect.signature(follow_images).parameters["dropout"]}
    for stage in STAGES.values():
        for name, parameter in objective.objective_parameters(stage).items():
            [theirs] = [part[name] for part in [*parts, renamed] if name in part]
            assert theirs.default in (parameter.default, inspect.Parameter.empty), name


def test_every_value_has_a_check():
    assert {key for stage in STAGES.values() for key in objective.objective_keys(stage)} == {*objective.OBJECTIVE_RULES}


def test_distilling_keeps_what_both_objectives_have():
    section = demo.distill().train.objective
    assert section.perturbation.noise == demo.decoder().train.objective.perturbation.noise == 0.1
    assert "time_shift" not in section
    assert section.parts == (8, 64)


@pytest.mark.parametrize("stage", MOVED)
def test_an_older_config_keeps_its_values_where_they_stand_now(stage, tmp_path):
    old = {"model": {}, "train": {"stage": stage, "steps": 3, **OLD}}
    (tmp_path / "config.json").write_text(json.dumps(old))
    config = objective.read_run_config(tmp_path / "config.json", STAGES)
    assert plain_config(config.train) == {"stage": stage, "steps": 3, "objective": MOVED[stage]}
    again = objective.upgrade_config(plain_config(config), STAGES)
    assert again == plain_config(config)
    keywords = objective.objective_keywords(config, STAGES[stage])
    assert all(isinstance(value, Perturbation) for name, value in keywords.items() if name == "perturbation")


def test_a_run_begun_with_the_older_keys_goes_on(tmp_path):
    config = plain_config(tiny.vae())
    old = config | {"train": {key: value for key, value in config["train"].items() if key != "objective"} | OLD}
    (tmp_path / "config.json").write_text(json.dumps(old))
    check_unchanged(tmp_path / "config.json", config)


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--config.train.time_shift=2.0", "config.train.time_shift is now train.objective.time_shift"),
        ("--config.train.consistency.top=0.9", "config.train.consistency.top is now train.objective.top"),
        ("--config.train.captioning.caption=1", "config.train.captioning.caption is now train.objective.caption"),
        ("--config.train.perturbation.noise=1", "is now train.objective.perturbation.noise"),
    ],
)
def test_an_older_flag_is_told_its_new_name(flag, told):
    with pytest.raises(ValueError, match=told):
        load_config(["--config=configs/tiny.py:vae", "--workdir=W", flag])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("c.train.time_shift = 1.5", "train.time_shift is now train.objective.time_shift"),
        ("c.train.consistency.top = 0.9", "train.consistency is now train.objective"),
        ("c.train.perturbation.noise = 0.9", "train.perturbation is now train.objective.perturbation"),
    ],
)
def test_an_older_config_file_is_told_the_new_name(line, told, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(f"from configs import tiny\n\ndef get_config():\n    c = tiny.base()\n    {line}\n    return c\n")
    with pytest.raises(ValueError, match=told):
        load_config([f"--config={file}", "--workdir=W"])


@pytest.mark.parametrize(
    ("stage", "section", "told"),
    [
        (
            "vae",
            {"time_shift": 2.0},
            "config.train.objective has time_shift: stage vae takes kl_weight, gradient_weight",
        ),
        ("text", {"crop": 8}, "config.train.objective has crop: stage text takes nothing there"),
        ("decoder", {"perturbation": {"nois": 1.0}}, "config.train.objective has perturbation.nois"),
        ("base", {"time_shift": 0.0}, "config.train.objective.time_shift is 0.0: it must be a number above 0"),
        ("distill", {"parts": (8, 2)}, r"config.train.objective.parts is \(8, 2\): give two whole numbers"),
        ("distill", {"perturbation": {"resampled": 2.0}}, "perturbation.resampled is 2.0: it must lie in"),
    ],
)
def test_keywords_of_another_stage_and_impossible_values_are_named(stage, section, told):
    config = tiny.get_config(stage)
    config.train.objective = ConfigDict(section)
    with pytest.raises(ValueError, match=told):
        check_stage_config(config, STAGES)


def test_a_config_of_plain_values_with_an_older_key_is_refused():
    config = ConfigDict(tiny.vae().to_dict())
    config.train.kl_weight = 1e-6
    with pytest.raises(ValueError, match=r"config.train.kl_weight is now train.objective.kl_weight"):
        check_stage_config(config, STAGES)
