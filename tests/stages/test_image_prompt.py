"""The stage of the image prompt on the tiny config: what learns, what a release makes, what is refused."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import tiny
from dalle3_jax.checkpoints.releases import Release, load_release, save_release
from dalle3_jax.models.build import build_models
from dalle3_jax.models.captioner import Captioner
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.stages.config import plain_config
from dalle3_jax.stages.context import Context
from dalle3_jax.stages.networks import load_stage_networks
from dalle3_jax.stages.table import build_stage
from dalle3_jax.training import sharding
from tests.stages.untrained import run_stage, write_untrained
from tests.tiny import randomised

pytestmark = pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # by ml_collections 1.1


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage after two steps, with a preview, beside a base and a captioner of random weights."""
    folder = tmp_path_factory.mktemp("image_prompt")
    write_untrained(folder)
    modules = build_models({"captioner": plain_config(tiny.captioner().model)["captioner"]})
    params = {"captioner": randomised(modules["captioner"], modules, 5)}
    save_release(folder / "captioner" / "release", Release(modules, params, tokenizer="{}"))
    code, text = run_stage(folder, "image_prompt", "--config.sample.every=2")
    assert code == 0, text
    return folder


@pytest.fixture(scope="module")
def context(workdir: Path) -> Context:
    config, mesh = tiny.image_prompt(), sharding.make_mesh({"data": 1}, jax.devices()[:1])
    with jax.set_mesh(mesh):
        return Context(config, workdir, load_stage_networks(config, workdir, mesh))


def batch_of(context: Context, rows: int = 8) -> dict[str, jax.Array]:
    """Images of one colour each, and one caption: only the image tells what to draw."""
    ids, mask = context.tokenizer(["a panda"] * rows, 16)
    colours = np.random.default_rng(0).choice([-1.0, 1.0], (rows, 1, 1, 3)).astype(np.float32)
    return {
        "images": jnp.asarray(colours.repeat(32, 1).repeat(32, 2)),
        "ids": jnp.asarray(ids),
        "mask": jnp.asarray(mask),
    }


def test_it_learns_to_follow_images_and_nothing_else_learns(context):
    stage, frozen, batch = build_stage(context), context.networks.frozen_params, batch_of(context)
    adam = optax.adam(1e-2)
    params = jax.jit(context.networks.init)(jax.random.key(0))
    assert params.keys() == {"image_prompt"}

    @jax.jit
    def step(params, state, seed):
        value, gradient = jax.value_and_grad(lambda p: stage.loss_fn(p, frozen, batch, jax.random.key(seed))[0])(params)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state, values = adam.init(params), []
    for seed in range(60):
        params, state, value = step(params, state, seed)
        values.append(float(value))
    assert np.mean(values[-10:]) < 0.95 * np.mean(values[:10])


def test_a_release_follows_an_image_as_far_as_the_scale_says(workdir):
    release = load_release(workdir / "image_prompt" / "release")
    assert {"captioner", "image_prompt"} <= release.modules.keys()
    # Two steps hardly move it: as if it had learnt.
    prompt = randomised(release.modules["image_prompt"], release.modules, 7)
    pipeline = Pipeline(Release(**{**vars(release), "params": {**release.params, "image_prompt": prompt}}))
    image = np.random.default_rng(0).integers(0, 256, (40, 24, 3), np.uint8)

    def draw(**settings) -> np.ndarray:
        [made] = pipeline("a panda", upsample="none", batch_size=1, seed=3, **settings)
        return np.asarray(made.image)

    plain, prompted = draw(), draw(image_prompt=image)
    np.testing.assert_array_equal(draw(image_prompt=image, image_prompt_scale=0), plain)
    assert (prompted != plain).mean() > 0.2
    [varied] = pipeline.variations(image, by="image", n=1, seed=3, batch_size=1)
    assert varied.metadata["prompt"] == ""
    assert (np.asarray(varied.image) != prompted).any()
    assert varied.metadata["image_prompt"] == pipeline.request("", image_prompt=image).edit.prompt_image.sha256


def test_a_captioner_sees_all_of_an_image_of_any_size(context):
    from dalle3_jax.stages.image_prompt import see_images

    captioner, weights = context.networks.modules["captioner"], context.networks.loaded
    assert isinstance(captioner, Captioner)
    see = jax.jit(lambda images: see_images(context.networks, weights, images))
    image, changed = (np.full((1, 32, width, 3), 0.5, np.float32) for width in (32, 64))
    wide = see(changed.copy())
    np.testing.assert_allclose(wide, see(image), atol=1e-5)
    changed[:, :, :4] = -1.0
    assert np.abs(see(changed) - wide).max() > 1e-3


def test_a_preview_shows_every_prompt(workdir):
    assert (workdir / "image_prompt" / "samples" / "00000002.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("overrides", "error"),
    [
        (["--config.data.latents=8"], "keep no images, which this stage looks at"),
        (["--config.train.objective.image_dropout=2"], "image_dropout is 2"),
        (["--config.train.trainable=('image_prompt','unet')"], "this stage trains image_prompt alone"),
        (["--config.init.captioner=base"], "config.init.captioner"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(workdir, tmp_path, overrides, error):
    for part in ("vae", "base", "captioner"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "release").symlink_to(workdir / part / "release")
    code, text = run_stage(tmp_path, "image_prompt", *overrides)
    assert code == 2
    assert error in text
    assert text.count("\n") == 1
