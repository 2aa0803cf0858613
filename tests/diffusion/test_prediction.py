"""Predictions: hand values, round trips, and what a Denoise hands to its network."""

import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import prediction
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear

PREDICTIONS = ["eps", "v", "x0", "edm", "x0_skip"]
EDM = np.hypot(0.6, 0.8 * 0.5)  # s of "edm" at alpha 0.8, sigma 0.6
SKIP = np.hypot(0.6, 0.8 * prediction.SKIPPED_STD)
X_T = 0.8 * 2 - 0.6


def constant(value):
    return jnp.full((1, 1, 1, 1), value)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("eps", -1.0),
        ("v", 0.8 * -1 - 0.6 * 2),
        ("x0", 2.0),
        ("edm", (2 - 0.8 * (0.5 / EDM) ** 2 * X_T) / (0.6 * 0.5 / EDM)),
        ("x0_skip", (2 - 0.8 * (prediction.SKIPPED_STD / SKIP) ** 2 * X_T) / (0.6 / SKIP)),
    ],
)
def test_targets_by_hand(kind, expected):
    alpha, sigma = jnp.asarray([0.8]), jnp.asarray([0.6])
    target = prediction.prediction_target(kind, constant(2.0), constant(-1.0), alpha, sigma)
    np.testing.assert_allclose(target, constant(expected), rtol=1e-6)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_targets_give_back_image_and_noise(kind):
    x0, eps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)), "float32")
    t = jnp.asarray([0.2, 0.5, 0.9])
    alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
    x_t = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps
    output = prediction.prediction_target(kind, x0, eps, alpha, sigma)
    np.testing.assert_allclose(prediction.x0_from_output(kind, output, x_t, alpha, sigma), x0, atol=1e-5)
    np.testing.assert_allclose(prediction.eps_from_output(kind, output, x_t, alpha, sigma), eps, atol=1e-5)


@pytest.mark.parametrize("kind", PREDICTIONS)
@pytest.mark.parametrize("schedule", [Cosine(), ScaledLinear()], ids=str)
def test_a_perfect_network_makes_a_perfect_denoise(schedule, kind):
    x0, eps = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2, 2, 2, 1)), "float32")
    t = jnp.asarray([0.3, 0.8])
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    x_t = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps
    seen = []

    def network(x, time):
        seen.append((x, time))
        return prediction.prediction_target(kind, x0, eps, alpha, sigma)

    np.testing.assert_allclose(prediction.denoiser(network, schedule, kind)(x_t, t), x0, atol=1e-5)
    np.testing.assert_array_equal(seen[0][0], prediction.scaled_input(kind, x_t, alpha, sigma))
    np.testing.assert_array_equal(seen[0][1], schedule.network_time(t))


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_what_the_network_is_shown(kind):
    """c_in gives data of the deviation that is taken for granted unit variance at every noise level."""
    x0, eps = np.random.default_rng(2).normal(size=(2, 1, 64, 64, 2))
    alpha, sigma = jnp.asarray([0.8]), jnp.asarray([0.6])
    x_t = jnp.asarray(0.8 * prediction.SIGMA_DATA * x0 + 0.6 * eps, jnp.float32)
    shown = prediction.scaled_input(kind, x_t, alpha, sigma)
    if kind in ("edm", "x0_skip"):
        np.testing.assert_allclose(shown.std(), 1.0, atol=0.02)
    else:
        np.testing.assert_array_equal(shown, x_t)


def test_x0_skip_passes_nothing_on_where_there_is_noise():
    """So that a network without room for the noise need not cancel it."""
    alpha, sigma = Cosine().alpha(jnp.asarray([0.3])), Cosine().sigma(jnp.asarray([0.3]))
    x0 = prediction.x0_from_output("x0_skip", constant(0.5), constant(100.0), alpha, sigma)
    np.testing.assert_allclose(x0, 0.5, atol=0.4)
    edm = prediction.x0_from_output("edm", constant(0.5), constant(100.0), alpha, sigma)
    assert float(edm[0, 0, 0, 0]) > 20


def test_a_denoise_answers_in_the_precision_of_x():
    denoise = prediction.denoiser(lambda x, t: x.astype(jnp.bfloat16), Cosine(), "x0")
    assert denoise(jnp.ones((1, 2, 2, 1)), jnp.ones(1)).dtype == jnp.float32


@pytest.mark.parametrize("kind", ["v", "x0"])
def test_zero_terminal_snr_is_finite_at_1(kind):
    denoise = prediction.denoiser(lambda x, t: x, ScaledLinear(zero_terminal_snr=True), kind)
    assert jnp.isfinite(denoise(jnp.ones((1, 2, 2, 1)), jnp.ones(1))).all()


def test_eps_is_refused_where_x_t_holds_nothing_else():
    with pytest.raises(ValueError, match="zero_terminal_snr"):
        prediction.denoiser(lambda x, t: x, ScaledLinear(zero_terminal_snr=True), "eps")


def test_unknown_prediction_is_refused_at_once():
    with pytest.raises(ValueError, match=r"'epsilon'.*eps, v, x0"):
        prediction.denoiser(lambda x, t: x, Cosine(), "epsilon")
