"""The committed configs: every stage builds, and a demo fits where it is shipped."""

import dataclasses
import importlib
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AbstractMesh

import dalle3_jax
from dalle3_jax.checkpoints.releases import Release, save_release
from dalle3_jax.checkpoints.shapes import abstract_params
from dalle3_jax.data.scenes import WHOLE
from dalle3_jax.models.build import build_models
from dalle3_jax.models.upscaler import low_resolution_channels
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.reader import world_names
from dalle3_jax.training import sharding

RELEASES = Path(dalle3_jax.__file__).with_name("releases")
DEMOS = ("demo", "demo_gpu")
STAGES = ("vae", "layout", "base", "decoder", "refiner", "upscaler")
CAPTIONERS = ("captioner", "captioner_short", "captioner_descriptive")
TEXT = ("text", "names", "places", "recall", "drawing")
EDITS = ("inpaint", "image_prompt")
TAUGHT = ("distill", "distill_refiner", "distill_base", "distill_upscaler")


def parameters(name: str) -> int:
    """The number of parameters that a config's stages lead to."""
    config = importlib.import_module(f"configs.{name}")
    modules = {}
    for stage in ("names", "recall", "drawing", *STAGES):
        modules |= build_models(plain_config(config.get_config(stage).model))
    names = world_names(WHOLE)
    del names["styles"]
    modules |= {name: dataclasses.replace(modules[name], **names) for name in ("layout_head", "layout_encoder")}
    assert {"decoder", "refiner"} <= modules.keys()
    return sum(leaf.size for leaf in jax.tree.leaves(abstract_params(modules)))


@pytest.mark.parametrize("name", [*DEMOS, "tiny"])
def test_every_stage_builds_and_names_what_learns(name):
    config = importlib.import_module(f"configs.{name}")
    for stage in STAGES + TAUGHT + tuple(name for name in (*CAPTIONERS, *EDITS, *TEXT) if hasattr(config, name)):
        found = config.get_config(stage)
        assert stage in (found.train.stage, found.train.name)
        assert set(found.train.trainable) <= set(build_models(plain_config(found.model))) | set(found.init)


def test_own_pictures_begin_with_stages_of_their_own():
    config = importlib.import_module("configs.own_pictures")
    stages = [config.get_config(stage) for stage in ("vae", "text", "base")]
    learnt = {name: stage.train.stage for stage in stages for name in stage.model if name != "diffusion"}
    for stage in stages:
        parts = set(build_models(plain_config(stage.model))) | set(stage.init)
        assert set(stage.train.trainable) <= parts
        assert set(stage.train.rates) <= set(stage.train.trainable)
        assert all(learnt[name] == begins for name, begins in stage.init.items())


@pytest.mark.parametrize("name", DEMOS)
def test_a_demo_in_8_bits_and_the_reader_fit_the_ceiling_of_what_is_shipped(name):
    reader = sum(path.stat().st_size for path in (RELEASES / "reader").glob("*.safetensors"))
    scales_and_tables = 1.1
    assert scales_and_tables * parameters(name) + reader < 40e6


def test_the_demos_captioner_has_at_most_3_mb_in_8_bits(tmp_path):
    modules = build_models(plain_config(importlib.import_module("configs.demo").get_config("captioner").model))
    params = jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), nn.unbox(abstract_params(modules)))
    save_release(tmp_path / "captioner", Release(modules, params), "int8")
    assert sum(path.stat().st_size for path in (tmp_path / "captioner").glob("*.safetensors")) < 3e6


PODS = {
    ("paper_256", "base"): (585, 76),
    ("base_512", "base"): (945, 76),
    ("xl_1024", "base"): (2655, 76),
}
"""Millions of parameters of UNet and xfnet."""


@pytest.mark.parametrize(("name", "stage"), PODS)
def test_a_pod_s_networks_have_the_stated_sizes_and_split_evenly_over_256_devices(name, stage):
    config = importlib.import_module(f"configs.{name}").get_config(stage)
    modules = build_models(plain_config(config.model), jnp.bfloat16)
    boxed = abstract_params(modules)
    counts = {part: sum(leaf.size for leaf in jax.tree.leaves(boxed[part])) for part in boxed}
    assert tuple(round(counts[part] / 1e6) for part in ("unet", "xfnet")) == PODS[name, stage]
    assert counts["text_encoder"] == 4_762_310_656
    mesh = AbstractMesh((1, 16, 16, 1), sharding.AXES)
    layout = sharding.param_shardings(boxed, mesh)
    shards = jax.tree.map(lambda leaf, at: math.prod(at.shard_shape(leaf.shape)), nn.unbox(boxed), layout)
    # Whole on every device: biases, weights of norms, xfnet's queries. T5's 32,128 rows are split over 16 devices only.
    for part, vectors in (("unet", 1_400_000), ("xfnet", 140_000), ("text_encoder", 8_300_000)):
        held = sum(jax.tree.leaves(shards[part]))
        assert held < counts[part] / 256 + vectors, (part, held, counts[part] / 256)


def test_the_upscaler_for_pods_has_the_stated_size_and_takes_folded_images_beside_its_latents():
    config = importlib.import_module("configs.upscaler_1024").get_config()
    modules = build_models(plain_config(config.model), jnp.bfloat16)
    boxed = abstract_params(modules, ["upscaler"])["upscaler"]
    assert round(sum(leaf.size for leaf in jax.tree.leaves(boxed)) / 1e6) == 308
    beside = low_resolution_channels(config.data.degradation.factor, modules["vae"].factor)
    assert modules["upscaler"].in_channels == modules["vae"].latent_channels + beside
    assert [level.self_attend for level in modules["upscaler"].levels] == [True, False, True]


@pytest.mark.parametrize("name", ["paper_256", "base_512", "xl_1024"])
def test_buckets_fit_their_network_and_hold_about_as_many_pixels(name):
    config = importlib.import_module(f"configs.{name}")
    for stage in ("base_256", "base_512", "base"):
        try:
            found = config.get_config(stage)
        except ValueError:
            continue
        multiple = 8 * 2 ** (len(found.model.unet.levels) - 1)
        area = math.prod(found.data.size)
        for size in found.data.buckets or (found.data.size,):
            assert not any(side % multiple for side in size), size
            assert 0.85 * area <= math.prod(size) <= 1.76 * area, size


@pytest.mark.parametrize("name", [*DEMOS, "tiny"])
def test_an_unknown_stage_is_named(name):
    with pytest.raises(ValueError, match="painter"):
        importlib.import_module(f"configs.{name}").get_config("painter")
