"""The upscaler: any size, seeds and batches, passes, windows against the whole, and what is refused."""

import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release, save_release
from dalle3_jax.checkpoints.upscaler_settings import UpscalerSettings
from dalle3_jax.pipeline.request import Upscaling
from dalle3_jax.pipeline.upscaler import Upscaler
from tests.pipeline.test_pipeline import counted_compilations
from tests.tiny import tiny_upscaler

TWICE = Upscaling(2)
RNG = np.random.default_rng(0)
LOW = RNG.uniform(-1, 1, (2, 12, 20, 3)).astype(np.float32)
PROMPTS, SEEDS = ["a cat", "the dog"], [3, 4]


@pytest.fixture(scope="module")
def upscaler() -> Upscaler:
    return Upscaler(tiny_upscaler())


@pytest.fixture(scope="module")
def images(upscaler) -> np.ndarray:
    return enlarge(upscaler)


def enlarge(upscaler, low=LOW, how=TWICE, prompts=PROMPTS, seeds=SEEDS, **more) -> np.ndarray:
    return np.asarray(upscaler(low, how, prompts=prompts, seeds=seeds, **more))


def test_an_image_depends_on_its_own_pixels_prompt_and_seed_alone(upscaler, images):
    assert images.shape == (2, 24, 40, 3)
    swapped = enlarge(upscaler, LOW[::-1], prompts=PROMPTS[::-1], seeds=SEEDS[::-1])
    np.testing.assert_allclose(swapped[::-1], images, atol=1e-5)
    np.testing.assert_array_equal(enlarge(upscaler), images)


@pytest.mark.parametrize(
    "change",
    [
        {"low": np.clip(LOW + 0.3, -1, 1)},
        {"seeds": [5, 6]},
        {"prompts": ["two foxes", "a hat"]},
        {"negative_prompts": ["snow", "rain"]},
        {"how": Upscaling(2, noise_level=300)},
        {"how": Upscaling(2, guidance_scale=5.0)},
    ],
    ids=["low", "seeds", "prompts", "negative_prompts", "noise_level", "guidance_scale"],
)
def test_every_input_matters(upscaler, images, change):
    assert abs(enlarge(upscaler, **change) - images).max(axis=(1, 2, 3)).min() > 1e-3


def test_progress_tells_the_steps_done_and_in_all(upscaler, images):
    steps = []
    np.testing.assert_array_equal(enlarge(upscaler, progress=lambda *done: steps.append(done)), images)
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_no_number_of_steps_compiles_but_its_times(upscaler, images):
    with counted_compilations() as compiled:
        made = [enlarge(upscaler, how=Upscaling(2, steps=steps)) for steps in (1, 2, 19)]
    assert set(compiled) == {"jit(_compute_loop_inputs)"}  # at least for 19, which no other test asks for
    assert min(abs(a - b).max() for a, b in itertools.combinations([images, *made], 2)) > 1e-3


def test_four_times_is_twice_twice_with_other_noise(upscaler, images):
    whole = enlarge(upscaler, how=Upscaling(4))
    assert whole.shape == (2, 48, 80, 3)
    again = enlarge(upscaler, images)
    assert abs(whole - again).max() > 1e-3  # the second pass has noise of its own
    assert upscaler.factors == (2, 4)


def test_any_size_is_enlarged_as_if_its_last_pixels_went_on(upscaler, images):
    """The network folds 4 x 4 pixels, so that odd sides get a margin, which is cut off again."""
    made = enlarge(upscaler, LOW[:, :11, :19])
    assert made.shape == (2, 22, 38, 3)
    padded = np.pad(LOW[:, :11, :19], ((0, 0), (0, 1), (0, 1), (0, 0)), mode="edge")
    np.testing.assert_array_equal(made, enlarge(upscaler, padded)[:, :22, :38])


def test_windows_make_what_the_whole_makes(upscaler):
    """The network looks 12 of its folded cells, 48 pixels, around each pixel: less than a halo, an eighth of a window.

    It has neither statistics nor attention over space; and without guidance there is no null condition.
    """
    low = RNG.uniform(-1, 1, (2, 4, 330, 3)).astype(np.float32)
    whole = enlarge(upscaler, low, Upscaling(2, guidance_scale=1.0))
    tiled = enlarge(upscaler, low, Upscaling(2, guidance_scale=1.0, tile=400), negative_prompts=["snow", "rain"])
    np.testing.assert_allclose(tiled, whole, atol=1e-4)
    assert whole.std() > 0.1


def test_a_release_keeps_its_upscaler(tmp_path, upscaler, images):
    save_release(tmp_path / "release", tiny_upscaler(), "float32")
    loaded = load_release(tmp_path / "release")
    assert loaded.upscaler == tiny_upscaler().upscaler
    assert load_release(tmp_path / "release", ["text_encoder"]).upscaler is None
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded.params, dict(tiny_upscaler().params)))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (Upscaling(3), "upscale 3 must be 2 or 4"),
        (Upscaling(0), "upscale 0 must be 2 or 4"),
        (Upscaling(2, steps=-1), "upscale steps -1"),
        (Upscaling(2, noise_level=351), "noise level 351 must be a whole number from 0 to 350"),
        (Upscaling(2, noise_level=-1), "noise level -1"),
        (Upscaling(2, guidance_scale=float("nan")), "guidance scale nan"),
        (Upscaling(2, tile=28), "upscale tile 28 must be a multiple of 4 pixels from 32 on"),
        (Upscaling(2, tile=66), "upscale tile 66"),
    ],
)
def test_what_cannot_be_done_is_named_before_anything_runs(upscaler, how, told):
    assert any(told in error for error in upscaler.errors(how))
    with pytest.raises(ValueError, match=re.escape(told)):
        enlarge(upscaler, how=how)


def test_all_that_is_wrong_is_named_at_once(upscaler):
    assert len(upscaler.errors(Upscaling(3, -1, 999, -1.0, 3))) == 5
    assert upscaler.errors(Upscaling(2, 7, 350, 1.0, 64)) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"upscaler": None}, "train the stage upscaler"),
        ({"tokenizer": ""}, "lacks its tokenizer"),
    ],
)
def test_a_release_that_lacks_a_part_says_so(change, told):
    with pytest.raises(ValueError, match=told):
        Upscaler(dataclasses.replace(tiny_upscaler(), **change))


def test_settings_that_no_sampler_could_follow_are_named_at_once():
    with pytest.raises(ValueError, match="factor 3") as error:
        UpscalerSettings(3, kind="gan", noise_level=400, steps=0)
    for told in ("kind 'gan'", "noise_level 400", "steps 0"):
        assert told in str(error.value)
