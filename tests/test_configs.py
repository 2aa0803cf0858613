"""The committed configs: every stage builds, and a demo fits where it is shipped."""

import importlib

import jax
import pytest

from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.commands.config import plain
from dalle3_jax.models.build import build_models

DEMOS = ("demo", "demo_gpu")
STAGES = ("vae", "text", "base")


def parameters(name: str) -> int:
    """The number of parameters that a config's stages lead to."""
    config = importlib.import_module(f"configs.{name}")
    modules = {}
    for stage in STAGES:
        modules |= build_models(plain(config.get_config(stage).model))
    del modules["latent_head"]  # it teaches, and is not shipped
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(modules)))


@pytest.mark.parametrize("name", [*DEMOS, "tiny"])
def test_every_stage_builds_and_names_what_learns(name):
    config = importlib.import_module(f"configs.{name}")
    for stage in STAGES:
        found = config.get_config(stage)
        assert found.train.stage == stage
        assert set(found.train.trainable) <= set(build_models(plain(found.model))) | set(found.init)


def test_the_shipped_demo_leaves_room_for_later_parts():
    assert 2 * parameters("demo") < 20e6


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_in_half_precision_fits_the_ceiling_of_releases(name):
    assert 2 * parameters(name) < 30e6 - 0.5e6


@pytest.mark.parametrize("name", [*DEMOS, "tiny"])
def test_an_unknown_stage_is_named(name):
    with pytest.raises(ValueError, match="captioner"):
        importlib.import_module(f"configs.{name}").get_config("captioner")
