"""Decoders in the pipeline: chosen by name, repeatable, in tiles, and refused where they do not fit."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.checkpoints.latents import DecoderSettings
from dalle3_jax.checkpoints.releases import load_release, save_release
from dalle3_jax.evaluation.decoders.source_latents import resample_latents
from dalle3_jax.pipeline import Pipeline
from dalle3_jax.pipeline.png import read_metadata, to_pixels
from dalle3_jax.pipeline.request import Decoding, request_from_metadata
from tests.pipeline.test_pipeline import counted_compilations
from tests.tiny import tiny_decoders, tiny_release


@pytest.fixture(scope="module")
def decoding() -> Pipeline:
    """The tiny system with its decoders."""
    return Pipeline(tiny_decoders())


@pytest.fixture(scope="module")
def latents() -> jax.Array:
    """Two images' latents, as the UNet leaves them."""
    return jax.random.normal(jax.random.key(0), (2, 4, 2, 2))


def test_a_pipeline_names_its_decoders(decoding):
    assert decoding.codec.decoders == ("vae", "consistency", "refiner")
    assert Pipeline(tiny_release()).codec.decoders == ("vae",)


def test_an_unknown_decoder_lists_the_known_ones(decoding, latents):
    told = "unknown decoder 'best': use one of vae, consistency, refiner"
    with pytest.raises(ValueError, match=told):
        decoding("a panda", decoder="best")
    with pytest.raises(ValueError, match=told):
        decoding.codec.decode(latents, Decoding("best"))


@pytest.mark.parametrize("decoder", ["consistency", "refiner"])
def test_a_decoders_noise_is_its_own_images_seed(decoding, latents, decoder):
    both = np.asarray(decoding.codec.decode(latents, Decoding(decoder), [3, 4]))
    again = np.asarray(decoding.codec.decode(latents, Decoding(decoder), [3, 5]))
    np.testing.assert_array_equal(both[0], again[0])
    assert np.abs(both[1] - again[1]).max() > 1e-3
    assert both.shape == (2, 32, 16, 3)


def test_a_cold_decoder_draws_the_same_whatever_the_seed(decoding, latents):
    cold, other = (
        decoding.codec.decode(latents, Decoding("consistency", temperature=0.0), seeds) for seeds in ([0, 1], [5, 6])
    )
    np.testing.assert_array_equal(cold, other)
    warm = decoding.codec.decode(latents, Decoding("consistency"), [0, 1])
    assert np.abs(np.asarray(warm) - np.asarray(cold)).max() > 1e-3
    with pytest.raises(ValueError, match="temperature -1"):
        decoding.codec.decode(latents, Decoding("consistency", temperature=-1.0))


def test_the_steps_of_a_decoder_can_be_chosen(decoding, latents):
    own, two, one = (decoding.codec.decode(latents, Decoding("consistency", steps)) for steps in (0, 2, 1))
    np.testing.assert_array_equal(own, two)
    assert np.abs(np.asarray(one) - np.asarray(two)).max() > 1e-3
    assert np.abs(np.asarray(own)).max() <= 1  # clamped


def test_no_number_of_steps_of_a_decoder_compiles(decoding, latents):
    """But one: a single step is no loop."""
    made = [np.asarray(decoding.codec.decode(latents, Decoding("consistency", steps), [0, 1])) for steps in (1, 2)]
    with counted_compilations() as compiled:
        made += [np.asarray(decoding.codec.decode(latents, Decoding("consistency", steps), [0, 1])) for steps in (3, 5)]
    assert compiled == []
    assert min(np.abs(a - b).max() for a, b in itertools.combinations(made, 2)) > 1e-3


def test_a_refiner_changes_latents_in_their_own_space(decoding, latents):
    """With a network that gives back its latents the refiner does nothing, whatever shift and scale are."""
    release = tiny_decoders()
    params = release.params["refiner"]
    silent = {**params, "conv_out": {name: 0 * leaf for name, leaf in params["conv_out"].items()}}
    still = dataclasses.replace(release, params={**release.params, "refiner": silent})
    refined = Pipeline(still).codec.decode(latents, Decoding("refiner"))
    # Zero output of x0_skip at the top: zero latents, in the UNet's space.
    empty = Pipeline(still).codec.decode(0 * latents)
    np.testing.assert_allclose(refined, empty, atol=2e-3)


def test_a_decoder_of_another_scale_of_the_same_vae_gets_latents_scaled_once(latents):
    release = dataclasses.replace(tiny_decoders(), latent=dataclasses.replace(tiny_decoders().latent, vae="same"))
    how = release.decoders["decoder"]
    moved = dataclasses.replace(how.latent, vae="same", shift=(0.0, 0.0), scale=(1.0, 1.0))
    other = dataclasses.replace(release, decoders={"decoder": dataclasses.replace(how, latent=moved)})
    inner = dataclasses.replace(release, decoders={"decoder": dataclasses.replace(how, latent=release.latent)})
    found = Pipeline(other).codec.decode(latents, Decoding("consistency"))
    wanted = Pipeline(inner).codec.decode(release.latent.denormalise(latents), Decoding("consistency"))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scale": (0.13, 0.13)}, r"scale \(0.13, 0.13\), not"),
        ({"vae": "f" * 64}, "vae 'ffffff|vae ffffffffff..., not"),
        ({"channels": 4, "shift": (0.0,) * 4, "scale": (1.0,) * 4}, "channels 4, not 2|channels 2, not 4"),
        ({"factor": 16}, "factor 16, not 8|factor 8, not 16"),
    ],
)
def test_a_decoder_of_other_latents_is_refused(change, told):
    release = tiny_decoders()
    how = release.decoders["decoder"]
    other = dataclasses.replace(how, latent=dataclasses.replace(how.latent, **change))
    with pytest.raises(ValueError, match="the decoder consistency was made for other latents"):
        Pipeline(tiny_release(), decoders=[dataclasses.replace(release, decoders={"decoder": other})])


def test_latents_of_other_channels_are_refused(decoding, latents):
    with pytest.raises(ValueError, match="latents of 4 channels: those of this release have 2"):
        decoding.codec.decode(jnp.concatenate([latents, latents], axis=-1), Decoding("consistency"))


def test_a_schedule_that_does_not_start_at_the_top_is_refused():
    release = tiny_decoders()
    late = dataclasses.replace(release.decoders["decoder"], times=(0.5, 0.2))
    with pytest.raises(ValueError, match="does not start at the top"):
        Pipeline(dataclasses.replace(release, decoders={"decoder": late}))


@pytest.mark.parametrize("tile", [8, 64, 145, -16])
def test_a_tile_smaller_than_its_halo_is_refused(decoding, tile):
    with pytest.raises(ValueError, match="are its halo"):
        decoding("a panda", tile=tile)


@pytest.mark.parametrize("setting", [{"decoder_steps": 2}, {"decoder_temperature": 1}])
def test_steps_and_temperature_for_the_vae_are_refused(decoding, setting):
    with pytest.raises(ValueError, match="the decoder vae takes none"):
        decoding("a panda", decoder="vae", **setting)


def test_tiles_decode_like_the_whole(decoding):
    """The tiny decoder looks no further than its halo, so that only rounding may differ."""
    latents = jax.random.normal(jax.random.key(1), (1, 40, 21, 2))
    for decoder in ("vae", "consistency"):
        whole, tiled = (decoding.codec.decode(latents, Decoding(decoder, tile=tile), [5]) for tile in (0, 160))
        if decoder == "vae":  # group norm looks at the whole tile
            assert np.abs(np.asarray(whole) - np.asarray(tiled)).max() < 1.0
        else:
            np.testing.assert_allclose(whole, tiled, atol=1e-4)


def test_a_picture_says_how_it_was_decoded_and_can_be_repeated(decoding, tmp_path):
    settings = {"decoder": "consistency", "decoder_steps": 1, "steps": 2, "guidance_scale": 1.0}
    [picture] = decoding("a panda", seed=7, size=(16, 16), **settings)
    picture.save(tmp_path / "a.png")
    request = request_from_metadata(read_metadata(tmp_path / "a.png"))
    assert request.decoding == Decoding("consistency", steps=1)
    [(_, again)] = decoding.generate([request], batch_size=1)
    np.testing.assert_array_equal(picture.image, again.image)
    [other] = decoding("a panda", seed=7, size=(16, 16), **{**settings, "decoder": "vae", "decoder_steps": 0})
    assert np.abs(np.asarray(other.image, int) - np.asarray(picture.image, int)).max() > 0


def test_the_default_decoder_is_the_releases(tmp_path):
    release = dataclasses.replace(tiny_decoders(), sampling={**tiny_decoders().sampling, "decoder": "refiner"})
    save_release(tmp_path / "r", release)
    loaded = Pipeline.load(tmp_path / "r")
    assert loaded.request("a").decoding.decoder == "refiner"
    assert loaded.codec.decoders == ("vae", "consistency", "refiner")
    stored = load_release(tmp_path / "r")
    assert stored.latent is not None
    assert stored.latent.vae  # the digest of the VAE, which its decoders were trained on as well
    assert stored.decoders["decoder"] == DecoderSettings(
        "consistency", stored.latent, prediction="x0_skip", top=0.985, clamp=True
    )


def test_decoders_of_other_releases_join_and_change_the_digest(tmp_path):
    save_release(tmp_path / "base", tiny_release())
    release = tiny_decoders()
    alone = dataclasses.replace(
        release,
        modules={"decoder": release.modules["decoder"]},
        params={"decoder": release.params["decoder"]},
        decoders={"decoder": dataclasses.replace(release.decoders["decoder"], kind="diffusion", steps=3)},
        tokenizer="",
    )
    save_release(tmp_path / "decoder", alone)
    base, joined = Pipeline.load(tmp_path / "base"), Pipeline.load(tmp_path / "base", decoders=[tmp_path / "decoder"])
    assert joined.codec.decoders == ("vae", "diffusion")
    assert joined.release.digest != base.release.digest
    # Stored weights name their VAE, and a decoder trained on another one says so.
    assert alone.latent is not None
    other = dataclasses.replace(alone.decoders["decoder"], latent=dataclasses.replace(alone.latent, vae="0" * 64))
    with pytest.raises(ValueError, match="made for other latents"):
        Pipeline(base.release, decoders=[dataclasses.replace(alone, decoders={"decoder": other})])


def test_resampling_keeps_to_the_latents_at_low_strength(decoding, latents):
    away = [
        jnp.abs(resample_latents(decoding, latents, ["a", "b"], [0, 1], strength, steps=2) - latents).mean()
        for strength in (0.02, 0.9)
    ]
    assert away[0] < 0.5 * away[1]


def test_pixels_of_all_decoders_can_be_stored(decoding, latents):
    for decoder in decoding.codec.decoders:
        assert to_pixels(decoding.codec.decode(latents, Decoding(decoder))).dtype == np.uint8
