"""What a decoder is shown of latents, and which spaces it takes them from."""

import dataclasses

import jax
import numpy as np
import pytest

from dalle3_jax.checkpoints.latents import DecoderSettings, Latent
from dalle3_jax.convert import decoder_settings
from tests.networks import normal

MEAN = np.array([0.38862467, 0.02253063, 0.07381133, -0.0171294])
STD = np.array([0.9654121, 1.0440036, 0.76147926, 0.77022034])
"""Of diffusers' ConsistencyDecoderVAE."""


def latents() -> jax.Array:
    return 4 * normal(2, 3, 5, 4)


@pytest.mark.parametrize("scaling", [0.18215, 0.5])
def test_the_public_decoder_is_shown_scaled_latents_less_their_mean_over_their_deviation(scaling):
    shown = decoder_settings({"scaling_factor": scaling}).network_latent
    np.testing.assert_allclose(shown.normalise(latents()), (scaling * np.asarray(latents()) - MEAN) / STD, atol=1e-5)
    np.testing.assert_allclose(shown.denormalise(shown.normalise(latents())), latents(), atol=1e-5)


def test_a_shift_comes_before_the_mean():
    latent = Latent(channels=2, factor=8, shift=(0.5, -2.0), scale=(2.0, 0.25))
    shown = DecoderSettings("consistency", latent, mean=(0.1, 0.2), std=(3.0, 4.0)).network_latent
    z = latents()[..., :2]
    expected = ((np.asarray(z) - [0.5, -2.0]) * [2.0, 0.25] - [0.1, 0.2]) / [3.0, 4.0]
    np.testing.assert_allclose(shown.normalise(z), expected, atol=1e-5)


def test_a_decoder_without_statistics_is_shown_what_the_unet_works_in():
    latent = Latent(channels=1, factor=8, shift=(1.0,), scale=(2.0,), vae="a")
    assert DecoderSettings("consistency", latent).network_latent == latent


OWN = Latent(channels=1, factor=8, shift=(1.0,), scale=(2.0,), vae="a")


@pytest.mark.parametrize(
    ("named", "other", "misfits"),
    [
        ("a", {"scale": (3.0,)}, []),  # its own latents lie between
        ("a", {"vae": "b"}, ["vae 'b', not 'a'"]),
        ("a", {"vae": ""}, ["vae '', not 'a'"]),
        ("", {}, []),
        ("", {"vae": ""}, []),
        ("", {"scale": (3.0,)}, ["scale (3.0,), not (2.0,)"]),
        ("", {"shift": (3.0,), "vae": ""}, ["shift (3.0,), not (1.0,)"]),
        (
            "a",
            {"factor": 4, "channels": 2, "shift": (0.0,) * 2, "scale": (1.0,) * 2},
            ["channels 2, not 1", "factor 4, not 8"],
        ),
    ],
)
def test_a_space_that_names_no_vae_fits_by_its_shift_and_scale(named, other, misfits):
    assert dataclasses.replace(OWN, vae=named).mismatches(dataclasses.replace(OWN, **other)) == misfits
