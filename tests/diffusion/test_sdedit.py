"""SDEdit: what it keeps, what it replaces, and that one time for all and each image's own time agree."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dalle3_jax.diffusion import schedules
from dalle3_jax.diffusion.sdedit import sdedit

SCHEDULE = schedules.Cosine()
IMAGES, NOISE, OTHER = jax.random.normal(jax.random.key(0), (3, 4, 3, 2, 2))
TIMES = jnp.float32(0.6) * jnp.linspace(1.0, 0.0, 4)


@pytest.mark.parametrize("times", [TIMES, [jnp.full(4, t) for t in TIMES]], ids=["loop", "unrolled"])
def test_the_end_is_the_models_own_estimate(times):
    same = sdedit(lambda x, t: IMAGES, SCHEDULE, IMAGES, NOISE, times)
    np.testing.assert_allclose(same, IMAGES, atol=1e-5)
    np.testing.assert_allclose(sdedit(lambda x, t: OTHER, SCHEDULE, IMAGES, NOISE, times), OTHER, atol=1e-5)


def test_one_time_for_all_equals_each_images_own():
    def denoise(x, t):
        return jnp.tanh(x) * jnp.cos(t)[:, None, None, None]

    loop = sdedit(denoise, SCHEDULE, IMAGES, NOISE, TIMES)
    unrolled = sdedit(denoise, SCHEDULE, IMAGES, NOISE, [jnp.full(4, t) for t in TIMES])
    np.testing.assert_allclose(loop, unrolled, atol=1e-5)


def test_each_image_may_have_its_own_times():
    seen = []

    def denoise(x, t):
        seen.append(t)
        return IMAGES

    start = jnp.asarray([0.1, 0.2, 0.3, 0.4])
    sdedit(denoise, SCHEDULE, IMAGES, NOISE, [start, start / 2, 0 * start])
    np.testing.assert_array_equal(seen, [start, start / 2])
