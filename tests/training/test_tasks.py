"""What diffusion models learn from batches: decoders' crops and spoilt latents, with functions in place of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import schedules
from dalle3_jax.training.tasks import BaseModel, Perturbation, latent_decoder, perturb_latents, text_to_image, upscale

KEY = jax.random.key(0)
SCHEDULE = schedules.Cosine()
SHIFT, SCALE = (1.0, -1.0), (0.5, 2.0)
GRID = np.arange(6 * 4, dtype=np.float32).reshape(1, 6, 4, 1)
LATENTS = np.concatenate([GRID, -GRID], axis=-1).repeat(16, axis=0)
IMAGES = LATENTS[..., :1].repeat(8, axis=1).repeat(8, axis=2).repeat(3, axis=3)
BATCH = {"images": jnp.asarray(IMAGES)}
CLEAN = (LATENTS - np.array(SHIFT, np.float32)) * np.array(SCALE, np.float32)


def clean_latents(weights, batch):
    """The normalised latents of IMAGES, whatever the weights."""
    return jnp.asarray(CLEAN)


def decoder_case(component: str, **fields):
    """x0 and what a component is shown that gives back its latents."""
    task = latent_decoder(clean_latents, lambda params, x_t, t, latents: latents, component, **fields)(
        {"vae": {}, component: {}}, BATCH, KEY
    )
    return task.x0, task.network({}, task.x0, jnp.zeros(16))


def test_a_decoder_learns_the_image_from_normalised_latents():
    x0, given = decoder_case("decoder")
    np.testing.assert_array_equal(x0, IMAGES)
    np.testing.assert_allclose(given, CLEAN, atol=1e-5)


def test_a_refiner_learns_clean_latents_from_spoilt_ones():
    x0, given = decoder_case("refiner", perturbation=Perturbation(noise=0.5))
    np.testing.assert_allclose(x0, CLEAN, atol=1e-5)
    levels = np.std(np.asarray(given) - CLEAN, axis=(1, 2, 3))
    assert 0.2 <= (levels == 0).mean() <= 0.8  # half of them are left as they are
    assert 0.05 < levels.max() < 0.65


def test_crops_show_the_same_place_of_image_and_latents():
    x0, given = decoder_case("decoder", crop=2)
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


def encode_sums(weights, batch):
    """The sum of a caption's ids as its condition."""
    return batch["ids"].sum(axis=1).astype(jnp.float32)


def test_a_base_model_resamples_on_the_batch_s_captions_and_sizes():
    seen = []

    def unet(params, x_t, t, condition, sizes):
        seen.append((params, condition, sizes))
        return jnp.zeros_like(x_t)

    base = BaseModel(encode_sums, unet, SCHEDULE, "x0")
    batch = BATCH | {"ids": jnp.full((16, 3), 5), "sizes": jnp.full((16, 6), 7.0)}
    make_task = latent_decoder(
        clean_latents,
        lambda params, x_t, t, latents: latents,
        "refiner",
        perturbation=Perturbation(resampled=1.0, steps=2),
        base=base,
    )
    task = make_task({"unet": "base", "refiner": {}}, batch, KEY)
    np.testing.assert_allclose(task.network({}, task.x0, jnp.zeros(16)), 0.0, atol=1e-5)
    assert [params for params, _, _ in seen] == ["base"] * 2
    for _, condition, sizes in seen:
        np.testing.assert_array_equal(condition, 15.0)
        np.testing.assert_array_equal(sizes, 7.0)


def test_text_to_image_has_the_null_condition_where_it_is_asked_for():
    def unet(params, x_t, t, condition, sizes):
        return jnp.broadcast_to(condition[:, None, None, None], x_t.shape)

    batch = {"ids": jnp.full((16, 3), 5), "mask": jnp.ones((16, 3), bool)}
    null = {"ids": np.array([[1, 0, 0]]), "mask": np.array([[True, False, False]])}
    task = text_to_image(clean_latents, encode_sums, unet, null=null)({}, batch, KEY)
    assert task.null is not None
    np.testing.assert_allclose(task.network({}, task.x0, jnp.zeros(16)), 15.0)
    np.testing.assert_allclose(task.null({}, task.x0, jnp.zeros(16)), 1.0)
    assert text_to_image(clean_latents, encode_sums, unet)({}, batch, KEY).null is None


def test_an_upscaler_is_given_noised_low_images_and_their_level():
    schedule, rows = schedules.Cosine(), 400
    batch = {
        "images": jnp.ones((rows, 4, 4, 3)),
        "low_images": jnp.full((rows, 2, 2, 3), 0.5),
        "sizes": jnp.full((rows, 6), 7.0),
        "ids": jnp.full((rows, 3), 5),
    }
    task = upscale(
        lambda weights, captions: captions["ids"][:, 0],
        lambda params, x_t, t, low, level, condition, sizes: (params, x_t, t, low, level, condition, sizes),
        noise_schedule=schedule,
        most_noise=0.35,
        null={"ids": np.array([[1, 0, 0]])},
    )({}, batch, KEY)
    np.testing.assert_array_equal(task.x0, batch["images"])
    params, _, _, low, told, condition, sizes = task.network("weights", task.x0, jnp.zeros(rows))
    assert (params, float(sizes[0, 0]), int(condition[0])) == ("weights", 7.0, 5)
    level = np.asarray(told) / 1000
    assert 0 <= level.min() < 0.01 < 0.34 < level.max() <= 0.35
    assert abs(level.mean() - 0.175) < 0.02
    alpha, sigma = (np.asarray(f(told / 1000))[:, None, None, None] for f in (schedule.alpha, schedule.sigma))
    noise = (np.asarray(low) - 0.5 * alpha) / sigma
    assert abs(noise.std() - 1) < 0.03
    assert abs(noise.mean()) < 0.05
    assert len({*noise[:, 0, 0, 0].tolist()}) == rows

    assert task.null is not None
    null = task.null("weights", task.x0, jnp.zeros(rows))
    assert int(null[5][0]) == 1
    np.testing.assert_array_equal(null[3], low)  # the same noise in both halves of guidance


def test_an_upscaler_in_latents_learns_the_images_latents():
    batch = {"images": jnp.ones((2, 8, 8, 3)), "low_images": jnp.ones((2, 2, 2, 3))}
    task = upscale(
        lambda weights, captions: None,
        lambda *inputs: inputs,
        noise_schedule=SCHEDULE,
        most_noise=0.1,
        encode_latents=lambda weights, batch: weights["vae"] * batch["images"][:, ::4, ::4],
    )({"vae": 3.0}, batch, KEY)
    np.testing.assert_array_equal(task.x0, jnp.full((2, 2, 2, 3), 3.0))
    assert task.null is None
