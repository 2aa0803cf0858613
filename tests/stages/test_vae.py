"""The scale of a VAE's latents by what pixels show of each channel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.releases import load_release
from dalle3_jax.stages.vae import LEAST, latent_scales, measure_pixel_effects, pixel_deviations
from tests.networks import normal
from tests.stages.untrained import run_stage


def test_the_effect_of_a_channel_is_that_of_its_deviation_on_pixels():
    """Of a linear decoder it is the norm of the channel's row, whatever the latents are."""
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [0.5, 0.0]])
    effects = measure_pixel_effects(lambda z: z @ jnp.asarray(rows) + 7.0, normal(8, 16, 16, 3), (1.0, 2.0, 4.0))
    np.testing.assert_allclose(effects, np.sqrt([25 / 2, 0.0, 16 * 0.25 / 2]), rtol=0.1, atol=1e-5)


def test_channels_get_deviations_in_proportion_to_their_effects():
    wanted = np.asarray(pixel_deviations((0.2, 0.1, 0.15)))
    np.testing.assert_allclose(wanted / wanted[1], [2.0, 1.0, 1.5])
    assert np.mean(wanted**2) == pytest.approx(1.0)


def test_scales_turn_the_deviations_into_those_that_are_wanted():
    deviation = (2.0, 8.0)
    assert latent_scales(deviation, lambda: pytest.fail("nothing is to be measured"), "deviation") == (0.5, 0.125)
    scales = latent_scales(deviation, lambda: (2.0, 4.0), "pixels")
    np.testing.assert_allclose(np.multiply(scales, deviation), np.sqrt([0.4, 1.6]))


def test_what_pixels_hardly_show_is_not_lost():
    first, second = pixel_deviations((1.0, 0.0))
    assert (first, second) == (pytest.approx(np.sqrt(2)), LEAST)


def test_the_stage_scales_latents_by_what_its_own_decoder_shows_of_them(tmp_path):
    code, error = run_stage(
        tmp_path, "vae", "--config.train.objective.scale=pixels", "--config.train.release_dtype=float32"
    )
    assert code == 0, error
    assert run_stage(tmp_path / "other", "vae", "--config.train.release_dtype=float32")[0] == 0
    seen, plain = (load_release(folder / "vae" / "release") for folder in (tmp_path, tmp_path / "other"))
    assert seen.latent.shift == pytest.approx(plain.latent.shift)
    wanted = np.divide(seen.latent.scale, plain.latent.scale)  # deviations that normalised latents have
    assert np.mean(wanted**2) == pytest.approx(1.0, rel=1e-3)
    module, params = seen.modules["vae"], seen.params["vae"]
    latents = normal(4, 4, 4, module.latent_channels)
    deviation = 1 / np.asarray(plain.latent.scale)
    latents = latents * deviation + np.asarray(plain.latent.shift)
    decode = jax.jit(lambda z: module.apply({"params": params}, z, method="decode"))
    effects = np.asarray(measure_pixel_effects(decode, latents, tuple(deviation)))
    assert np.corrcoef(effects, wanted)[0, 1] > 0.7
