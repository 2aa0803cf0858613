"""The objectives against closed forms, with functions in place of networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import schedules
from dalle3_jax.models.condition import Condition
from dalle3_jax.training.objectives.diffusion import diffusion_loss, shift_times, stratified_times
from dalle3_jax.training.objectives.text import text_loss
from dalle3_jax.training.objectives.vae import vae_loss
from dalle3_jax.training.tasks import text_to_image

KEY = jax.random.key(0)
PARAMS = {"text_encoder": jnp.float32(1.0), "xfnet": jnp.float32(2.0), "unet": jnp.float32(3.0)}
SCHEDULE = schedules.Cosine()
SHIFT, SCALE = (1.0, -1.0), (0.5, 2.0)


def test_vae_loss_adds_pixels_edges_and_kl():
    ramp = jnp.broadcast_to(jnp.linspace(-1.0, 1.0, 5)[None, None, :, None], (2, 4, 5, 3))
    mean, logvar = jnp.full((2, 1, 1, 3), 2.0), jnp.full((2, 1, 1, 3), -60.0)
    loss_fn = vae_loss(
        lambda params, images: (mean, logvar),
        lambda params, latents: jnp.zeros_like(ramp),
        kl_weight=0.01,
        gradient_weight=0.5,
    )
    loss, metrics = loss_fn({"vae": {}}, {}, {"images": ramp}, KEY)
    kl = 0.5 * 3 * (4.0 - 1.0 + 60.0)
    np.testing.assert_allclose(metrics["l1"], 0.6, rtol=1e-5)
    np.testing.assert_allclose(metrics["edges"], 0.5, rtol=1e-5)
    np.testing.assert_allclose(metrics["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(loss, 0.6 + 0.25 + 0.01 * kl, rtol=1e-5)
    np.testing.assert_allclose(metrics["psnr"], 10 * np.log10(4 / 0.5), rtol=1e-5)


def test_vae_decodes_a_sample_not_the_mean():
    seen = {}

    def decode(params, latents):
        seen["latents"] = latents
        return jnp.zeros((64, 8, 8, 3))

    mean, logvar = jnp.full((64, 4, 4, 8), 3.0), jnp.full((64, 4, 4, 8), np.log(0.25))
    vae_loss(lambda params, images: (mean, logvar), decode)({"vae": {}}, {}, {"images": jnp.ones((64, 8, 8, 3))}, KEY)
    np.testing.assert_allclose(seen["latents"].mean(), 3.0, atol=0.02)
    np.testing.assert_allclose(seen["latents"].std(), 0.5, atol=0.02)


def test_times_fall_one_in_each_part():
    times = np.array([stratified_times(jax.random.key(i), 8) for i in range(200)])
    assert (np.floor(times * 8) == np.arange(8)).all()
    assert 0 < times.min() < 0.01
    assert 0.99 < times.max() < 1
    np.testing.assert_allclose(np.histogram(times, 40, (0, 1))[0], 40, atol=30)


def encode_latents(weights, batch):
    """The batch's latents, normalised."""
    return (batch["latents"] - jnp.asarray(SHIFT)) * jnp.asarray(SCALE)


def encode_text(weights, batch):
    """A condition of the weights of both text networks."""
    return weights["text_encoder"] * weights["xfnet"] * batch["ids"][..., None]


def diffusion(unet, *, batch=None, params=PARAMS, frozen=None, **fields):
    """Loss and metrics with `unet` as the denoiser and networks that pass on what they are given."""
    loss_fn = diffusion_loss(text_to_image(encode_latents, encode_text, unet), "unet", schedule=SCHEDULE, **fields)
    batch = jax.tree.map(jnp.asarray, BATCH if batch is None else batch)
    return loss_fn(params, frozen or {}, batch, KEY)


LATENTS = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype(np.float32)
BATCH = {
    "latents": LATENTS,
    "ids": np.ones((8, 3), np.int32),
    "mask": np.ones((8, 3), bool),
    "sizes": np.full((8, 6), 7.0, np.float32),
}
X0 = (LATENTS - np.array(SHIFT, np.float32)) * np.array(SCALE, np.float32)


def exact(predict: str, offset: float = 0.0):
    """The denoiser that knows the normalised latents, off by `offset`."""

    def unet(weight, x_t, network_time, condition, sizes):
        t = network_time / 1000.0
        alpha, sigma = (f(t)[:, None, None, None] for f in (SCHEDULE.alpha, SCHEDULE.sigma))
        eps = (x_t - alpha * X0) / sigma
        return {"eps": eps, "x0": X0, "v": alpha * eps - sigma * X0}[predict] + offset

    return unet


@pytest.mark.parametrize("predict", ["eps", "v", "x0"])
def test_exact_denoiser_of_normalised_latents_has_no_loss(predict):
    loss, _ = diffusion(exact(predict), predict=predict)
    np.testing.assert_allclose(loss, 0.0, atol=1e-5)


def test_loss_is_the_squared_error_and_comes_by_quarter():
    loss, metrics = diffusion(exact("v", offset=0.5))
    np.testing.assert_allclose(loss, 0.25, atol=1e-3)
    np.testing.assert_allclose([metrics[f"mse_q{q}"] for q in (1, 2, 3, 4)], 0.25, atol=1e-3)


def test_weighting_lowers_what_is_almost_noise():
    uniform, _ = diffusion(exact("v", offset=0.5))
    weighted, _ = diffusion(exact("v", offset=0.5), weighting="min_snr")
    assert 0 < float(weighted) < 0.9 * float(uniform)


def test_frozen_networks_are_found_among_the_frozen():
    seen = {}

    def unet(weight, x_t, network_time, condition, sizes):
        seen.update(condition=condition, sizes=sizes, weight=weight)
        return x_t

    trained = {name: PARAMS[name] for name in ("xfnet", "unet")}
    diffusion(unet, params=trained, frozen={"text_encoder": jnp.float32(5.0)})
    np.testing.assert_array_equal(seen["condition"], 10.0)
    np.testing.assert_array_equal(seen["sizes"], 7.0)
    diffusion(unet, batch={name: BATCH[name] for name in ("latents", "ids", "mask")})
    np.testing.assert_array_equal(seen["condition"], 2.0)
    assert seen["sizes"] is None


def test_text_loss_is_the_error_of_the_latents_that_the_tokens_foretell():
    seen = {}

    def head(weight, tokens):
        seen.update(weight=weight, tokens=tokens)
        return jnp.asarray(X0 + 0.5)

    def condition(weights, batch):
        tokens = encode_text(weights, batch) * batch["mask"][..., None]
        return Condition(tokens, batch["mask"], tokens[:, 0])

    params = {"text_encoder": jnp.float32(1.0), "latent_head": jnp.float32(3.0)}
    batch = jax.tree.map(jnp.asarray, BATCH | {"mask": np.array([[True, True, False]] * 8)})
    loss, metrics = text_loss(encode_latents, condition, head)(params, {"xfnet": jnp.float32(2.0)}, batch, KEY)
    np.testing.assert_allclose(loss, 0.25, rtol=1e-5)
    np.testing.assert_allclose(metrics["explained"], 1.0 - 0.25 / np.mean(X0**2), rtol=1e-5)
    assert seen["weight"] == 3.0
    np.testing.assert_array_equal(seen["tokens"][0, :, 0], [2.0, 2.0, 0.0])


def test_shifted_times_lean_to_noise_and_keep_the_ends():
    t = jnp.linspace(0.0, 1.0, 11)
    np.testing.assert_array_equal(shift_times(t, 1.0), t)
    np.testing.assert_allclose(shift_times(t, 3.0), 3 * t / (1 + 2 * t), rtol=1e-6)
    np.testing.assert_allclose(shift_times(jnp.array([0.0, 0.5, 1.0]), 3.0), [0.0, 0.75, 1.0], rtol=1e-6)


def test_time_shift_reaches_the_network():
    def mean_time(time_shift):
        seen = {}

        def unet(params, x_t, t, condition, sizes):
            seen["t"] = t
            return jnp.zeros_like(x_t)

        task = text_to_image(encode_latents, encode_text, unet)
        loss_fn = diffusion_loss(task, "unet", schedule=SCHEDULE, time_shift=time_shift)
        batch = {"latents": jnp.ones((64, 2, 2, 2)), "ids": jnp.zeros((64, 3)), "mask": jnp.ones((64, 3), bool)}
        loss_fn(PARAMS, {}, batch, KEY)
        return float(seen["t"].mean()) / 1000

    assert abs(mean_time(1.0) - 0.5) < 0.01
    # the mean of 3u / (1 + 2u) over u in [0, 1]
    assert abs(mean_time(3.0) - (1.5 - 0.75 * np.log(3.0))) < 0.01
