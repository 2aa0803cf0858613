"""Loss weights against hand values, and against what min-SNR means."""

import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import prediction, weighting
from dalle3_jax.diffusion.schedules import Cosine


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("eps", [1, 1, 0.5]),
        ("v", [1 / 3, 2 / 3, 5 / 11]),
        ("x0", [0.5, 2, 5]),
        ("edm", [0.5 / 4.5, 2 / 6, 5 / 14]),
        ("x0_skip", [0.5 / 1.0002, 2 / 1.0008, 5 / 1.004]),
    ],
)
def test_min_snr_by_hand(kind, expected):
    np.testing.assert_allclose(
        weighting.loss_weight("min_snr", kind, jnp.log(jnp.asarray([0.5, 2.0, 10.0])), gamma=5.0), expected, rtol=1e-6
    )


@pytest.mark.parametrize("kind", ["eps", "v", "x0", "edm", "x0_skip"])
def test_uniform_is_1(kind):
    np.testing.assert_array_equal(weighting.loss_weight("uniform", kind, jnp.asarray([-3.0, 9.0])), [1, 1])


def test_min_snr_weighs_the_same_error_of_x0_alike_whatever_is_predicted():
    x0, eps, wrong = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 8, 8, 1)), "float32")
    t = jnp.asarray([0.1, 0.4, 0.6, 0.9])
    alpha, sigma = Cosine().alpha(t), Cosine().sigma(t)
    # The noise that goes with the wrong image at the same x_t.
    wrong_eps = eps + (alpha / sigma)[:, None, None, None] * (x0 - wrong)

    def loss(kind):
        error = prediction.prediction_target(kind, x0, eps, alpha, sigma) - prediction.prediction_target(
            kind, wrong, wrong_eps, alpha, sigma
        )
        return weighting.loss_weight("min_snr", kind, Cosine().logsnr(t)) * jnp.mean(error**2, axis=(1, 2, 3))

    np.testing.assert_allclose(loss("eps"), loss("x0"), rtol=1e-4)
    np.testing.assert_allclose(loss("v"), loss("x0"), rtol=1e-4)
    np.testing.assert_allclose(loss("edm"), loss("x0"), rtol=1e-4)
    np.testing.assert_allclose(loss("x0_skip"), loss("x0"), rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "expected"), [("eps", [1, 0]), ("v", [0, 0]), ("x0", [0, 5]), ("edm", [0, 0]), ("x0_skip", [0, 0])]
)
def test_min_snr_is_finite_for_pure_noise_and_pure_image(kind, expected):
    np.testing.assert_array_equal(weighting.loss_weight("min_snr", kind, jnp.asarray([-jnp.inf, jnp.inf])), expected)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'p2'"):
        weighting.loss_weight("p2", "v", jnp.zeros(1))
    with pytest.raises(ValueError, match="'epsilon'"):
        weighting.loss_weight("min_snr", "epsilon", jnp.zeros(1))
