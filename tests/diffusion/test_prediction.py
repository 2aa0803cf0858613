"""Predictions: hand values, round trips, and what a Denoise hands to its network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import prediction, samplers, weighting
from dalle3_jax.diffusion.schedules import Cosine, ScaledLinear

PREDICTIONS = list(prediction.PREDICTIONS)
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
def test_targets_give_back_the_image(kind):
    x0, eps = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2)), "float32")
    t = jnp.asarray([0.2, 0.5, 0.9])
    alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
    x_t = alpha[:, None, None, None] * x0 + sigma[:, None, None, None] * eps
    output = prediction.prediction_target(kind, x0, eps, alpha, sigma)
    np.testing.assert_allclose(prediction.x0_from_output(kind, output, x_t, alpha, sigma), x0, atol=1e-5)


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
    if prediction.PREDICTIONS[kind].c_in is not None:
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


def test_the_names_are_those_of_releases():
    assert PREDICTIONS == ["eps", "v", "x0", "edm", "x0_skip"]
    assert prediction.CONSISTENT_PREDICTIONS == ("v", "edm", "x0_skip")


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_the_boundary_condition_is_held_by_the_consistent_alone(kind):
    x_t = jnp.asarray(np.random.default_rng(3).normal(size=(2, 3, 4, 1)), "float32")
    x0 = prediction.denoiser(lambda x, t: 0 * x + 3, Cosine(), kind)(x_t, jnp.zeros(2))
    same = np.allclose(x0, x_t, atol=1e-5)
    assert same == (kind in prediction.CONSISTENT_PREDICTIONS or kind == "eps")  # eps for want of noise to take away


def test_a_new_prediction_is_one_record(monkeypatch):
    """A sixth row, rectified flow's eps - x0, is trained on, weighed and sampled with like the others."""
    flow = prediction.Prediction(
        target=lambda x0, eps, alpha, sigma: eps - x0,
        x0=lambda output, x_t, alpha, sigma: (x_t - sigma * output) / (alpha + sigma),
        snr_weight=lambda snr, gamma: jnp.minimum(snr, gamma) / (1 + jnp.sqrt(snr)) ** 2,
        consistent=True,
    )
    monkeypatch.setattr(prediction, "PREDICTIONS", {**prediction.PREDICTIONS, "flow": flow})
    test_targets_give_back_the_image("flow")
    test_a_perfect_network_makes_a_perfect_denoise(Cosine(), "flow")
    test_what_the_network_is_shown("flow")

    x0, eps, wrong = jnp.asarray(np.random.default_rng(4).normal(size=(3, 4, 2, 2, 1)), "float32")
    t = jnp.asarray([0.1, 0.4, 0.6, 0.9])
    alpha, sigma = (rows[:, None, None, None] for rows in (Cosine().alpha(t), Cosine().sigma(t)))
    wrong_eps = eps + alpha / sigma * (x0 - wrong)  # the noise that goes with the wrong image at the same x_t
    targets = [
        prediction.prediction_target("flow", *pair, alpha.ravel(), sigma.ravel())
        for pair in ((x0, eps), (wrong, wrong_eps))
    ]
    weight = weighting.loss_weight("min_snr", "flow", Cosine().logsnr(t))[:, None, None, None]
    expected = weighting.loss_weight("min_snr", "x0", Cosine().logsnr(t))[:, None, None, None] * (x0 - wrong) ** 2
    np.testing.assert_allclose(weight * (targets[0] - targets[1]) ** 2, expected, rtol=1e-3, atol=1e-6)

    def network(x_t, time):  # what a perfect one says of data that is x0 alone
        alpha, sigma = (f(time / 1000)[:, None, None, None] for f in (Cosine().alpha, Cosine().sigma))
        return (x_t - alpha * x0) / sigma - x0

    denoise = prediction.denoiser(network, Cosine(), "flow")
    times, keys = jnp.linspace(0.9, 0.0, 5), jax.random.split(jax.random.key(0), 4)
    for name in ("ddim", "dpmsolver++", "consistency"):
        image = samplers.sample(samplers.SAMPLERS[name], denoise, Cosine(), eps, times, keys)
        np.testing.assert_allclose(image, x0, atol=1e-4)
