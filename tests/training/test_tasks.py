"""What diffusion models learn from batches: decoders' crops and spoilt latents, with functions in place of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import schedules
from dalle3_jax.models.condition import Condition
from dalle3_jax.training.tasks import Perturbation, latent_decoder, perturb_latents, text_condition, text_to_image

KEY = jax.random.key(0)
SCHEDULE = schedules.Cosine()
SHIFT, SCALE = (1.0, -1.0), (0.5, 2.0)
GRID = np.arange(6 * 4, dtype=np.float32).reshape(1, 6, 4, 1)
LATENTS = np.concatenate([GRID, -GRID], axis=-1).repeat(16, axis=0)
IMAGES = LATENTS[..., :1].repeat(8, axis=1).repeat(8, axis=2).repeat(3, axis=3)
BATCH = {"images": jnp.asarray(IMAGES)}
CLEAN = (LATENTS - np.array(SHIFT, np.float32)) * np.array(SCALE, np.float32)


def networks(component: str):
    """An encoder that knows the latents of IMAGES, and a component that shows the latents it is given."""
    return {
        "encode": lambda weight, images: (jnp.asarray(LATENTS), None),
        component: lambda params, x_t, t, latents: latents,
    }


def problem(component: str, **fields):
    pose = latent_decoder(networks(component), component, shift=SHIFT, scale=SCALE, **fields)
    posed = pose({"vae": {}, component: {}}, BATCH, KEY)
    return posed.x0, posed.network({}, posed.x0, jnp.zeros(16))


def test_a_decoder_learns_the_image_from_normalised_latents():
    x0, given = problem("decoder")
    np.testing.assert_array_equal(x0, IMAGES)
    np.testing.assert_allclose(given, CLEAN, atol=1e-5)


def test_a_refiner_learns_clean_latents_from_spoilt_ones():
    x0, given = problem("refiner", perturbation=Perturbation(noise=0.5))
    np.testing.assert_allclose(x0, CLEAN, atol=1e-5)
    levels = np.std(np.asarray(given) - CLEAN, axis=(1, 2, 3))
    assert 0.2 <= (levels == 0).mean() <= 0.8  # half of them are left as they are
    assert 0.05 < levels.max() < 0.65


def test_crops_show_the_same_place_of_image_and_latents():
    x0, given = problem("decoder", crop=2)
    assert x0.shape == (16, 16, 16, 3)
    assert given.shape == (16, 2, 2, 2)
    corners = np.asarray(given[:, :, :, 0]) / SCALE[0] + SHIFT[0]
    np.testing.assert_allclose(np.asarray(x0)[:, ::8, ::8, 0], corners, atol=1e-4)
    assert len({float(corner) for corner in corners[:, 0, 0]}) > 5


def test_resampling_goes_through_the_base_model_at_falling_times():
    seen = []

    def base(x, t):
        seen.append(t)
        return jnp.zeros_like(x)

    how = Perturbation(resampled=1.0, strength=0.4, steps=2)
    found = perturb_latents(jnp.asarray(CLEAN), KEY, how, base, SCHEDULE)
    np.testing.assert_allclose(found, 0.0, atol=1e-5)  # all is brought to what the base model says it is
    np.testing.assert_allclose(seen[1], seen[0] / 2, rtol=1e-6)
    assert float(seen[0].max()) <= 0.4
    assert len({float(t) for t in seen[0]}) == 16


def test_resampling_with_an_all_knowing_base_model_changes_nothing():
    clean = jnp.asarray(CLEAN)
    found = perturb_latents(clean, KEY, Perturbation(resampled=1.0), lambda x, t: clean, SCHEDULE)
    np.testing.assert_allclose(found, clean, atol=1e-4)


def test_a_share_of_the_images_is_resampled():
    found = perturb_latents(jnp.asarray(CLEAN), KEY, Perturbation(resampled=0.5), lambda x, t: 0 * x, SCHEDULE)
    changed = ~np.isclose(found, CLEAN, atol=1e-5).all(axis=(1, 2, 3))
    assert 3 <= changed.sum() <= 13


def test_resampling_without_a_base_model_is_refused():
    with pytest.raises(ValueError, match="needs the base model"):
        perturb_latents(jnp.asarray(CLEAN), KEY, Perturbation(resampled=0.5))


def test_drawing_knows_the_null_condition_where_it_is_asked_for():
    told = {
        "text_encoder": lambda weight, ids, mask: ids.astype(jnp.float32)[..., None],
        "xfnet": lambda weight, features, mask: features.sum(axis=(1, 2)),
        "unet": lambda params, x_t, t, condition, sizes: jnp.broadcast_to(condition[:, None, None, None], x_t.shape),
    }
    batch = {"latents": jnp.asarray(LATENTS), "ids": jnp.full((16, 3), 5), "mask": jnp.ones((16, 3), bool)}
    null = {"ids": np.array([[1, 0, 0]]), "mask": np.array([[True, False, False]])}
    weights = {"text_encoder": {}, "xfnet": {}}
    posed = text_to_image(told, shift=SHIFT, scale=SCALE, null=null)(weights, batch, KEY)
    assert posed.null is not None
    np.testing.assert_allclose(posed.network({}, posed.x0, jnp.zeros(16)), 15.0)
    np.testing.assert_allclose(posed.null({}, posed.x0, jnp.zeros(16)), 1.0)
    assert text_to_image(told, shift=SHIFT, scale=SCALE)(weights, batch, KEY).null is None


def clip(width: int):
    """A text encoder that gives a condition by itself: its weight, in every feature of every token."""

    def encode(weight, ids, mask):
        return Condition(
            jnp.full((*ids.shape, width), weight), jnp.ones_like(mask), jnp.full((len(ids), width), weight)
        )

    return encode


TEXT = {"ids": jnp.ones((2, 3), jnp.int32), "mask": jnp.asarray([[True, True, False]] * 2)}


def test_a_text_encoder_that_gives_a_condition_needs_no_xfnet():
    found = text_condition({"text_encoder": clip(4)}, {"text_encoder": 1.0}, TEXT)
    assert found.tokens.shape == (2, 3, 4)
    assert found.mask.all()  # padding counts too


def test_two_text_encoders_stand_beside_each_other_and_the_vector_is_the_seconds():
    networks = {"text_encoder": clip(4), "text_encoder_2": clip(5)}
    found = text_condition(networks, {"text_encoder": 1.0, "text_encoder_2": 2.0}, TEXT)
    np.testing.assert_array_equal(found.tokens[0, 0], [1.0] * 4 + [2.0] * 5)
    np.testing.assert_array_equal(found.vector, np.full((2, 5), 2.0))
