"""The inpainting stage on the tiny config: it begins as the base model, learns, and is sampled as public ones are."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny
from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.models.build import build_models
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import add_unet_inputs, load_stage_networks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.training import sharding
from tests.networks import apply, condition
from tests.stages.untrained import run_stage, write_untrained
from tests.tiny import randomised

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1

FOLDED = {
    "levels": ({"channels": 8, "blocks": 1, "depth": 1, "heads": 2},),
    "out_channels": 3,
    "patch": 2,
    "groups": 4,
    "context_width": 6,
    "vector_width": 3,
}


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage after two steps, with a preview."""
    folder = tmp_path_factory.mktemp("inpaint")
    write_untrained(folder)
    code, text = run_stage(folder, "inpaint", "--config.sample.every=2")
    assert code == 0, text
    return folder


@pytest.fixture(scope="module")
def context(workdir: Path) -> Context:
    config, mesh = tiny.inpaint(), sharding.make_mesh({"data": 1}, jax.devices()[:1])
    with jax.set_mesh(mesh):
        return Context(config, workdir, load_stage_networks(config, workdir, mesh))


def batch_of(context: Context, rows: int = 8) -> dict[str, jax.Array]:
    """Smooth images and one caption."""
    ids, mask = context.tokenizer(["a panda on a beach"] * rows, 16)
    corner = jnp.linspace(-1, 1, 32)
    images = jnp.stack([jnp.sin(i + 2 * corner[:, None] + corner[None]) for i in range(rows)])
    return {"images": jnp.repeat(images[..., None], 3, axis=-1), "ids": jnp.asarray(ids), "mask": jnp.asarray(mask)}


def test_before_training_the_output_is_the_bases_whatever_it_is_shown(context):
    networks, weights = context.networks, context.networks.loaded
    base = load_release(context.workdir / "base" / "release")
    rng = np.random.default_rng(0)
    x, beside = (jax.device_put(np.float32(rng.normal(size=(2, 4, 4, n)))) for n in (4, 5))
    ids, mask = context.tokenizer(["a panda", "an owl"], 16)
    t = jnp.asarray([300.0, 800.0])

    @jax.jit
    def outputs(weights, narrow, x, beside, ids, mask):
        condition = networks.encode_text(weights, {"ids": ids, "mask": mask})
        wide = networks.unet(weights["unet"], jnp.concatenate([x, beside], axis=-1), t, condition, None)
        return wide, base.modules["unet"].apply({"params": narrow}, x, t, condition)

    wide, narrow = outputs(weights, base.params["unet"], x, beside, jnp.asarray(ids), jnp.asarray(mask))
    np.testing.assert_allclose(wide, narrow, atol=1e-6)
    assert float(jnp.abs(wide).max()) > 0.1


def test_channels_are_added_to_every_pixel_of_a_folded_cell():
    modules = build_models({"unet": {**FOLDED, "in_channels": 3}})
    params = jax.device_put(randomised(modules["unet"], modules, 0))
    rng = np.random.default_rng(0)
    wide = build_models({"unet": {**FOLDED, "in_channels": 7}})["unet"]
    x, beside = (jax.device_put(np.float32(rng.normal(size=(1, 4, 4, n)))) for n in (3, 4))
    rest = jnp.ones(1), condition(1, 5, 6, 3)
    before = apply(modules["unet"], params, x, *rest)
    both = jnp.concatenate([x, beside], axis=-1)
    after = apply(wide, add_unet_inputs(wide, params, jnp.float32), both, *rest)
    np.testing.assert_allclose(after, before, atol=1e-6)


def test_a_few_steps_lower_the_loss(context):
    stage, frozen, batch = build_stage(context), context.networks.frozen_params, batch_of(context)
    adam = optax.adam(3e-3)

    def loss(params, seed):
        return stage.loss_fn(params, frozen, batch, jax.random.key(seed))[0]

    @jax.jit
    def step(params, state, seed):
        value, gradient = jax.value_and_grad(loss)(params, seed)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    params = {"unet": context.networks.loaded["unet"]}
    state, values = adam.init(params), []
    for seed in range(60):
        params, state, value = step(params, state, seed)
        values.append(float(value))
    assert np.mean(values[-10:]) < 0.8 * np.mean(values[:10])
    further = np.asarray(params["unet"]["conv_in"]["kernel"])[:, :, 4:]
    assert (np.abs(further).max(axis=(0, 1, 3)) > 0).all()  # it reads all that it is shown


def test_a_release_is_sampled_like_a_public_one_of_nine_channels(workdir):
    pipeline = Pipeline.load(workdir / "inpaint")
    assert pipeline.system.needs_mask
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[8:20, 4:30] = 255
    [made] = pipeline.edit(pixels, "a panda", mask=mask, feather=0)
    changed = (np.asarray(made.image) != pixels).any(axis=-1)
    assert not changed[mask == 0].any()
    assert changed[mask > 0].mean() > 0.9
    with pytest.raises(ValueError, match="paints into masks alone"):
        pipeline("a panda")


def test_a_preview_shows_every_prompt(workdir):
    assert (workdir / "inpaint" / "samples" / "00000002.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["--config.model.unet.in_channels=8"], "config.model.unet differs from the network in"),
        (["--config.data.latents=8"], "keep no images, which this stage looks at"),
        (["--config.train.objective.whole=1.5"], "whole is 1.5"),
        (["--config.train.trainable=('unet','xfnet')"], "this stage trains unet alone"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(workdir, tmp_path, overrides, error):
    for part in ("vae", "base"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "release").symlink_to(workdir / part / "release")
    code, text = run_stage(tmp_path, "inpaint", *overrides)
    assert code == 2
    assert error in text
    assert text.count("\n") == 1
