"""Stages of the upscaler on the tiny config: from teacher to few steps, and what is refused before anything runs."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import tiny
from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.stages.upscaler import shrink_mean
from dalle3_jax.training import sharding
from tests.stages.untrained import run_stage, write_untrained

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The upscaler and its consistency model, after two steps each."""
    folder = tmp_path_factory.mktemp("upscalers")
    write_untrained(folder)
    assert run_stage(folder, "upscaler", "--config.sample.every=2", "--config.sample.steps=2")[0] == 0
    assert run_stage(folder, "distill_upscaler")[0] == 0
    return folder


def test_a_stage_says_how_its_upscaler_is_sampled(workdir):
    first, second = (load_release(workdir / stage / "release").upscaler for stage in ("upscaler", "distill_upscaler"))
    assert first is not None
    assert second is not None
    assert (first.factor, first.kind, first.steps, first.prediction) == (2, "diffusion", 2, "x0_skip")
    assert (first.most_noise, first.latent, first.clamp, first.sampler) == (350, None, True, "ddim")
    assert (second.kind, second.steps, second.prediction, second.top) == ("consistency", 2, "x0_skip", 0.985)


def test_a_preview_compares_with_a_bicubic_filter_and_with_its_input(workdir):
    assert (workdir / "upscaler" / "samples" / "00000002.png").stat().st_size > 0
    lines = [json.loads(line) for line in (workdir / "upscaler" / "metrics.jsonl").read_text().splitlines()]
    figures = [line for line in lines if "held_out/psnr" in line][-1]
    assert figures["step"] == 2
    assert figures["held_out/bicubic_psnr"] > 15
    assert figures["held_out/consistency"] > 0


def test_a_release_of_the_stage_enlarges_by_itself(workdir):
    low = np.random.default_rng(0).uniform(-1, 1, (1, 6, 10, 3)).astype(np.float32)
    for stage in ("upscaler", "distill_upscaler"):
        upscaler = Upscaler.load(workdir / stage / "release")
        made = upscaler(low, Upscaling(2), prompts=["a panda"], seeds=[0])
        assert made.shape == (1, 12, 20, 3)
        assert np.abs(made).max() <= 1 + 1e-6


def test_a_distilled_upscaler_begins_at_its_teacher_and_leaves_it(workdir):
    stages = ("upscaler", "distill_upscaler")
    before, after = (load_release(workdir / stage / "release").params for stage in stages)
    gaps = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max()), before, after)
    assert 0 < max(jax.tree.leaves(gaps["upscaler"])) < 0.05
    assert max(jax.tree.leaves([gaps["text_encoder"], gaps["xfnet"]])) == 0


def test_an_upscaler_in_latents_has_a_loss(workdir):
    config = tiny.upscaler_latents()
    mesh = sharding.make_mesh({"data": 1})
    with jax.set_mesh(mesh):
        context = Context(config, workdir, load_stage_networks(config, workdir, mesh))
    stage = build_stage(context)
    shapes = {"images": (2, 32, 32, 3), "low_images": (2, 16, 16, 3), "sizes": (2, 6)}
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    batch |= {"ids": jax.ShapeDtypeStruct((2, 16), jnp.int32), "mask": jax.ShapeDtypeStruct((2, 16), jnp.bool_)}
    params = jax.eval_shape(context.networks.init, jax.random.key(0))
    loss, _ = jax.eval_shape(stage.loss_fn, params, context.networks.frozen_params, batch, jax.random.key(0))
    assert loss.shape == ()
    settings = stage.release(params, 0).upscaler
    assert settings is not None
    assert (settings.latent, settings.clamp) == (context.networks.latent(), False)


def test_shrinking_takes_means_of_squares():
    pixels = np.arange(24, dtype=np.uint8).reshape(1, 2, 4, 3)
    expected = pixels.reshape(1, 1, 2, 2, 2, 3).mean(axis=(2, 4)).round()
    np.testing.assert_array_equal(shrink_mean(pixels, 2), expected)


@pytest.mark.parametrize(
    ("stage", "overrides", "told"),
    [
        ("upscaler", ["--config.data.degradation.factor=3"], "data.degradation is {'factor': 3}"),
        ("upscaler", ["--config.data.crop=14"], "data.crop is 14: this upscaler trains on multiples of 4 pixels"),
        ("upscaler", ["--config.model.upscaler.in_channels=5"], "in_channels is 5, not 6"),
        ("upscaler_latents", ["--config.data.degradation.factor=4"], "in_channels is 52, not 16"),
        ("upscaler", ["--config.train.objective.most_noise=1.5"], "most_noise is 1.5"),
        ("upscaler", ["--config.train.trainable=('xfnet',)"], "upscaler would stay at random"),
        ("distill_upscaler", ["--config.init.upscaler=distill_upscaler"], "holds no upscaler of kind diffusion"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(workdir, tmp_path, stage, overrides, told):
    for part in ("vae", "base", "upscaler", "distill_upscaler"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "release").symlink_to(workdir / part / "release")
    code, text = run_stage(tmp_path, stage, *overrides)
    assert code == 2
    assert told in text
    assert text.count("\n") == 1
