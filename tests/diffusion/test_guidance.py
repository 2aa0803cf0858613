"""Classifier-free guidance: the formula, its limits, the interval and the rescale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion.guidance import classifier_free, project_difference
from dalle3_jax.diffusion.schedules import Cosine

CONDITIONAL, NULL, X = jnp.asarray(np.random.default_rng(0).normal(size=(3, 3, 4, 4, 2)), "float32")
T = jnp.asarray([0.1, 0.5, 0.9])


def both(x_t, t):
    return jnp.concatenate([CONDITIONAL, NULL])


def guided(*args, **kwargs):
    return classifier_free(both, *args, **kwargs)(X, T)


def test_one_call_sees_every_image_twice():
    calls = []

    def spy(x_t, t):
        calls.append((x_t, t))
        return x_t

    classifier_free(spy, 3.0)(X, T)
    [(x_t, t)] = calls
    np.testing.assert_array_equal(x_t, np.concatenate([X, X]))
    np.testing.assert_array_equal(t, np.concatenate([T, T]))


@pytest.mark.parametrize("scale", [0.5, 2, 7.5])
def test_guidance_goes_from_null_through_conditional(scale):
    np.testing.assert_allclose(guided(scale), NULL + scale * (CONDITIONAL - NULL), atol=1e-5)


def test_guidance_of_one_is_conditional():
    np.testing.assert_array_equal(guided(1.0), CONDITIONAL)
    np.testing.assert_array_equal(guided(1.0, Cosine(), rescale=1.0), CONDITIONAL)


def test_guidance_of_zero_is_null():
    np.testing.assert_allclose(guided(0.0), NULL, atol=1e-6)


def test_outside_the_interval_is_conditional():
    full = guided(3.0)
    for interval, inside in [((0.4, 0.6), [1]), ((0.5, 1.0), [1, 2]), ((0.0, 0.5), [0, 1]), ((0.6, 0.4), [])]:
        expected = CONDITIONAL.at[jnp.asarray(inside, int)].set(full[jnp.asarray(inside, int)])
        np.testing.assert_array_equal(guided(3.0, interval=interval), expected)


def test_every_image_may_have_its_own_scale():
    scale = jnp.asarray([1.0, 2.0, 5.0])
    expected = jnp.stack([guided(float(one))[row] for row, one in enumerate(scale)])
    np.testing.assert_allclose(guided(scale), expected, atol=1e-6)


def test_settings_may_be_traced():
    def run(scale, first, last, rescale):
        return guided(scale, Cosine(), (first, last), rescale)

    values = (3.0, 0.2, 0.7, 0.6)
    np.testing.assert_allclose(jax.jit(run)(*values), run(*values), atol=1e-5)


def v_of(x0):
    alpha, sigma = (f(T)[:, None, None, None] for f in (Cosine().alpha, Cosine().sigma))
    return (alpha * X - x0) / sigma


def deviation(x):
    return jnp.std(x, axis=(1, 2, 3), keepdims=True)


def test_full_rescale_gives_v_the_deviation_of_the_conditional():
    np.testing.assert_allclose(deviation(v_of(guided(5.0, Cosine(), rescale=1.0))), deviation(v_of(CONDITIONAL)), 1e-4)


@pytest.mark.parametrize("rescaled", ["eps", "x0"])
def test_a_rescale_of_another_output_gives_that_the_deviation_of_the_conditional(rescaled):
    def output(x0):
        alpha, sigma = (f(T)[:, None, None, None] for f in (Cosine().alpha, Cosine().sigma))
        return x0 if rescaled == "x0" else (X - alpha * x0) / sigma

    full = guided(5.0, Cosine(), rescale=1.0, rescaled=rescaled)
    np.testing.assert_allclose(deviation(output(full)), deviation(output(CONDITIONAL)), 1e-4)
    assert np.abs(full - guided(5.0, Cosine(), rescale=1.0)).max() > 1e-2
    np.testing.assert_array_equal(guided(5.0, Cosine(), rescaled=rescaled), guided(5.0, Cosine()))


def test_an_output_that_nothing_rescales_is_named():
    with pytest.raises(ValueError, match=r"'edm'.*one of v, eps, x0"):
        guided(5.0, Cosine(), rescaled="edm")


def test_full_rescale_without_a_schedule_gives_x0_the_deviation_of_the_conditional():
    np.testing.assert_allclose(deviation(guided(5.0, rescale=1.0)), deviation(CONDITIONAL), 1e-4)


def test_rescale_mixes_plain_and_rescaled():
    plain, full = guided(5.0, Cosine()), guided(5.0, Cosine(), rescale=1.0)
    np.testing.assert_allclose(guided(5.0, Cosine(), rescale=0.7), 0.7 * full + 0.3 * plain, atol=1e-5)


def test_rescale_of_flat_images_is_finite():
    flat = classifier_free(lambda x, t: jnp.zeros_like(x), 5.0, rescale=0.7)(X, T)
    np.testing.assert_array_equal(flat, jnp.zeros_like(X))


def test_projected_guidance_leaves_what_is_asked_of_the_part_along_the_image():
    difference = CONDITIONAL - NULL

    def along(values):
        return jnp.sum(values * CONDITIONAL, axis=(1, 2, 3))

    np.testing.assert_array_equal(project_difference(CONDITIONAL, NULL, 1.0, 0.0), difference)
    whole, half, none = (project_difference(CONDITIONAL, NULL, share, 0.0) for share in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(along(none), 0, atol=1e-4)
    np.testing.assert_allclose(along(half), along(difference) / 2, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(half, (whole + none) / 2, atol=1e-5)
    flat = jnp.zeros_like(CONDITIONAL)  # nothing to lie along
    np.testing.assert_array_equal(project_difference(flat, NULL, 0.0, 0.0), -NULL)


def test_projected_guidance_is_no_longer_than_its_norm():
    sizes = jnp.sqrt(jnp.sum(jnp.square(CONDITIONAL - NULL), axis=(1, 2, 3)))
    most = jnp.stack([sizes[0] / 2, sizes[1] * 2, jnp.zeros(())])
    cut = project_difference(CONDITIONAL, NULL, 1.0, most)
    np.testing.assert_allclose(jnp.sqrt(jnp.sum(cut**2, axis=(1, 2, 3))), sizes * jnp.array([0.5, 1, 1]), rtol=1e-5)
    guidance = classifier_free(both, 3.0, projection=(1.0, most))(X, T)
    np.testing.assert_allclose(guidance, CONDITIONAL + 2 * cut, atol=1e-5)
