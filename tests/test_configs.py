"""The committed configs: every stage builds, and a demo fits where it is shipped."""

import importlib
from pathlib import Path

import jax
import pytest

import dalle3_jax
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.commands.config import plain
from dalle3_jax.models.build import build_models

RELEASES = Path(dalle3_jax.__file__).with_name("releases")
DEMOS = ("demo", "demo_gpu")
STAGES = ("vae", "text", "base", "decoder", "refiner")
TAUGHT = ("distill", "distill_refiner", "distill_base")


def parameters(name: str) -> int:
    """The number of parameters that a config's stages lead to."""
    config = importlib.import_module(f"configs.{name}")
    modules = {}
    for stage in STAGES:
        modules |= build_models(plain(config.get_config(stage).model))
    del modules["latent_head"]  # it teaches, and is not shipped
    assert {"decoder", "refiner"} <= modules.keys()
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(modules)))


@pytest.mark.parametrize("name", [*DEMOS, "tiny"])
def test_every_stage_builds_and_names_what_learns(name):
    config = importlib.import_module(f"configs.{name}")
    for stage in STAGES + TAUGHT:
        found = config.get_config(stage)
        assert found.train.stage == stage
        assert set(found.train.trainable) <= set(build_models(plain(found.model))) | set(found.init)


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_in_half_precision_and_the_reader_fit_the_ceiling_of_what_is_shipped(name):
    reader = sum(path.stat().st_size for path in (RELEASES / "reader").glob("*.safetensors"))
    assert 2 * parameters(name) + reader < 30e6 - 0.1e6  # headers


@pytest.mark.parametrize("name", [*DEMOS, "tiny"])
def test_an_unknown_stage_is_named(name):
    with pytest.raises(ValueError, match="captioner"):
        importlib.import_module(f"configs.{name}").get_config("captioner")
